"""What the labels of a loss say of each class: integers that count it, the target weights."""

from __future__ import annotations

from .._array.typing import Array, ArrayIfAsked, DType, Namespace
from .._options import LossArgs
from .dense import along, device_of, iota, narrow, total


def index_dtype(xp: Namespace, x: Array) -> DType:
    """The integers that the library counts with where ``x`` is."""
    return xp.__array_namespace_info__().default_dtypes(device=device_of(x))["integral"]


def index_labels(xp: Namespace, labels: Array, x: Array) -> Array:
    """Labels in the integer dtype that counts classes without overflow."""
    return narrow(xp, labels, index_dtype(xp, x))


def ignored_index(xp: Namespace, labels: Array, index: Array, ignore_index: int | None) -> int | None:
    """``ignore_index``, of any size, as a value of ``index`` (``labels`` cast); None where that has no such value."""
    if ignore_index is None:
        return None
    unsigned = xp.isdtype(labels.dtype, "unsigned integer")
    limits = xp.iinfo(index.dtype)
    if unsigned and limits.max < ignore_index < 1 << limits.bits and xp.iinfo(labels.dtype).bits == limits.bits:
        # the cast wrapped the label; wrap this one too
        return ignore_index - (1 << limits.bits)
    if (unsigned and ignore_index < 0) or not limits.min <= ignore_index <= limits.max:
        return None
    return ignore_index


def is_ignored(xp: Namespace, labels: Array, index: Array, ignore_index: int) -> Array:
    """Where ``labels`` (``index`` as ``index_labels`` gives them) are ``ignore_index``."""
    known = ignored_index(xp, labels, index, ignore_index)
    return xp.zeros_like(index, dtype=xp.bool) if known is None else index == known


def target(
    xp: Namespace, x: Array, args: LossArgs, visible: Array | None
) -> tuple[ArrayIfAsked, ArrayIfAsked, ArrayIfAsked, Array | None, Array | None]:
    """(hot, v, T, w, valid) of a loss: see ``loss.Rows``. ``x`` tells shape, dtype and device."""
    axis = args.axis
    onehot = valid = w = None
    weight = None if args.class_weight is None else along(xp, narrow(xp, args.class_weight, x.dtype), x, axis)
    if args.dense:
        q = narrow(xp, args.labels, x.dtype)
        w = total(xp, q if weight is None else q * weight, axis)
    else:
        labels = xp.expand_dims(index_labels(xp, args.labels, x), axis=axis)
        onehot = iota(xp, x, axis, labels.dtype) == labels
        valid = xp.logical_and(labels >= 0, labels < x.shape[axis])
        if weight is not None:
            w = total(xp, xp.where(onehot, weight, xp.zeros_like(weight)), axis)
            # counted, so that a mean over such labels alone is not one over nothing
            w = xp.where(valid, w, xp.ones_like(w))
        if not (args.label_smoothing or args.focal):
            return onehot, None, w, w, valid
        q = xp.astype(onehot, x.dtype)
    if args.label_smoothing:
        eps = args.label_smoothing
        if visible is None:
            uniform: Array | float = eps / x.shape[axis]
        else:
            count = xp.sum(xp.astype(visible, x.dtype), axis=axis, keepdims=True, dtype=x.dtype)
            share = eps / xp.where(count == 0, xp.ones_like(count), count)
            uniform = xp.where(visible, share, xp.zeros_like(share))
        size = total(xp, q, axis) if args.dense else 1.0
        q = (1 - eps) * q + size * uniform
    v = q if weight is None else q * weight
    return onehot, v, total(xp, v, axis), w, valid
