"""Check and convert logits and what accompanies them: labels, weights and scalar options."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from .._kernels.dense import device_of, held_dtype
from .._kernels.targets import index_labels, is_ignored
from .._options import BY_CLASS, LossArgs, LossOptions
from .errors import LabelError
from .namespace import Library, base_array, check_same_library, fits, floating, kind, library, native, one_axis, small
from .precision import resolve_precision
from .transfer import is_abstract
from .typing import AnyArray, Array


def logits_and_axis(logits: Any, axis: Any) -> tuple[Library, Array, int]:
    """(library, logits, class axis counted from the front)."""
    lib = library(logits, "logits")
    x = floating(lib, logits, "logits")
    if x.ndim == 0:
        raise ValueError("logits must have a class axis, got an array of no dimensions")
    at = one_axis(axis, x.ndim)
    if x.shape[at] == 0:
        raise ValueError(f"logits of shape {tuple(x.shape)} have no classes along axis {axis}")
    return lib, x, at


def sample_labels(lib: Library, x: Array, labels: Any, ndim: int, x_name: str) -> tuple[Array, bool]:
    """(labels in a dtype for the kernels, whether they are weights by class), for logits of ``ndim`` dimensions."""
    xp = lib.xp
    if isinstance(labels, (int, np.integer)) and not isinstance(labels, bool):
        labels = xp.asarray(int(labels), device=device_of(x))
    check_same_library(lib, x, labels, "labels", x_name)
    labels = native(lib, labels)
    what = kind(xp, labels.dtype)
    if labels.ndim == ndim - 1:
        if what != "integer":
            raise TypeError(
                f"labels with one dimension less than the logits are class indices and must be integers, got dtype "
                f"{labels.dtype}"
            )
        return labels, False
    if labels.ndim == ndim:
        if what not in ("real", "integer"):
            raise TypeError(
                f"labels with as many dimensions as the logits are weights by class and must be real numbers, got "
                f"dtype {labels.dtype}"
            )
        # of the logits' own width they are widened block by block
        held = labels.dtype == x.dtype
        return (labels if held else xp.astype(labels, held_dtype(xp, x.dtype), copy=False)), True
    raise ValueError(
        f"labels of shape {tuple(labels.shape)} fit neither class indices nor weights by class for {x_name} of shape "
        f"{tuple(x.shape)}"
    )


def same_shape(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two shapes agree in every dimension that is known."""
    return a == b or (len(a) == len(b) and all(m == n or m != m or n != n for m, n in zip(a, b, strict=True)))


def sample_weights(lib: Library, x: Array, weight: Any, shape: tuple[Any, ...]) -> Array:
    """``sample_weight`` broadcast to the samples' shape, in ``x``'s dtype, float32 at least."""
    xp = lib.xp
    dtype = held_dtype(xp, x.dtype)
    if isinstance(weight, (numbers.Real, np.bool_)):
        weight = small(lib, x, float(weight), "sample_weight", dtype)
    check_same_library(lib, x, weight, "sample_weight", "the first argument")
    if kind(xp, weight.dtype) not in ("real", "integer", "bool"):
        raise TypeError(f"sample_weight must hold real numbers or booleans, got dtype {weight.dtype}")
    if not fits(tuple(weight.shape), shape):
        raise ValueError(f"sample_weight of shape {tuple(weight.shape)} does not broadcast to the samples' {shape}")
    weight = base_array(lib, weight)
    weight = weight if weight.dtype == dtype else xp.astype(weight, dtype)
    return weight if tuple(weight.shape) == shape else xp.broadcast_to(weight, shape)


def weights_of_visible(lib: Library, x: Array, args: LossArgs) -> LossArgs:
    """``args`` with weight 0 for samples whose classes ``where`` all hides; like ignored samples, they do not count."""
    where, xp = args.where, lib.xp
    if where is None:
        return args
    ndim = args.labels.ndim + (not args.dense)
    axis = args.axis - (ndim - where.ndim)
    visible = where if axis < 0 else xp.any(where, axis=axis)
    weight = args.sample_weight
    if weight is None:
        samples = args.labels[(slice(None),) * args.axis + (0, ...)] if args.dense else args.labels
        weight = xp.ones_like(samples, dtype=held_dtype(xp, x.dtype))
    return args._replace(sample_weight=xp.where(visible, weight, xp.zeros_like(weight)))


def class_vector(lib: Library, x: Array, value: Any, name: str, classes: int) -> Array:
    """An option with one value per class, in ``x``'s dtype, float32 at least."""
    value = small(lib, x, value, name, held_dtype(lib.xp, x.dtype))
    if not same_shape(tuple(value.shape), (classes,)):
        raise ValueError(
            f"{name} must have one number for each of the {classes} classes, got shape {tuple(value.shape)}"
        )
    return value


def loss_args(
    lib: Library,
    x: Array,
    options: LossOptions,
    classes: int,
    axis: int,
    labels: Array,
    dense: bool,
    sample_weight: Array | None,
    where: Array | None,
) -> LossArgs:
    """What a kernel is given of a loss with ``options`` on logits like ``x`` of so many classes."""
    values = options._values
    for place, name in BY_CLASS:
        value = values[place]
        if value is not None:
            values = (*values[:place], class_vector(lib, x, value, name, classes), *values[place + 1 :])
    precision = resolve_precision(options.precision)
    args = LossArgs._make((axis, labels, dense, sample_weight, where, *values))
    if precision is not options.precision:
        args = args._replace(precision=precision)
    return args


def check_labels(lib: Library, labels: Array, classes: int, ignore_index: int | None) -> None:
    """Raise if a class index is out of range; this synchronizes with the device."""
    if is_abstract(lib, labels):
        raise TypeError(
            "validate reads the labels, which have no values in a trace or on the meta device: leave it out there"
        )
    xp = lib.xp
    index_of = index_labels(xp, labels, labels)
    bad = xp.logical_or(index_of < 0, index_of >= classes)
    if ignore_index is not None:
        bad = xp.logical_and(bad, xp.logical_not(is_ignored(xp, labels, index_of, ignore_index)))
    flat = xp.reshape(bad, (-1,))
    if flat.shape[0] == 0 or not bool(xp.any(flat)):
        return
    first: AnyArray = xp.argmax(xp.astype(flat, xp.int32))
    index = int(first)
    wrong: AnyArray = xp.reshape(index_of, (-1,))[index]
    label = int(wrong)
    if label < 0 and xp.isdtype(labels.dtype, "unsigned integer"):
        label += 1 << xp.iinfo(index_of.dtype).bits
    place = []
    for size in reversed(labels.shape):
        index, remainder = divmod(index, size)
        place.append(remainder)
    raise LabelError(f"labels[{', '.join(map(str, reversed(place)))}] is {label}: there are {classes} classes")
