"""What an estimator is given, checked: samples, labels as indices of classes, weights. Nothing leaves its device."""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np
from sklearn import get_config
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from .._array.errors import MixedArraysError
from .._array.namespace import (
    Library,
    check_same_library,
    default_float,
    floating,
    ignore_fp_warnings,
    is_array,
    kind,
    library,
    native,
)
from .._array.transfer import computed_once, is_abstract, is_lazy, sorted_classes, to_host
from .._array.typing import AnyArray, NDArray
from .._kernels.dense import device_of
from .._kernels.linear import block_rows
from ..backends.sparse import chunks as sparse_chunks
from ..linear.log_probs import linear_log_probs


class Data(NamedTuple):
    """Checked samples with their labels."""

    #: The library of X, or None for a scipy.sparse matrix.
    lib: Library | None
    X: AnyArray
    #: An index into ``classes`` for each sample, in X's library.
    labels: AnyArray
    #: Sorted, in the library of y.
    classes: AnyArray
    #: One for each sample, in X's dtype, or None.
    sample_weight: AnyArray | None


def on_device(X: Any) -> bool:
    """Whether ``X`` is an array of a library other than NumPy, which scikit-learn's own checks would copy."""
    return is_array(X) and library(X, "X").name != "numpy"


def in_native_order(a: Any) -> Any:
    """``a`` in native byte order: scikit-learn takes float32 in another byte order for float64."""
    return native(library(a, "a"), a) if isinstance(a, np.ndarray) else a


