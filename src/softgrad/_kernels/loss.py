"""The mathematics of the cross-entropy on logits: pure array API functions, nothing checked, nothing converted.

With x the scaled logits, e = exp(x - max), s = sum(e) and the target weights v (T = sum(v)), the loss of a sample is
T log(s) - sum(v d), its gradient (e (T - v) - v o) / s with o = s - e summed without e: neither subtracts two numbers
that are close. Derivatives by the unscaled logits follow by the chain rule, from ``slope`` and ``bend``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .._array.typing import Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from . import focal
from .dense import (
    Shifted,
    held_dtype,
    log_normalizer,
    mask_logits,
    nan_unless,
    narrow,
    total,
    widen,
    without_each,
)
from .scaling import Scaling, bend, scaled_shift, scaling_of, slope
from .targets import index_labels, is_ignored, target


class Rows(NamedTuple):
    """The logits of a loss, prepared: what every derivative needs."""

    row: Shifted
    #: Sum of the exponentials, the class axis kept.
    s: Array
    #: Where a class can be seen, or None; where a row shows anything, or None.
    visible: Array | None
    rows: Array | None
    #: Where the label is the class (class indices only).
    onehot: ArrayIfAsked
    #: Target weights by class, and their sum by row; None and the class weight (or None) for plain indices.
    v: ArrayIfAsked
    T: ArrayIfAsked
    #: Weight of a sample in the mean, before its sample weight; None for 1.
    w: Array | None
    #: Where the label is a class, or None.
    valid: Array | None
    #: Of class indices without smoothing: the sum of the exponentials without the label's, for value and gradient.
    sum_ex_label: ArrayIfAsked = None
    #: log(sum(exp(x))), where ``z_loss`` asks for it.
    log_sum: ArrayIfAsked = None
    #: How the logits were scaled.
    scaling: Scaling = Scaling()


def prepare(xp: Namespace, x: Array, args: LossArgs, compensated: bool) -> Rows:
    """Everything of a loss but its sample weights and its reduction."""
    x, visible, rows = mask_logits(xp, x, args.axis, args.where)
    scaling = scaling_of(xp, x, args)
    row = scaled_shift(xp, x, args.axis, compensated, scaling, args.where)
    log_sum = log_normalizer(xp, row, args.axis) if args.z_loss else None
    return Rows(row, 1 + row.sum_ex_max, visible, rows, *target(xp, x, args, visible), None, log_sum, scaling)


def without_label(xp: Namespace, r: Rows, axis: int, compensated: bool) -> Rows:
    """``r`` with what the value and the gradient of class indices are made of."""
    if r.v is not None:
        return r
    return r._replace(sum_ex_label=total(xp, xp.where(r.onehot, xp.zeros_like(r.s), r.row.e), axis, compensated))


def pick(xp: Namespace, r: Rows, a: Array, axis: int) -> Array:
    """``a`` at the label, the class axis kept."""
    return xp.sum(xp.where(r.onehot, a, xp.zeros_like(r.s)), axis=axis, keepdims=True, dtype=a.dtype)


def costs(xp: Namespace, r: Rows) -> Array:
    """``-log p`` of every class."""
    return (xp.log1p(r.row.sum_ex_max) if r.row.lo is None else xp.log1p(r.row.sum_ex_max) - r.row.lo) - r.row.d


def losses(xp: Namespace, r: Rows, args: LossArgs, compensated: bool) -> Array:
    """One loss a sample, before sample weights; the class axis kept."""
    row, axis = r.row, args.axis
    zero = xp.zeros_like(r.s)
    if r.v is None:
        lo = None if row.lo is None else pick(xp, r, row.lo, axis)
        loss = index_loss(xp, r.sum_ex_label, pick(xp, r, row.e, axis), pick(xp, r, row.d, axis), lo, r.w)
    else:
        cost = costs(xp, r)
        # 0 * inf is nothing lost, while a weight of 0 keeps its derivative wherever the cost is finite
        cost = xp.where(xp.logical_and(r.v == 0, xp.isinf(cost)), zero, cost)
        if args.focal:
            cost = cost * focal.power(xp, others(xp, r) / r.s, args.focal)
        loss = total(xp, r.v * cost, axis, compensated)
    if args.z_loss:
        loss = loss + _weighted(args.z_loss * r.log_sum**2, r)
    return mask_samples(xp, r, loss)


def index_loss(xp: Namespace, sum_ex_label: Array, e: Array, d: Array, lo: Array | None, w: Array | None) -> Array:
    """The loss of a label from the others' exponentials, its own ``e`` and its logarithm ``d``."""
    # with the label at the maximum its exponential less one is 0, and the others are all that is left
    loss = xp.log1p(sum_ex_label + (e - 1))
    loss = (loss if lo is None else loss - lo) - d
    # a class of weight 0 costs nothing, though its logit be -inf
    return loss if w is None else xp.where(xp.logical_and(w == 0, xp.isinf(loss)), xp.zeros_like(loss), loss) * w


