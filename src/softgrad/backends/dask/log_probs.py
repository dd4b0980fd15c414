"""Log-probabilities of labels, the entropy, and their derivatives, on Dask arrays: one task a chunk."""

from __future__ import annotations

from typing import Any

import dask.array as da

from ..._array.typing import Array, Namespace
from ..._kernels.log_probs import PLAIN
from ..._kernels.scaling import Scaling
from .chunks import meta_of, on_chunk, rowwise, whole_rows


def _labelled(x: Array, *arrays: Array, function: str, axis: int, precision: str | None, scaling: Scaling) -> Any:
    *given, where = arrays
    return on_chunk(function, x, *given, axis, where, precision, scaling)


def _of_labels(
    function: str, x: Array, given: tuple[Array, ...], axis: int, where: Array, precision: str | None, scaling: Scaling
) -> Array:
    """A kernel of logits and arrays of the labels' shape, whose class axis has a letter of its own."""
    letters = tuple(range(x.ndim))
    of_labels = (*letters[:axis], x.ndim, *letters[axis + 1 :])
    pairs: list[Any] = [whole_rows(x, axis), letters]
    for a in given:
        pairs += [whole_rows(a, axis), of_labels]
    if where is None:
        pairs += [None, None]
    else:
        at = axis - x.ndim + where.ndim
        pairs += [whole_rows(where, at) if at >= 0 else where, letters[x.ndim - where.ndim :]]
    out = of_labels if function == "log_probs" else letters
    return da.blockwise(
        _labelled,
        out,
        *pairs,
        dtype=x.dtype,
        meta=meta_of(x, x.ndim, x.dtype),
        concatenate=True,
        function=function,
        axis=axis,
        precision=precision,
        scaling=scaling,
    )


def log_probs(
    xp: Namespace,
    x: Array,
    labels: Array,
    axis: int,
    where: Array = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Array:
    """log(softmax(x)) at the labels."""
    return _of_labels("log_probs", x, (labels,), axis, where, precision, scaling)


def log_probs_vjp(
    xp: Namespace,
    x: Array,
    labels: Array,
    cotangent: Array,
    axis: int,
    where: Array = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Array:
    """``sum(c * (onehot - p))`` over a sample's labels."""
    return _of_labels("log_probs_vjp", x, (labels, cotangent), axis, where, precision, scaling)


def _entropy(x: Array, where: Array, *, axis: int, precision: str | None, scaling: Scaling) -> Any:
    return on_chunk("entropy", x, axis, where, precision, scaling)


def entropy(
    xp: Namespace, x: Array, axis: int, where: Array = None, precision: str | None = None, scaling: Scaling = PLAIN
) -> Array:
    """-sum(p log(p)), without ``axis``."""
    options = {"axis": axis, "precision": precision, "scaling": scaling}
    return rowwise(_entropy, axis, [(x, True), (where, True)], x.dtype, keeps_axis=False, options=options)


def _entropy_vjp(x: Array, c: Array, where: Array, *, axis: int, precision: str | None, scaling: Scaling) -> Any:
    return on_chunk("entropy_vjp", x, c, axis, where, precision, scaling)


def entropy_vjp(
    xp: Namespace,
    x: Array,
    cotangent: Array,
    axis: int,
    where: Array = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Array:
    """``c * p * (mean(d) - d)``."""
    options = {"axis": axis, "precision": precision, "scaling": scaling}
    arrays = [(x, True), (cotangent, False), (where, True)]
    return rowwise(_entropy_vjp, axis, arrays, x.dtype, keeps_axis=True, options=options)