def checked(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Data:
    """The arguments of ``fit``, checked; sets ``n_features_in_`` and ``feature_names_in_``."""
    if not on_device(X):
        y, sample_weight = _on_host(y, "y"), _on_host(sample_weight, "sample_weight")
        X, y = validate_data(estimator, in_native_order(X), y, accept_sparse="csr", dtype=[np.float64, np.float32])
        check_classification_targets(y)
        classes, labels = np.unique(in_native_order(y), return_inverse=True)
        weight = None if sample_weight is None else _host_weight(sample_weight, X)
        return Data(library(X, "X") if isinstance(X, np.ndarray) else None, X, labels, classes, weight)
    if y is None:
        raise ValueError(f"{type(estimator).__name__}.fit requires y to be passed, but the target y is None")
    lib, X = checked_samples(estimator, X, reset=True)
    classes, labels = _encoded(lib, X, on_device_of(lib, X, y, "y"))
    weight = None if sample_weight is None else _device_weight(lib, X, sample_weight)
    labels, weight = computed_once(lib, X, labels, weight)
    return Data(lib, X, labels, classes, weight)


def _on_host(a: Any, name: str) -> Any:
    """``a`` for a NumPy X: scikit-learn's dispatch lets it follow X to the host, else it has to be there."""
    if not on_device(a):
        return a
    lib = library(a, name)
    if not get_config()["array_api_dispatch"]:
        raise MixedArraysError(f"{name} is an array of {lib.name}, X is on the host: convert one of them")
    return to_host(lib, a)[0]


def checked_samples(estimator: Any, X: Any, *, reset: bool) -> tuple[Library, AnyArray]:
    """(library, X in a dtype to fit in) of an array on a device."""
    lib = library(X, "X")
    xp = lib.xp
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions (n_samples, n_features), got shape {tuple(X.shape)}")
    for size, name in zip(X.shape, ("sample(s)", "feature(s)"), strict=True):
        if reset and (size is None or math.isnan(size)):
            raise ValueError(
                f"X has an unknown number of {name} (shape {tuple(X.shape)}), and fit needs known sizes; with a Dask "
                f"array call X.compute_chunk_sizes() first"
            )
        if size == 0:
            raise ValueError(f"Found array with 0 {name} (shape={tuple(X.shape)}) while a minimum of 1 is required")
    X = floating(lib, X, "X")
    if xp.finfo(X.dtype).bits < 32:
        X = xp.astype(X, xp.float32)
    # predictions of a lazy array stay lazy, and those of a traced one may be compiled
    if reset or not (is_lazy(lib) or is_abstract(lib, X)):
        _finite(lib, X, "X")
    return lib, X


def on_device_of(lib: Library, X: AnyArray, a: Any, name: str) -> Any:
    """``a`` where ``X`` is: an error where it is elsewhere, unless scikit-learn's dispatch lets all follow X.

    Strings then stay on the host, as a NumPy array.
    """
    if not get_config()["array_api_dispatch"]:
        if not is_array(a):
            raise TypeError(f"{name} must be an array of {lib.name}, as X is, got {type(a).__name__}")
        check_same_library(lib, X, a, name, "X")
        return a
    if is_array(a) and library(a, name).xp is lib.xp and not (lib.has_device and a.device != X.device):
        return a
    host = to_host(library(a, name), a)[0] if is_array(a) else np.asarray(a)
    return host if host.dtype.kind in "OUST" else lib.xp.asarray(host, device=device_of(X))


def _finite(lib: Library, a: AnyArray, name: str) -> None:
    xp = lib.xp
    if sparse_chunks.are_sparse(a):
        if not to_host(lib, sparse_chunks.is_finite(a))[0]:
            raise ValueError(f"{name} contains NaN or infinity")
        return
    # a sum needs no memory; it may overflow on its own, so only the mask is believed
    with ignore_fp_warnings():
        sum_is_finite = math.isfinite(float(to_host(lib, xp.sum(a, dtype=a.dtype))[0]))
    if sum_is_finite:
        return
    bad = xp.reshape(xp.logical_not(xp.isfinite(a)), (-1,))
    found, first = to_host(lib, xp.any(bad))[0], to_host(lib, xp.argmax(xp.astype(bad, xp.int32)))[0]
    if found:
        place = ", ".join(map(str, np.unravel_index(int(first), tuple(a.shape))))
        raise ValueError(f"{name} contains NaN or infinity (first at [{place}])")


def _encoded(lib: Library, X: AnyArray, y: Any) -> tuple[AnyArray, AnyArray]:
    """(classes, labels) of ``y``, an array of X's library."""
    xp = lib.xp
    if tuple(y.shape) != (X.shape[0],):
        raise ValueError(f"y must have shape ({X.shape[0]},), one label for each sample of X, got {tuple(y.shape)}")
    if isinstance(y, np.ndarray):
        names, codes = np.unique(in_native_order(y), return_inverse=True)
        return names, xp.asarray(codes, device=device_of(X))
    y = native(lib, y)
    what = kind(xp, y.dtype)
    if what == "bool":
        classes, labels = _encoded(lib, X, xp.astype(y, xp.uint8))
        return xp.astype(classes, xp.bool), labels
    if what == "real":
        _finite(lib, y, "y")
        if not bool(to_host(lib, xp.all(xp.floor(y) == y))[0]):
            raise ValueError("Unknown label type: y holds numbers that are not whole (continuous), not classes")
    elif what != "integer":
        raise TypeError(f"y must hold integers, got dtype {y.dtype}")
    classes = sorted_classes(lib, y)
    return classes, xp.searchsorted(classes, y)


def _host_weight(weight: Any, X: Any) -> AnyArray:
    n, dtype = X.shape[0], X.dtype
    if isinstance(weight, numbers.Real):
        weight = np.full(n, weight, dtype=dtype)
    weight = np.asarray(weight, dtype=dtype)
    if weight.shape != (n,):
        raise ValueError(f"sample_weight must be a number or have shape ({n},), got {weight.shape}")
    if not np.all(np.isfinite(weight)):
        raise ValueError("sample_weight contains NaN or infinity")
    _counts(float(weight.min()), float(weight.max()))
    return weight


def _device_weight(lib: Library, X: AnyArray, weight: Any) -> AnyArray:
    xp = lib.xp
    if isinstance(weight, numbers.Real):
        weight = xp.full((X.shape[0],), float(weight), dtype=X.dtype, device=device_of(X))
    weight = on_device_of(lib, X, weight, "sample_weight")
    if kind(xp, weight.dtype) not in ("real", "integer", "bool"):
        raise TypeError(f"sample_weight must hold real numbers or booleans, got dtype {weight.dtype}")
    if tuple(weight.shape) != (X.shape[0],):
        raise ValueError(f"sample_weight must be a number or have shape ({X.shape[0]},), got {tuple(weight.shape)}")
    weight = weight if weight.dtype == X.dtype else xp.astype(weight, X.dtype)
    _finite(lib, weight, "sample_weight")
    low, high = to_host(lib, xp.min(weight), xp.max(weight))
    _counts(float(low), float(high))
    return weight


def _counts(low: float, high: float) -> None:
    if low < 0:
        raise ValueError(f"sample_weight must not be negative, got {low:g}")
    if high == 0:
        raise ValueError("Sample weights must contain at least one non-zero number.")


def weight_by_class(data: Data, count: int) -> NDArray:
    """The sum of the sample weights of each class, on the host in float64."""
    lib, labels, weight = data.lib, data.labels, data.sample_weight
    if isinstance(labels, np.ndarray):
        return np.bincount(labels, weight, minlength=count).astype(np.float64)
    assert lib is not None
    xp = lib.xp
    device = device_of(data.X)
    classes = xp.arange(count, dtype=labels.dtype, device=device)
    dtype = default_float(xp, data.X)
    n = data.X.shape[0]
    rows = block_rows(n, count, xp.finfo(dtype).bits // 8, None)
    sums: Any = None
    for start in range(0, n, rows):
        hot = xp.astype(xp.expand_dims(labels[start : start + rows], axis=1) == classes, dtype)
        if weight is not None:
            hot = hot * xp.expand_dims(xp.astype(weight[start : start + rows], dtype), axis=1)
        part = xp.sum(hot, axis=0, dtype=dtype)
        sums = part if sums is None else sums + part
    return np.asarray(to_host(lib, sums)[0], dtype=np.float64)


def class_weights(given: Any, data: Data, count: int) -> NDArray | None:
    """One weight a class, from a dict by label or "balanced"."""
    if given is None:
        return None
    if isinstance(given, str):
        sums = weight_by_class(data, count)
        # a class whose samples all weigh nothing has nothing to balance
        return np.where(sums > 0, sums.sum() / (count * np.where(sums > 0, sums, 1.0)), 0.0)
    names = names_of(data.classes)
    unknown = [label for label in given if label not in names]
    # a fold of a cross-validation may lack a class that has a weight; a label spelt wrong leaves one without
    if unknown and any(name not in given for name in names):
        raise ValueError(f"class_weight names {unknown[0]!r}, which is none of the classes {names}")
    weights = np.asarray([given.get(name, 1.0) for name in names], dtype=np.float64)
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0)):
        raise ValueError(f"class_weight must hold numbers of at least 0, got {given!r}")
    return weights