def _weighted(a: Array, r: Rows) -> Array:
    return a if r.w is None else a * r.w


def mask_samples(xp: Namespace, r: Any, a: Array) -> Array:
    """``a`` with 0 in rows without a visible class, and NaN where the label is no class; ``r`` has these masks."""
    if r.rows is not None:
        a = xp.where(r.rows, a, xp.zeros_like(r.s))
    if r.valid is not None:
        a = xp.where(r.valid, a, nan_unless(xp, r.valid, r.s))
    return a


def others(xp: Namespace, r: Rows) -> Array:
    """The sum of a row's exponentials without each one, with no cancellation at the maximum."""
    return without_each(xp, r.row, r.s)


def with_focal(xp: Namespace, r: Rows, args: LossArgs, function: Callable[..., Array] = focal.first) -> Rows:
    """``r`` with the target weights times a derivative of the focal factor, where there is one."""
    if not args.focal:
        return r
    v = r.v * function(xp, r.row.e / r.s, others(xp, r) / r.s, costs(xp, r), args.focal)
    return r._replace(v=v, T=total(xp, v, args.axis))


def _scaled_gradient(xp: Namespace, r: Rows, args: LossArgs) -> Array:
    """``d loss / d (scaled logits)``; rows that do not count may hold anything."""
    row = r.row
    if r.v is None:
        g = xp.where(r.onehot, -r.sum_ex_label, row.e) / r.s
        if r.T is not None:
            g = g * r.T
    else:
        r = with_focal(xp, r, args)
        g = (row.e * (r.T - r.v) - r.v * others(xp, r)) / r.s
    if args.z_loss:
        g = g + _weighted(2 * args.z_loss * r.log_sum, r) * (row.e / r.s)
    return g


def gradient(xp: Namespace, r: Rows, args: LossArgs) -> Array:
    """``d loss / d logits`` by row, before sample weights."""
    g = _scaled_gradient(xp, r, args)
    if not r.scaling.identity:
        g = g * slope(xp, r.row.x, r.scaling)
    return zero_hidden(xp, r, mask_samples(xp, r, g))


def zero_hidden(xp: Namespace, r: Rows, a: Array) -> Array:
    """``a`` with 0 at the classes that are hidden; the last step of a result, so that no NaN comes back through it."""
    return a if r.visible is None else xp.where(r.visible, a, xp.zeros_like(r.s))


def _chained(xp: Namespace, r: Rows, args: LossArgs, h: Array, u: Array | float) -> Array:
    """A second derivative with the gradient's change by ``d2(scaled logits) / d(logits)2``."""
    second = bend(xp, r.row.x, r.scaling)
    return h if second is None else h + _scaled_gradient(xp, r, args) * (second * u)


