"""The functions of a row with ``precision="high"``: results that are rounded right, and so the same everywhere.

What is narrower than float64 is computed there and rounded. Libraries differ in the last bits of float64, and so in the
rounded result where a tie is between them: a row with such a number is computed again in twice the digits. So is the
log-sum-exp of float64 where the maximum and the logarithm cancel, or terms of both signs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

from .._array.typing import AnyArray, Array, ArrayIfAsked, DType, Namespace
from .._options import LossArgs
from . import dense, loss
from . import double_double as dd
from . import logsumexp as logsumexp_kernels
from .dense import has_float64, mask_logits, narrow
from .wide import CAN_BRANCH, Wide, WideNamespace

#: How much of itself a result in float64 may be off by before it is asked for in more digits.
ERROR = 2.0**-49
#: Numbers of rows that are computed again at a time.
PIECE = 1 << 14
#: Cancellation from which two parts are not enough.
FAR = 2.0**40
#: Cancellation in the log-sum-exp of ``z_loss`` from which a gradient may show it.
NEARLY_0 = 2.0**10
#: Units in the last place that a logarithm of float64 may lose by cancellation.
UNITS = 2.0


class Picked(NamedTuple):
    """Some of the samples of arrays, as rows."""

    xp: Namespace
    wide: WideNamespace
    axis: int
    shape: tuple[int, ...]
    chosen: Array

    def rows(self, a: Array) -> Array:
        """Of an array with a class axis, or one that broadcasts to it."""
        return self.xp.take(_as_rows(self.xp, self.xp.broadcast_to(a, self.shape), self.axis), self.chosen, axis=0)

    def samples(self, a: Array) -> Array:
        """Of an array without one."""
        return self.xp.take(self.xp.reshape(a, (-1,)), self.chosen, axis=0)

    def numbers(self, a: Array) -> AnyArray:
        """``rows`` of floating numbers."""
        return self.wide.of(narrow(self.xp, self.rows(a), self.xp.float64))

    def mask(self, where: Array | None) -> Array | None:
        """``rows`` of a mask, or None."""
        return None if where is None else self.rows(where)


def _order(ndim: int, axis: int) -> tuple[int, ...]:
    return (*(i for i in range(ndim) if i != axis), axis)


def _as_rows(xp: Namespace, a: Array, axis: int) -> Array:
    return xp.reshape(xp.permute_dims(a, _order(a.ndim, axis)), (-1, a.shape[axis]))


def _from_rows(xp: Namespace, rows: Array, shape: tuple[int, ...], axis: int) -> Array:
    order = _order(len(shape), axis)
    back = tuple(order.index(i) for i in range(len(shape)))
    return xp.permute_dims(xp.reshape(rows, tuple(shape[i] for i in order)), back)


def is_open(xp: Namespace, x: Array) -> bool:
    """Whether rows of ``x`` can be looked at, and computed again in float64."""
    can_branch = CAN_BRANCH.get(xp.__name__)
    return can_branch is not None and can_branch(x) and has_float64(xp, x)


def narrowed(xp: Namespace, r: Array, dtype: DType) -> Array:
    """``r`` in ``dtype``, rounded once: libraries go from float64 to half precision by way of float32."""
    if r.dtype == xp.float64 and xp.finfo(dtype).bits < 32 and is_open(xp, r):
        return dd.rounded(xp, (r,), dtype)
    return narrow(xp, r, dtype)


def round_results(
    xp: Namespace,
    results: tuple[Array, ...],
    dtype: DType,
    shape: tuple[int, ...],
    axis: int,
    again: Callable[[Picked], tuple[AnyArray, ...]],
    unsure: Array,
    count: int = 2,
) -> tuple[Array, ...]:
    """``results``, in float64 and with the class axis kept, rounded to ``dtype``; where ``unsure``, from ``again``."""
    many: AnyArray = xp.sum(xp.astype(unsure, xp.int64))
    number = int(many)
    rounded = tuple(narrowed(xp, r, dtype) for r in results)
    if not number:
        return rounded
    order = xp.argsort(xp.astype(_as_rows(xp, unsure, axis)[:, 0], xp.int32), descending=True, stable=True)
    step = max(1, PIECE // shape[axis])
    wide = WideNamespace(xp, count)
    pieces = [
        [dd.rounded(xp, each.parts, dtype) for each in again(Picked(xp, wide, axis, shape, order[i : i + step]))]
        for i in (range(0, number - step, step) if number > step else ())
    ]
    last = order[len(pieces) * step : number]
    pieces.append([dd.rounded(xp, each.parts, dtype) for each in again(Picked(xp, wide, axis, shape, last))])
    inverse = xp.argsort(order, stable=True)
    out = []
    for r, *fixed in zip(rounded, *pieces, strict=True):
        kept = xp.take(_as_rows(xp, r, axis), order[number:], axis=0)
        rows = xp.concat([*(xp.reshape(f, (-1, r.shape[axis])) for f in fixed), kept], axis=0)
        out.append(_from_rows(xp, xp.take(rows, inverse, axis=0), tuple(r.shape), axis))
    return tuple(out)


def _near_ties(xp: Namespace, r: Array, dtype: DType, axis: int) -> Array:
    return xp.any(dd.is_near_a_tie(xp, r, dtype, xp.abs(r) * ERROR), axis=axis, keepdims=True)


def _each(
    function: Callable[..., Array], xp: Namespace, x: Array, axis: int, where: Array | None, precision: str | None
) -> Array:
    if precision != "high" or x.dtype == xp.float64 or not is_open(xp, x):
        return function(xp, x, axis, where, precision)
    r = function(xp, xp.astype(x, xp.float64), axis, where, None)

    def again(some: Picked) -> tuple[AnyArray, ...]:
        return (function(some.wide, some.numbers(x), 1, some.mask(where), None),)

    return round_results(xp, (r,), x.dtype, tuple(x.shape), axis, again, _near_ties(xp, r, x.dtype, axis))[0]


def softmax(xp: Namespace, x: Array, axis: int, where: Array | None = None, precision: str | None = None) -> Array:
    """``exp(x) / sum(exp(x))``."""
    return _each(dense.softmax, xp, x, axis, where, precision)


def log_softmax(xp: Namespace, x: Array, axis: int, where: Array | None = None, precision: str | None = None) -> Array:
    """``x - logsumexp(x)``."""
    return _each(dense.log_softmax, xp, x, axis, where, precision)


def _cancels(xp: Namespace, r: Array, m: Array, dtype: DType, condition: Array) -> tuple[Array, int]:
    """Where a logarithm, ``m`` and that of a sum with a condition number, lost digits; how many parts it needs."""
    fine = xp.isfinite(m)
    size, apart = xp.abs(r), xp.abs(xp.where(fine, r - m, m))
    off = xp.maximum(apart, condition)
    if dtype == r.dtype:
        unsure = off > UNITS * size
    else:
        unsure = dd.is_near_a_tie(xp, r, dtype, (size + xp.abs(m) + off) * ERROR)
    # of a sum that cancels whole nothing is known, not even that it is 0
    unsure = xp.logical_and(xp.logical_or(unsure, condition > FAR), fine)
    digits = xp.where(unsure, off / xp.where(size > 0, size, xp.ones_like(size)), xp.zeros_like(size))
    far = xp.logical_and(unsure, xp.logical_or(size == 0, xp.logical_not(digits < FAR)))
    return unsure, 3 if bool(xp.any(far)) else 2


def logsumexp(xp: Namespace, x: Array, axis: int, where: Array | None = None, precision: str | None = None) -> Array:
    """``log(sum(exp(x)))``, without ``axis``."""
    if precision != "high" or not is_open(xp, x):
        return dense.logsumexp(xp, x, axis, where, precision)
    y = narrow(xp, x, xp.float64)
    r = xp.expand_dims(dense.logsumexp(xp, y, axis, where, "high" if x.dtype == y.dtype else None), axis=axis)
    m = xp.max(mask_logits(xp, y, axis, where)[0], axis=axis, keepdims=True)

    def again(some: Picked) -> tuple[AnyArray, ...]:
        return (dense.logsumexp(some.wide, some.numbers(x), 1, some.mask(where), None),)

    unsure, count = _cancels(xp, r, m, x.dtype, xp.zeros_like(m))
    unsure = xp.logical_and(unsure, m < 0)
    out = round_results(xp, (r,), x.dtype, tuple(x.shape), axis, again, unsure, count)
    return xp.squeeze(out[0], axis=axis)


def signed_logsumexp(
    xp: Namespace, x: Array, b: Array, axis: int, where: Array | None = None, precision: str | None = None
) -> tuple[Array, Array]:
    """log|sum(b exp(x))| and the sum's sign, both without ``axis``."""
    if precision != "high" or not is_open(xp, x):
        return logsumexp_kernels.signed_logsumexp(xp, x, b, axis, where, precision)
    y, b = narrow(xp, x, xp.float64), narrow(xp, xp.broadcast_to(b, x.shape), xp.float64)
    own = "high" if x.dtype == y.dtype else None
    value, sign = (xp.expand_dims(a, axis=axis) for a in logsumexp_kernels.signed_logsumexp(xp, y, b, axis, where, own))
    counts = b != 0 if where is None else xp.logical_and(where, b != 0)
    seen = xp.where(counts, y, xp.zeros_like(y) - math.inf)
    m = xp.max(seen, axis=axis, keepdims=True)
    sizes = xp.where(counts, seen + xp.log(xp.abs(xp.where(counts, b, xp.ones_like(b)))), seen)
    size = xp.expand_dims(dense.logsumexp(xp, sizes, axis), axis=axis)
    fine = xp.logical_and(xp.isfinite(size), xp.isfinite(m))
    gap = xp.where(fine, size - value, xp.zeros_like(m))
    # the sum of the magnitudes over that of the sum
    condition = xp.exp(xp.where(gap < 700, gap, xp.zeros_like(gap) + 700))

    def again(some: Picked) -> tuple[AnyArray, ...]:
        parts = logsumexp_kernels.signed_logsumexp(
            some.wide, some.numbers(x), some.numbers(b), 1, some.mask(where), None
        )
        return tuple(parts)

    unsure, count = _cancels(xp, value, xp.where(fine, m, xp.zeros_like(m) - math.inf), x.dtype, condition)
    out = round_results(xp, (value, sign), x.dtype, tuple(x.shape), axis, again, unsure, count)
    value, sign = (xp.squeeze(a, axis=axis) for a in out)
    return value, sign


