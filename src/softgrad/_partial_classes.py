"""Shares of the classes: partial results of the log-sum-exp and of the cross-entropy."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ._kernels import hide, narrow, shift, widen
from ._kernels_loss import index_labels, iota
from ._labels import same_shape
from ._namespace import Library, floating, kind, library, mask, one_axis, same_place
from ._namespace import finish as as_scalar
from ._partial_samples import silence
from ._typing import Array, ArrayT


class LogSumExpPartial(NamedTuple):
    """What a share of the classes adds to a log-sum-exp.

    Attributes
    ----------
    max : array
        The maximum of each row, without the class axis; -inf for a share of no classes.
    rest : array
        The sum of ``exp(x - max)`` less the maximum's own 1; -1 for a share of no classes.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> print(partial.LogSumExpPartial(np.asarray(2.0), np.asarray(0.0)).sum)
    1.0
    """

    max: Array
    rest: Array

    @property
    def sum(self) -> Array:
        """The sum of ``exp(x - max)``: with ``max`` the usual pair (m, s), where digits do not matter."""
        return 1 + self.rest


class CrossEntropyPartial(NamedTuple):
    """What a share of the classes adds to the cross-entropy of each sample.

    Attributes
    ----------
    max, rest : array
        As in :class:`LogSumExpPartial`, over the classes that are not the sample's label.
    label_logit : array
        The logit at the label, -inf where it is in another share.
    found : array of bool
        Whether the label is in this share.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> partial.cross_entropy_partial(np.asarray([[1.0, 2.0]]), np.asarray([1])).label_logit
    array([2.])
    """

    max: Array
    rest: Array
    label_logit: Array
    found: Array


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
    shown = None if where is None else mask(lib, x, where)
    with silence(lib):
        return LogSumExpPartial(*(as_scalar(lib, a) for a in _pair(lib, x, axis, shown)))


def _pair(lib: Library, x: Array, axis: int, where: Array) -> tuple[Array, Array]:
    xp = lib.xp
    x, _ = widen(xp, x, None)
    if x.shape[axis] == 0:
        shape = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
        none = xp.zeros(shape, dtype=x.dtype, device=getattr(x, "device", None))
        return none - math.inf, none - 1
    # a row without a finite or infinite term has no maximum to shift by
    some = x != -math.inf
    x, _, rows = hide(xp, x, axis, some if where is None else xp.logical_and(some, where))
    row = shift(xp, x, axis, False)
    none = xp.zeros_like(row.m)
    largest, rest = xp.where(rows, row.m, none - math.inf), xp.where(rows, row.rest, none - 1)
    return xp.squeeze(largest, axis=axis), xp.squeeze(rest, axis=axis)


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
    lib, x, hot, axis = _share(logits, labels, offset, axis)
    xp = lib.xp
    shown = None if where is None else mask(lib, x, where)
    with silence(lib):
        wide, _ = widen(xp, x, None)
        apart = xp.logical_not(hot)
        largest, rest = _pair(lib, wide, axis, apart if shown is None else xp.logical_and(apart, shown))
        at_label = hot if shown is None else xp.logical_and(hot, shown)
        low = xp.zeros_like(wide) - math.inf
        found = xp.any(hot, axis=axis)
        if x.shape[axis] == 0:
            logit = xp.zeros_like(largest) - math.inf
        else:
            logit = xp.max(xp.where(at_label, wide, low), axis=axis)
    return CrossEntropyPartial(*(as_scalar(lib, a) for a in (largest, rest, logit, found)))


def _share(logits: Any, labels: Any, offset: int, axis: int) -> tuple[Library, Array, Array, int]:
    """(library, logits, where the label is the class, axis) of a share of the classes."""
    lib = library(logits, "logits")
    x = floating(lib, logits, "logits")
    if x.ndim == 0:
        raise ValueError("logits must have a class axis, got an array of no dimensions")
    axis = one_axis(axis, x.ndim)
    if isinstance(offset, bool) or not hasattr(offset, "__index__"):
        raise TypeError(f"offset must be an int, got {offset!r}")
    if offset < 0:
        raise ValueError(f"offset must be at least 0, got {offset}")
    same_place(lib, x, labels, "labels", "logits")
    if kind(lib.xp, labels.dtype) != "integer":
        raise TypeError(f"labels must be class indices and so integers, got dtype {labels.dtype}")
    shape = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
    if not same_shape(tuple(labels.shape), shape):
        raise ValueError(f"labels must have shape {shape}, one for each sample, got {tuple(labels.shape)}")
    index = lib.xp.expand_dims(index_labels(lib.xp, labels, x), axis=axis)
    return lib, x, iota(lib.xp, x, axis, index.dtype) + offset == index, axis


def cross_entropy_shard_grad(
    logits: ArrayT, labels: Any, merged: CrossEntropyPartial, *, offset: int = 0, axis: int = -1, where: Any = None
) -> ArrayT:
    """A share's part of the gradient of each sample's cross-entropy, from the merged partial results.

    Parameters
    ----------
    logits, labels, offset, axis, where
        As given to :func:`cross_entropy_partial` for this share.
    merged : CrossEntropyPartial
        What :func:`merge` made of all the shares.

    Returns
    -------
    array
        Of the logits' shape and dtype: probabilities, less 1 at the label, which is summed from the other classes.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`cross_entropy_partial`.

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
    lib, x, hot, axis = _share(logits, labels, offset, axis)
    xp = lib.xp
    if not isinstance(merged, CrossEntropyPartial):
        raise TypeError(f"merged must be a CrossEntropyPartial, got {type(merged).__name__}")
    largest, rest, logit, found = (xp.expand_dims(xp.asarray(a), axis=axis) for a in merged)
    shown = None if where is None else mask(lib, x, where)
    with silence(lib):
        wide, _ = widen(xp, x, None)
        top = xp.maximum(largest, logit)
        top = xp.where(xp.isinf(top), xp.zeros_like(top), top)
        others = (1 + rest) * xp.exp(largest - top)
        total = others + xp.exp(logit - top)
        grad = xp.where(hot, -others / total, xp.exp(wide - top) / total)
        if shown is not None:
            grad = xp.where(shown, grad, xp.zeros_like(grad))
        grad = xp.where(found, grad, xp.zeros_like(grad) + math.nan)
        return narrow(xp, grad, x.dtype)