def curvature(xp: Namespace, r: Rows, args: LossArgs, u: Array) -> Array:
    """Second derivative of each sample's loss times ``u``, before sample weights.

    ``u`` is centred on its value at the maximum, where p (u - sum(p u)) would cancel.
    """
    row, axis = r.row, args.axis
    zero = xp.zeros_like(r.s)
    p = row.e / r.s
    unscaled = u = zero_hidden(xp, r, u)
    if not r.scaling.identity:
        u = u * slope(xp, row.x, r.scaling)
    count = xp.sum(xp.astype(row.top, u.dtype), axis=axis, keepdims=True, dtype=u.dtype)
    centre = xp.sum(xp.where(row.top, u, zero), axis=axis, keepdims=True, dtype=u.dtype) / count
    centred = u - centre
    mean = total(xp, p * centred, axis)
    softmax_hvp = p * (centred - mean)
    h = softmax_hvp if r.T is None else softmax_hvp * with_focal(xp, r, args).T
    if args.focal:
        change = with_focal(xp, r, args, focal.second).v * (centred - mean)
        h = h + change * (others(xp, r) / r.s) - p * (total(xp, change, axis) - change)
    if args.z_loss:
        h = h + _weighted(2 * args.z_loss * (r.log_sum * softmax_hvp + p * (mean + centre)), r)
    if not r.scaling.identity:
        h = _chained(xp, r, args, h * slope(xp, row.x, r.scaling), unscaled)
    return zero_hidden(xp, r, mask_samples(xp, r, h))


def diagonal(xp: Namespace, r: Rows, args: LossArgs) -> Array:
    """Diagonal of each sample's second derivative, before sample weights."""
    p, q = r.row.e / r.s, others(xp, r) / r.s
    softmax_diag = p * q
    h = softmax_diag if r.T is None else softmax_diag * with_focal(xp, r, args).T
    if args.focal:
        change = with_focal(xp, r, args, focal.second)
        h = h + change.v * q**2 + p**2 * (change.T - change.v)
    if args.z_loss:
        h = h + _weighted(2 * args.z_loss * (r.log_sum * softmax_diag + p * p), r)
    if not r.scaling.identity:
        h = _chained(xp, r, args, h * slope(xp, r.row.x, r.scaling) ** 2, 1.0)
    return zero_hidden(xp, r, mask_samples(xp, r, h))


def keep(xp: Namespace, args: LossArgs, x: Array) -> tuple[Array | None, Array | None]:
    """(which samples count, their weights), the class axis kept; None where all do, with weight 1."""
    kept = weight = None
    if args.ignore_index is not None and not args.dense:
        index = index_labels(xp, args.labels, x)
        kept = xp.logical_not(is_ignored(xp, args.labels, index, args.ignore_index))
    if args.sample_weight is not None:
        weight = narrow(xp, args.sample_weight, x.dtype)
        counts = weight != 0
        kept = counts if kept is None else xp.logical_and(kept, counts)
        weight = xp.expand_dims(xp.where(kept, weight, xp.zeros_like(weight)), axis=args.axis)
    return None if kept is None else xp.expand_dims(kept, axis=args.axis), weight


def scaled(xp: Namespace, a: Array, kept: Array | None, weight: Array | None) -> Array:
    """``a`` times its samples' weights, exactly 0 for a sample that does not count."""
    # in this order: a NaN that does not count must not reach the derivative with respect to the weights
    if kept is not None:
        a = xp.where(kept, a, xp.zeros_like(a))
    return a if weight is None else a * weight


def sum_all(xp: Namespace, a: Array) -> Array:
    """The sum of all elements, 0-d."""
    if all(isinstance(n, int) for n in a.shape):
        return xp.squeeze(total(xp, xp.reshape(a, (-1,)), 0), axis=0)
    return xp.sum(a, dtype=a.dtype)


def weight_sum(xp: Namespace, x: Array, args: LossArgs, w: Array | None) -> Array:
    """The sum of the sample weights times class weights over the samples that count, 0-d."""
    kept, weight = keep(xp, args, x)
    ones = xp.ones_like(cut_class(xp, x, args.axis)) if w is None else w
    return sum_all(xp, scaled(xp, ones, kept, weight))