def _some_args(some: Picked, args: LossArgs) -> LossArgs:
    """The arguments of some of the samples, in more digits."""

    def of_class(a: Array | None) -> Wide | None:
        return None if a is None else some.wide.of(narrow(some.xp, a, some.xp.float64))

    weight = args.sample_weight
    return args._replace(
        axis=1,
        labels=some.numbers(args.labels) if args.dense else some.samples(args.labels),
        sample_weight=None if weight is None else of_class(some.samples(weight)),
        class_weight=of_class(args.class_weight),
        logit_shift=of_class(args.logit_shift),
        where=some.mask(args.where),
        reduction="none",
        precision=None,
    )


def _both(xp: Namespace, x: Array, args: LossArgs, value: bool, grad: bool) -> tuple[ArrayIfAsked, ArrayIfAsked]:
    """(losses, gradient), the class axis kept, each None where it is not asked for."""
    if not grad:
        return xp.expand_dims(loss.cross_entropy(xp, x, args), axis=args.axis), None
    if not value:
        return None, loss.cross_entropy_grad(xp, x, args)
    losses, g = loss.cross_entropy_value_and_grad(xp, x, args)
    return xp.expand_dims(losses, axis=args.axis), g


def loss_rows(
    xp: Namespace, x: Array, args: LossArgs, value: bool, grad: bool, divisor: Array | None = None
) -> tuple[ArrayIfAsked, ArrayIfAsked]:
    """(losses, gradient over ``divisor``), the class axis kept, each None where it is not asked for.

    Losses that are to be added are left in float64.
    """
    y, axis = xp.astype(x, xp.float64), args.axis
    losses, g = _both(xp, y, args._replace(precision=None, reduction="none"), value, grad)
    if grad and divisor is not None:
        g = loss.divided(xp, g, divisor)
    each = value and args.reduction == "none"
    results = (*([losses] if each else []), *([g] if grad else []))
    if not results:
        return losses, None

    def again(some: Picked) -> tuple[AnyArray, ...]:
        wide = some.wide
        v, g = _both(wide, some.numbers(x), _some_args(some, args), each, grad)
        if grad and divisor is not None:
            g = loss.divided(wide, g, wide.of(divisor))
        return (*([v] if each else []), *([g] if grad else []))

    unsure = [_near_ties(xp, r, x.dtype, axis) for r in results]
    if args.z_loss:
        rows = loss.prepare(xp, y, args._replace(precision=None), False)
        finite = xp.isfinite(rows.log_sum)
        unsure.append(xp.logical_and(finite, xp.abs(rows.log_sum) * NEARLY_0 < xp.abs(rows.row.m)))
    some = reduce(xp.logical_or, unsure)
    results = round_results(xp, results, x.dtype, tuple(x.shape), axis, again, some)
    return results[0] if each else losses, results[-1] if grad else None


