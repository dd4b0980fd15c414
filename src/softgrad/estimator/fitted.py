"""A fitted estimator as the other functions see it: its parameters, its data checked, its copy in another library."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import numpy as np

from .._array.namespace import is_array, library, named
from .._array.transfer import to_host
from .._array.typing import AnyArray, Array, Device
from .._kernels.dense import device_of


def is_model(W: Any) -> bool:
    """Whether ``W`` is a fitted SoftmaxRegression and no array; another estimator is an error."""
    if is_array(W) or not hasattr(W, "predict"):
        return False
    # by name: without scikit-learn there is no estimator to import
    kinds = [(kind.__module__.rpartition(".")[0], kind.__name__) for kind in type(W).__mro__]
    if (__package__, "SoftmaxRegression") not in kinds:
        raise TypeError(
            f"W must be an array or a fitted SoftmaxRegression, got {type(W).__name__}: pass its coefficients, one row "
            f"for each class, and its intercepts"
        )
    importlib.import_module("sklearn.utils.validation").check_is_fitted(W)
    return True


def parameters_of(W: Any, bias: Any, sample_axis: int) -> tuple[Array, Array | None]:
    """(W, bias) as arrays, where ``W`` may be a fitted SoftmaxRegression that has both."""
    if not is_model(W):
        return W, bias
    if bias is not None:
        raise TypeError("bias must be None where W is a fitted model: its intercept_ is taken")
    coef = library(W.coef_, "coef_").xp.matrix_transpose(W.coef_) if sample_axis == 1 else W.coef_
    return coef, W.intercept_ if W.fit_intercept else None


def moved(model: Any, target: Any, device: Device) -> Any:
    """A copy of a fitted model with its arrays in another library."""
    if isinstance(target, str):
        lib = named(target)
    else:
        lib = library(target, "target")
        device = device_of(target) if device is None else device
    out = copy.copy(model)
    for name in ("classes_", "coef_", "intercept_"):
        given = getattr(model, name)
        host = to_host(library(given, name), given)[0]
        if lib.name == "numpy" or host.dtype.kind not in "biuf":
            moved: AnyArray = np.array(host)  # strings stay NumPy arrays
        else:
            moved = lib.xp.asarray(np.array(host), **({} if device is None else {"device": device}))
        setattr(out, name, moved)
    return out