def total_weight(data: Data, by_class: NDArray | None, count: int) -> float:
    """The sum of sample weight times class weight."""
    if by_class is not None:
        return float(by_class @ weight_by_class(data, count))
    if data.sample_weight is None:
        return float(data.X.shape[0])
    if data.lib is None:
        return float(np.sum(data.sample_weight, dtype=np.float64))
    return float(to_host(data.lib, data.lib.xp.sum(data.sample_weight))[0])


def misses_none(data: Data, coef: AnyArray, intercept: AnyArray) -> bool:
    """Whether the model predicts every sample that has a weight right."""
    best = linear_log_probs(data.X, data.labels, coef, intercept, top_k=1).top_labels[:, 0]
    lib = library(best, "labels")
    right = best == data.labels
    if data.sample_weight is not None:
        right = lib.xp.logical_or(right, data.sample_weight == 0)
    return bool(to_host(lib, lib.xp.all(right))[0])


def spacing(data: Data) -> float:
    """Relative spacing of the numbers that the loss is computed in."""
    return float(np.finfo(data.X.dtype).eps if data.lib is None else data.lib.xp.finfo(data.X.dtype).eps)


def put(lib: Library | None, X: AnyArray, a: NDArray) -> AnyArray:
    """Parameters beside the data."""
    if lib is None or isinstance(X, np.ndarray):
        return np.asarray(a, dtype=X.dtype)
    return lib.xp.asarray(a, dtype=X.dtype, device=device_of(X))


def on_host(*arrays: AnyArray) -> list[NDArray]:
    """Parameters on the host."""
    if isinstance(arrays[-1], np.ndarray):
        return [np.asarray(a) for a in arrays]
    return to_host(library(arrays[-1], "parameters"), *arrays)


def names_of(classes: AnyArray) -> list[Any]:
    """The classes as Python objects, for messages and look-ups."""
    return [c for a in on_host(classes) for c in a.tolist()]


def device_label(a: AnyArray) -> str:
    """The device of an array as messages say it."""
    device = device_of(a)
    return "" if device is None or isinstance(a, np.ndarray) else f" on {device}"