def cut_class(xp: Namespace, x: Array, axis: int) -> Array:
    """The first class of ``x``, the class axis kept."""
    return x[(*(slice(None),) * axis, slice(0, 1), ...)]


def divided(xp: Namespace, a: Array, by: Array) -> Array:
    """``a / by``; 0 where every sample was ignored."""
    none = by == 0
    return xp.where(none, xp.zeros_like(a), a / xp.where(none, xp.ones_like(by), by))


def reduced(xp: Namespace, each: Array, args: LossArgs, divisor: Array | None) -> Array:
    """The losses of all samples, the class axis kept, as the reduction has them."""
    if args.reduction == "none":
        return xp.squeeze(each, axis=args.axis)
    value = sum_all(xp, each)
    return value if divisor is None else divided(xp, value, divisor)


def _run(xp: Namespace, logits: Array, args: LossArgs, *wanted: str, vector: ArrayIfAsked = None) -> tuple[Array, ...]:
    """What is wanted of "value", "gradient", "curvature" (times ``vector``) and "diagonal", from one exponential."""
    x, compensated = widen(xp, logits, args.precision)
    kept, weight = keep(xp, args, x)
    if kept is not None:
        # a NaN left in an ignored sample would come back as 0 * NaN in its derivative
        x = xp.where(kept, x, xp.zeros_like(x))
    r = prepare(xp, x, args, compensated)
    if args.softcap is not None or "value" in wanted or "gradient" in wanted:
        r = without_label(xp, r, args.axis, compensated)
    divisor = weight_sum(xp, x, args, r.w) if args.reduction == "mean" else None
    out = []
    for name in wanted:
        if name == "value":
            each = scaled(xp, losses(xp, r, args, compensated), kept, weight)
            result = reduced(xp, each, args, divisor)
        else:
            if name == "gradient":
                g = gradient(xp, r, args)
            elif name == "curvature":
                g = curvature(xp, r, args, narrow(xp, vector, x.dtype))
            else:
                g = diagonal(xp, r, args)
            g = scaled(xp, g, kept, weight)
            result = g if divisor is None else divided(xp, g, divisor)
        out.append(narrow(xp, result, logits.dtype))
    return tuple(out)


def cross_entropy(xp: Namespace, logits: Array, args: LossArgs) -> Array:
    """The loss, reduced."""
    return _run(xp, logits, args, "value")[0]


def cross_entropy_grad(xp: Namespace, logits: Array, args: LossArgs) -> Array:
    """``d loss / d logits``."""
    return _run(xp, logits, args, "gradient")[0]


def cross_entropy_value_and_grad(xp: Namespace, logits: Array, args: LossArgs) -> tuple[Array, Array]:
    """Loss and gradient from one maximum and one exponential."""
    value, grad = _run(xp, logits, args, "value", "gradient")
    return value, grad


def cross_entropy_hvp(xp: Namespace, logits: Array, args: LossArgs, vector: Array) -> Array:
    """Second derivative times ``vector``."""
    return _run(xp, logits, args, "curvature", vector=vector)[0]


def hvp_and_grad(xp: Namespace, logits: Array, args: LossArgs, vector: Array) -> tuple[Array, Array]:
    """Second derivative times ``vector`` and gradient, from one maximum and one exponential."""
    product, grad = _run(xp, logits, args, "curvature", "gradient", vector=vector)
    return product, grad


def cross_entropy_hessian_diag(xp: Namespace, logits: Array, args: LossArgs) -> Array:
    """Diagonal of the second derivative."""
    return _run(xp, logits, args, "diagonal")[0]


def total_weight(xp: Namespace, logits: Array, args: LossArgs) -> Array:
    """What the mean divides by, 0-d."""
    x, _ = widen(xp, logits, args.precision)
    visible = None if args.where is None else xp.broadcast_to(args.where, x.shape)
    return narrow(xp, weight_sum(xp, x, args, target(xp, x, args, visible)[3]), held_dtype(xp, logits.dtype))