def _loss(xp: Namespace, x: Array, args: LossArgs, value: bool, grad: bool) -> tuple[ArrayIfAsked, ArrayIfAsked]:
    mean = args.reduction == "mean"
    divisor = loss.total_weight(xp, xp.astype(x, xp.float64), args._replace(precision=None)) if mean else None
    losses, g = loss_rows(xp, x, args, value, grad, divisor)
    if value:
        losses = narrow(xp, loss.reduced(xp, losses, args, divisor), x.dtype)
    return losses, g


def _is_narrow(xp: Namespace, x: Array, args: LossArgs) -> bool:
    return args.precision == "high" and x.dtype != xp.float64 and is_open(xp, x)


def cross_entropy(xp: Namespace, logits: Array, args: LossArgs) -> Array:
    """The loss, reduced."""
    return (
        _loss(xp, logits, args, True, False)[0]
        if _is_narrow(xp, logits, args)
        else loss.cross_entropy(xp, logits, args)
    )


def cross_entropy_grad(xp: Namespace, logits: Array, args: LossArgs) -> Array:
    """``d loss / d logits``."""
    if not _is_narrow(xp, logits, args):
        return loss.cross_entropy_grad(xp, logits, args)
    return _loss(xp, logits, args, False, True)[1]


def cross_entropy_value_and_grad(xp: Namespace, logits: Array, args: LossArgs) -> tuple[Array, Array]:
    """Loss and gradient."""
    if not _is_narrow(xp, logits, args):
        return loss.cross_entropy_value_and_grad(xp, logits, args)
    return _loss(xp, logits, args, True, True)
