"""Partial results of losses whose samples, or whose classes, are on several machines, and how they are merged.

Each machine computes a partial result of its share, partial results are merged in any grouping (:func:`merge`), and
:func:`finish` makes the answer that one machine would have computed from everything. All are named tuples of arrays,
so they can be pickled, sent, and reduced.

Shares of the samples (:func:`linear_partial`): the loss, its gradients and the total weight are sums over the samples,
so a merge adds them, and the mean divides once, at the end. Where the shares are batches that one machine reads one
after the other, :class:`BatchedLinearCrossEntropy` does all of it.

Shares of the classes (:func:`logsumexp_partial`, :func:`cross_entropy_partial`): with m the maximum of a share and r
the sum of ``exp(x - m)`` without the maximum itself, two shares with ``m1 >= m2`` merge into ``(m1, r1 + (1 + r2)
exp(m2 - m1))``, and the log-sum-exp is ``m + log1p(r)``. No share needs another one's logits, nothing overflows, and
what is small beside the maximum keeps its digits. A share without classes is ``(-inf, -1)``.

The merge is exact: it is the sum itself, in another order. It differs from one machine's result by rounding alone.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from .._array.namespace import Library, as_scalar, check_same_library, ignore_fp_warnings, library
from .._array.scalars import number
from .batches import BatchedLinearCrossEntropy
from .classes import (
    CrossEntropyPartial,
    LogSumExpPartial,
    cross_entropy_partial,
    cross_entropy_shard_grad,
    log_of,
    logsumexp_partial,
    loss_of,
    merge_classes,
)
from .samples import LinearPartial, linear_partial, mean_of, merge_samples

__all__ = [
    "BatchedLinearCrossEntropy",
    "CrossEntropyPartial",
    "LinearPartial",
    "LogSumExpPartial",
    "cross_entropy_partial",
    "cross_entropy_shard_grad",
    "finish",
    "linear_partial",
    "logsumexp_partial",
    "merge",
]

PartialT = TypeVar("PartialT", LinearPartial, LogSumExpPartial, CrossEntropyPartial)


def merge(*parts: PartialT) -> PartialT:
    """One partial result for the shares of several.

    Parameters
    ----------
    *parts : LinearPartial, LogSumExpPartial or CrossEntropyPartial
        All of one kind, of disjoint shares, on one device.

    Returns
    -------
    LinearPartial, LogSumExpPartial or CrossEntropyPartial
        Again of that kind; the grouping and the order change it by rounding alone.

    Raises
    ------
    TypeError
        If there are none, or of several kinds, or their arrays are of several libraries or devices.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> parts = [partial.logsumexp_partial(np.zeros(k)) for k in (1, 0, 2)]
    >>> print(partial.merge(*parts).sum)
    3.0
    """
    if not parts:
        raise TypeError("merge needs at least one partial result")
    first = parts[0]
    if not isinstance(first, (LinearPartial, LogSumExpPartial, CrossEntropyPartial)):
        raise TypeError(f"merge takes partial results, got {type(first).__name__}")
    lib = library(first[0], "a partial result")
    for other in parts[1:]:
        if type(other) is not type(first):
            raise TypeError(f"merge takes partial results of one kind, got {_name(first)} and {_name(other)}")
        check_same_library(lib, first[0], other[0], "a partial result", "another")
    with ignore_fp_warnings(lib):
        return functools.reduce(functools.partial(_merged, lib), parts)


def _name(a: Any) -> str:
    return type(a).__name__


def _merged(lib: Library, a: Any, b: Any) -> Any:
    return merge_samples(a, b) if isinstance(a, LinearPartial) else merge_classes(lib, a, b)


def finish(part: Any, *, W: Any = None, l2: float = 0.0) -> Any:
    """The value of a partial result that covers everything.

    Parameters
    ----------
    part : LinearPartial, LogSumExpPartial or CrossEntropyPartial
        What :func:`merge` made of all the shares.
    W : array, optional
        The coefficients of a ``LinearPartial``, for the penalty.
    l2 : float, default 0.0
        Adds ``l2 / 2 * sum(W**2)`` to the mean loss of a ``LinearPartial``.

    Returns
    -------
    (array, array or tuple of arrays), or array
        For a ``LinearPartial`` the mean loss and its gradient, 0 where the total weight is 0 (the sums are its own
        fields). For a ``LogSumExpPartial`` the log-sum-exp, for a ``CrossEntropyPartial`` each sample's loss, NaN where
        its label was in no share.

    Raises
    ------
    TypeError
        If ``part`` is no partial result, or ``W`` is of another library or device.
    ValueError
        If ``l2`` is out of its range, or comes without ``W`` or for another kind.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> partial.finish(partial.LogSumExpPartial(np.asarray([3.0]), np.asarray([0.0])))
    array([3.])
    """
    if not isinstance(part, (LinearPartial, LogSumExpPartial, CrossEntropyPartial)):
        raise TypeError(f"finish takes a partial result, got {type(part).__name__}")
    lib = library(part[0], "a partial result")
    l2 = number(l2, "l2", 0.0)
    if l2 and (W is None or not isinstance(part, LinearPartial)):
        raise ValueError("l2 is for a LinearPartial, and needs W")
    with ignore_fp_warnings(lib):
        if isinstance(part, LinearPartial):
            return mean_of(lib, part, W, l2)
        if isinstance(part, LogSumExpPartial):
            return as_scalar(lib, log_of(lib, lib.xp.asarray(part.max), part.sum_ex_max))
        return as_scalar(lib, loss_of(lib, part))