def merge_classes(lib: Library, a: Any, b: Any) -> Any:
    """The pair of two disjoint shares, kept beside the larger maximum."""
    xp = lib.xp
    a_max, b_max = xp.asarray(a.max), xp.asarray(b.max)
    first = a_max >= b_max
    high, low = xp.maximum(a_max, b_max), xp.minimum(a_max, b_max)
    step = xp.where(low == -math.inf, low, low - high)
    rest = xp.where(first, a.rest, b.rest) + (1 + xp.where(first, b.rest, a.rest)) * xp.exp(step)
    if isinstance(a, LogSumExpPartial):
        return LogSumExpPartial(as_scalar(lib, high), as_scalar(lib, rest))
    logit = xp.maximum(xp.asarray(a.label_logit), xp.asarray(b.label_logit))
    found = xp.logical_or(xp.asarray(a.found), xp.asarray(b.found))
    return CrossEntropyPartial(*(as_scalar(lib, c) for c in (high, rest, logit, found)))


def log_of(lib: Library, largest: Array, rest: Array) -> Array:
    """The log-sum-exp of a pair."""
    xp = lib.xp
    return xp.where(xp.isinf(largest), largest, largest + xp.log1p(rest))


def loss_of(lib: Library, part: CrossEntropyPartial) -> Array:
    """log(1 + sum of exp(x_j - x_label)): from the label's side where it is the largest, else from the maximum's."""
    xp = lib.xp
    largest, logit = xp.asarray(part.max), xp.asarray(part.label_logit)
    above = logit >= largest
    step = xp.where(xp.isinf(largest), largest, largest - logit)
    at_label = xp.log1p((1 + part.rest) * xp.exp(step))
    elsewhere = (largest - logit) + xp.log1p(part.rest + xp.exp(logit - largest))
    loss = xp.where(above, at_label, elsewhere)
    return xp.where(part.found, loss, xp.zeros_like(loss) + math.nan)
