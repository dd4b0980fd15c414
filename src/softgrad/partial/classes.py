"""Shares of the classes: partial results of the log-sum-exp and of the cross-entropy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from .._array.labels import same_shape
from .._array.namespace import (
    Library,
    as_scalar,
    check_same_library,
    floating,
    ignore_fp_warnings,
    kind,
    library,
    mask,
    native,
    one_axis,
)
from .._array.scalars import integer
from .._array.typing import AnyArray, Array, ArrayT
from .._docstrings import passes_on_to
from .._kernels.dense import device_of, iota, nan_unless, nan_where, narrow, total, widen
from .._kernels.shards import gap
from .._kernels.targets import index_labels


class LogSumExpPartial(NamedTuple):
    """What a share of the classes adds to a log-sum-exp.

    Attributes
    ----------
    max : array
        The maximum of each row, without the class axis; -inf for a share of no classes.
    sum_ex_max : array
        The sum of ``exp(x - max)`` less the maximum's own 1; -1 for a share of no classes.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> print(partial.LogSumExpPartial(np.asarray(2.0), np.asarray(0.0)).sum)
    1.0
    """

    max: AnyArray
    sum_ex_max: AnyArray

    @property
    def sum(self) -> AnyArray:
        """The sum of ``exp(x - max)``: with ``max`` the usual pair (m, s), where digits do not matter."""
        return 1 + self.sum_ex_max


class CrossEntropyPartial(NamedTuple):
    """What a share of the classes adds to the cross-entropy of each sample.

    Attributes
    ----------
    max, sum_ex_max : array
        As in :class:`LogSumExpPartial`, over the classes that are not the sample's label.
    label_logit : array
        The logit at the label, -inf where it is in another share.
    found : array of bool
        Whether the label is in this share.
    visible : array of bool
        Whether ``where`` keeps any class of the sample in this share.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> partial.cross_entropy_partial(np.asarray([[1.0, 2.0]]), np.asarray([1])).label_logit
    array([2.])
    """

    max: AnyArray
    sum_ex_max: AnyArray
    label_logit: AnyArray
    found: AnyArray
    visible: AnyArray


def logsumexp_partial(x: Any, /, *, axis: int = -1, where: Any = None) -> LogSumExpPartial:
    """What a share of the classes adds to :func:`softgrad.logsumexp`.

    Parameters
    ----------
    x : array
        Real numbers: the share's classes along ``axis``, possibly none.
    axis : int, default -1
        The axis that counts the classes.
    where : bool array, optional
        True keeps; broadcasts to ``x``.

    Returns
    -------
    LogSumExpPartial
        Arrays of x's library and device, in x's dtype; in float32 where that is narrower.

    Raises
    ------
    TypeError
        If ``x`` is not an array of real numbers, or ``where`` not one of booleans beside it.
    ValueError, IndexError
        If there is no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> x = np.asarray([1000.0, 1001.0, 999.0])
    >>> parts = [partial.logsumexp_partial(x[:2]), partial.logsumexp_partial(x[2:])]
    >>> print(partial.finish(partial.merge(*parts)).round(6))
    1001.407606
    """
    lib = library(x, "x")
    x = floating(lib, x, "x")
    if x.ndim == 0:
        raise ValueError("x must have a class axis, got an array of no dimensions")
    axis = one_axis(axis, x.ndim)
    visible = None if where is None else mask(lib, x, where)
    with ignore_fp_warnings(lib):
        return LogSumExpPartial(*(as_scalar(lib, a) for a in _pair(lib, x, axis, visible)))


def _pair(lib: Library, x: Array, axis: int, where: Array | None) -> tuple[Array, Array]:
    xp = lib.xp
    x, _ = widen(xp, x, None)
    if x.shape[axis] == 0:
        shape = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
        none = xp.zeros(shape, dtype=x.dtype, device=device_of(x))
        return none - math.inf, none - 1
    zero = xp.zeros_like(x)
    if where is not None:
        x = xp.where(where, x, zero - math.inf)
    m = xp.max(x, axis=axis, keepdims=True)
    endless = xp.isinf(m)
    d = xp.where(endless, xp.where(x == m, zero, zero - math.inf), x - xp.where(endless, xp.zeros_like(m), m))
    top = x == m
    ties = total(xp, xp.astype(top, x.dtype), axis)
    sum_ex_max = total(xp, xp.where(top, zero, xp.exp(d)), axis) + (ties - 1)
    sum_ex_max = xp.where(m == -math.inf, xp.zeros_like(sum_ex_max) - 1, sum_ex_max)
    return xp.squeeze(m, axis=axis), xp.squeeze(sum_ex_max, axis=axis)


def cross_entropy_partial(
    logits: ArrayT, labels: Any, *, offset: int = 0, axis: int = -1, where: Any = None
) -> CrossEntropyPartial:
    """What a share of the classes adds to :func:`softgrad.cross_entropy` with ``reduction="none"``.

    Parameters
    ----------
    logits : array
        Real numbers: the share's classes along ``axis``.
    labels : array
        Class indices, counted over all shares: integers of the logits' shape without ``axis``.
    offset : int, default 0
        Number of classes in the shares before this one.
    axis : int, default -1
        The axis that counts the classes.
    where : bool array, optional
        True keeps a class; broadcasts to the share's logits.

    Returns
    -------
    CrossEntropyPartial
        Arrays of the logits' library and device, in their dtype; in float32 where that is narrower.

    Raises
    ------
    TypeError, ValueError, IndexError
        If an array is of the wrong dtype, shape or library, or an option is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> logits, labels = np.asarray([[20.0, 0.0, 0.0]]), np.asarray([0])
    >>> parts = [
    ...     partial.cross_entropy_partial(logits[:, :2], labels),
    ...     partial.cross_entropy_partial(logits[:, 2:], labels, offset=2),
    ... ]
    >>> partial.finish(partial.merge(*parts))
    array([4.12230724e-09])
    """
    lib, x, onehot, axis = _share(logits, labels, offset, axis)
    xp = lib.xp
    visible = None if where is None else mask(lib, x, where)
    with ignore_fp_warnings(lib):
        wide, _ = widen(xp, x, None)
        apart, at_label = xp.logical_not(onehot), onehot
        if visible is not None:
            apart, at_label = xp.logical_and(apart, visible), xp.logical_and(onehot, visible)
        largest, sum_ex_max = _pair(lib, wide, axis, apart)
        found = xp.any(onehot, axis=axis)
        seen = xp.any(xp.logical_or(apart, at_label), axis=axis)
        if x.shape[axis] == 0:
            logit = xp.zeros_like(largest) - math.inf
        else:
            logit = xp.max(xp.where(at_label, wide, xp.zeros_like(wide) - math.inf), axis=axis)
    return CrossEntropyPartial(*(as_scalar(lib, a) for a in (largest, sum_ex_max, logit, found, seen)))


def _share(logits: Any, labels: Any, offset: int, axis: int) -> tuple[Library, Array, Array, int]:
    """(library, logits, where the label is the class, axis) of a share of the classes."""
    lib = library(logits, "logits")
    x = floating(lib, logits, "logits")
    if x.ndim == 0:
        raise ValueError("logits must have a class axis, got an array of no dimensions")
    axis = one_axis(axis, x.ndim)
    offset = integer(offset, "offset")
    if offset < 0:
        raise ValueError(f"offset must be at least 0, got {offset}")
    check_same_library(lib, x, labels, "labels", "logits")
    if kind(lib.xp, labels.dtype) != "integer":
        raise TypeError(f"labels must be class indices and so integers, got dtype {labels.dtype}")
    shape = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
    if not same_shape(tuple(labels.shape), shape):
        raise ValueError(f"labels must have shape {shape}, one for each sample, got {tuple(labels.shape)}")
    index = lib.xp.expand_dims(index_labels(lib.xp, native(lib, labels), x), axis=axis)
    return lib, x, iota(lib.xp, x, axis, index.dtype) + offset == index, axis


@passes_on_to(cross_entropy_partial, raises=cross_entropy_partial)
def cross_entropy_shard_grad(
    logits: ArrayT, labels: Any, merged: CrossEntropyPartial, *, offset: int = 0, axis: int = -1, where: Any = None
) -> ArrayT:
    """A share's part of the gradient of each sample's cross-entropy, from the merged partial results.

    Parameters
    ----------
    merged : CrossEntropyPartial
        What :func:`merge` made of all the shares.

    Returns
    -------
    array
        Of the logits' shape and dtype: probabilities, less 1 at the label, which is summed from the other classes.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> logits, labels = np.zeros((1, 4)), np.asarray([3])
    >>> left, right = (logits[:, :2], 0), (logits[:, 2:], 2)
    >>> merged = partial.merge(
    ...     *(partial.cross_entropy_partial(x, labels, offset=first) for x, first in (left, right))
    ... )
    >>> partial.cross_entropy_shard_grad(right[0], labels, merged, offset=2)
    array([[ 0.25, -0.75]])
    """
    lib, x, onehot, axis = _share(logits, labels, offset, axis)
    xp = lib.xp
    if not isinstance(merged, CrossEntropyPartial):
        raise TypeError(f"merged must be a CrossEntropyPartial, got {type(merged).__name__}")
    largest, sum_ex_max, logit, found, seen = (xp.expand_dims(xp.asarray(a), axis=axis) for a in merged)
    visible = None if where is None else mask(lib, x, where)
    with ignore_fp_warnings(lib):
        wide, _ = widen(xp, x, None)
        top, low = xp.maximum(largest, logit), xp.minimum(largest, logit)
        step = xp.exp(gap(xp, low, top))
        first = logit >= largest
        others = (1 + sum_ex_max) * xp.where(first, step, xp.ones_like(step))
        whole = others + xp.where(first, xp.ones_like(step), step)
        # a logit above all merged ones belongs to another problem: its probability would be nonsense anyway
        grad = xp.where(onehot, -others / whole, xp.exp(gap(xp, xp.minimum(wide, top), top)) / whole)
        nothing = xp.zeros_like(grad)
        if visible is not None:
            grad = xp.where(visible, grad, nothing)
        known = xp.logical_and(found, xp.isfinite(top))
        grad = xp.where(known, grad, nan_unless(xp, known, top))
        out: AnyArray = narrow(xp, xp.where(seen, grad, nothing), x.dtype)
        return out


def merge_classes(lib: Library, a: Any, b: Any) -> Any:
    """The pair of two disjoint shares, kept beside the larger maximum."""
    xp = lib.xp
    a_max, b_max = xp.asarray(a.max), xp.asarray(b.max)
    first = a_max >= b_max
    high, low = xp.maximum(a_max, b_max), xp.minimum(a_max, b_max)
    at_high, at_low = xp.where(first, a.sum_ex_max, b.sum_ex_max), xp.where(first, b.sum_ex_max, a.sum_ex_max)
    sum_ex_max = at_high + (1 + at_low) * xp.exp(gap(xp, low, high))
    if isinstance(a, LogSumExpPartial):
        return LogSumExpPartial(as_scalar(lib, high), as_scalar(lib, sum_ex_max))
    logit = xp.maximum(xp.asarray(a.label_logit), xp.asarray(b.label_logit))
    found, visible = (
        xp.logical_or(xp.asarray(c), xp.asarray(d)) for c, d in ((a.found, b.found), (a.visible, b.visible))
    )
    return CrossEntropyPartial(*(as_scalar(lib, c) for c in (high, sum_ex_max, logit, found, visible)))


def log_of(lib: Library, largest: Array, sum_ex_max: Array) -> Array:
    """The log-sum-exp of a pair."""
    xp = lib.xp
    endless = xp.isinf(largest)
    return xp.where(endless, largest, largest + xp.log1p(xp.where(endless, xp.zeros_like(sum_ex_max), sum_ex_max)))


def loss_of(lib: Library, part: CrossEntropyPartial) -> Array:
    """``log(1 + sum(exp(x_j - x_label)))``, computed from the maximum where the label is not the largest."""
    xp = lib.xp
    largest, logit = xp.asarray(part.max), xp.asarray(part.label_logit)
    high = xp.maximum(largest, logit)
    above = gap(xp, xp.minimum(largest, logit), high)
    step = xp.exp(above)
    first = logit >= largest
    at_label = xp.log1p((1 + part.sum_ex_max) * xp.where(first, step, xp.ones_like(step)))
    elsewhere = xp.log1p(xp.where(first, xp.zeros_like(step), part.sum_ex_max + step)) - above
    loss = xp.where(first, at_label, elsewhere)
    nothing = xp.zeros_like(loss)
    loss = nan_where(xp, xp.logical_not(xp.logical_and(part.found, xp.logical_not(xp.isinf(high)))), loss)
    return xp.where(part.visible, loss, nothing)
