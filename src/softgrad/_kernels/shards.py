"""The cross-entropy whose classes are split over processes: each holds some columns of the logits, or rows of W.

A process sums its share beside the maximum m_s of that share. One collective finds the maximum m of all, the sums times
exp(m_s - m) are added by another: that is the merge of :mod:`softgrad.partial`, and the closed forms follow from the
merged sums. The gradient by a share of the logits needs nothing more from anybody.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from .._array.typing import Array, Namespace
from .._options import LossArgs
from .dense import Shifted, along, difference, exponential, fuses, lost, nan_unless, narrow, total, widen
from .linear import Wide, add, counted
from .loss import (
    Rows,
    divided,
    gradient,
    index_labels,
    index_loss,
    iota,
    keep,
    mass,
    reduced,
    scaled,
    settle,
)

#: The options that the kernels here take.
TAKES = ("label_smoothing", "class_weight", "ignore_index", "z_loss", "precision", "sample_weight", "where")
#: ``reduce(array, "max" or "sum")``: over the processes, element by element.
Reduce: TypeAlias = Callable[[Array, str], Array]


class Shard(NamedTuple):
    """A process's share of the classes, prepared."""

    #: Its logits, -inf where a class is hidden.
    x: Array
    shown: Array
    hot: Array
    #: Target weights before smoothing, but for plain class indices; class weights, or None.
    q: Array
    weight: Array


class Merged(NamedTuple):
    """What all processes know of each sample, the class axis kept; None where the options do not ask for it."""

    m: Array
    #: Sum of all exponentials beside m; without one maximum's; without the label's.
    s: Array
    rest: Array
    o: Array
    log_sum: Array
    #: Whether a class is shown; whether the label is a class; the class weight of the sample; the target's sum.
    rows: Array
    valid: Array
    w: Array
    T: Array
    #: What smoothing adds to the target of a class.
    uniform: Array
    #: The loss of the sample, before its sample weight.
    loss: Array


def below(xp: Namespace, x: Array, m: Array, carry: bool) -> tuple[Array, Array]:
    """(x - m, what its rounding lost or None) for a number ``m`` a row that no element exceeds."""
    d = difference(xp, x, m) if fuses(xp) else x - m
    return d, lost(xp, x, m, d) if carry else None


def gap(xp: Namespace, low: Array, high: Array) -> Array:
    """``low - high`` for ``low <= high``, where two infinities are level and one is infinitely far."""
    zero = xp.zeros_like(high)
    near = xp.where(xp.isinf(low), zero, low) - xp.where(xp.isinf(high), zero, high)
    far = xp.logical_or(low == -math.inf, high == math.inf)
    return xp.where(far, xp.where(xp.logical_and(low == high, high == math.inf), zero, zero - math.inf), near)


def shard(xp: Namespace, x: Array, job: LossArgs, first: Any) -> Shard:
    """The share that begins with class ``first``."""
    axis, shown, hot, q = job.axis, None, None, None
    if job.where is not None:
        shown = xp.broadcast_to(job.where, x.shape)
        x = xp.where(shown, x, xp.zeros_like(x) - math.inf)
    weight = None if job.class_weight is None else along(xp, narrow(xp, job.class_weight, x.dtype), x, axis)
    if job.dense:
        q = narrow(xp, job.labels, x.dtype)
    else:
        labels = xp.expand_dims(index_labels(xp, job.labels, x), axis=axis)
        hot = iota(xp, x, axis, labels.dtype) + first == labels
        q = xp.astype(hot, x.dtype) if job.label_smoothing else None
    return Shard(x, shown, hot, q, weight)


def _columns(job: LossArgs) -> tuple[str, ...]:
    """The sums that are exchanged: by options that all processes share, so that all exchange the same."""
    names = ["count", "size", "w"]
    if job.dense or job.label_smoothing:
        names += ["cost", "target"]
    else:
        names += ["o", "logit"]
    if job.label_smoothing:
        names += ["spread", "weights"]
    if job.dense or job.label_smoothing or job.z_loss:
        names += ["others", "ties"]
    return tuple(names)


def alone(xp: Namespace, part: Shard, job: LossArgs, carry: bool) -> tuple[Array, dict[str, Array]]:
    """(maximum, sums beside it) of a share."""
    axis, (x, shown, hot, q, weight) = job.axis, part
    m = xp.max(x, axis=axis, keepdims=True)
    zero = xp.zeros_like(m)
    # a share of which nothing is left has the maximum -inf, from which nothing can be subtracted
    d, lo = below(xp, x, xp.where(m == -math.inf, zero, m), carry)
    e = exponential(xp, d, lo)
    names, sums = _columns(job), {}

    def each(a: Array, where: Array = None, carry: bool = False) -> Array:
        return total(xp, a if where is None else xp.where(where, a, zero), axis, carry)

    sums["count"] = xp.zeros_like(m) + x.shape[axis] if shown is None else each(xp.astype(shown, x.dtype))
    sums["size"] = each(xp.astype(hot, x.dtype) if q is None else q)
    if weight is None:
        sums["w"] = sums["size"]
    else:
        sums["w"] = each(xp.broadcast_to(weight, x.shape), hot) if q is None else each(q * weight)
    if "o" in names:
        sums["o"] = total(xp, xp.where(hot, zero, e), axis, carry)
        sums["logit"] = each(x, hot)
    if "others" in names:
        top = d == 0
        sums["others"] = each(e, xp.logical_not(top), carry)
        sums["ties"] = each(e, top)
    if q is not None:
        cost = -d if lo is None else -d - lo
        factor = (1 - job.label_smoothing) * (q if weight is None else q * weight)
        sums["target"] = each(factor)
        # 0 * inf is nothing lost, while a weight of 0 keeps its derivative wherever the cost is finite
        sums["cost"] = each(factor * cost, xp.logical_not(xp.logical_and(factor == 0, xp.isinf(cost))), carry)
        if job.label_smoothing:
            factor = xp.broadcast_to(xp.ones_like(m) if weight is None else weight, x.shape)
            sums["weights"] = each(factor, shown)
            costs = xp.logical_not(xp.logical_and(factor == 0, xp.isinf(cost)))
            costs = costs if shown is None else xp.logical_and(costs, shown)
            sums["spread"] = each(factor * cost, costs, carry)
    return m, sums


def _step(xp: Namespace, low: Array, high: Array, carry: bool) -> tuple[Array, Array]:
    """(low - high, its exponential)."""
    step = gap(xp, low, high)
    lo = lost(xp, low, high, step) if carry else None
    return step, exponential(xp, step, lo)


def meet(xp: Namespace, low: Array, sums: dict[str, Array], job: LossArgs, reduce: Reduce, carry: bool) -> Merged:
    """The sums of all shares, by one maximum and one sum over the processes."""
    m = reduce(low, "max")
    step, scale = _step(xp, low, m, carry)
    zero, sums = xp.zeros_like(low), dict(sums)
    if "o" in sums:
        sums["o"] = sums["o"] * scale
    if "others" in sums:
        level = low == m
        sums["others"] = xp.where(level, sums["others"], (sums["others"] + sums["ties"]) * scale)
        sums["ties"] = xp.where(level, sums["ties"], zero)
    # in a share of which nothing is left every cost is infinite already
    up = xp.where(low == -math.inf, zero, -step)
    for name, weight in (("cost", "target"), ("spread", "weights")):
        if name in sums:
            sums[name] = sums[name] + xp.where(sums[weight] == 0, zero, sums[weight] * up)
    names = _columns(job)
    # in two parts: CuPy would carry the addresses of more than eight arrays from the host to the device
    parts = [xp.stack([sums[name] for name in some], axis=0) for some in (names[:5], names[5:]) if some]
    packed = reduce(parts[0] if len(parts) == 1 else xp.concat(parts, axis=0), "sum")
    return _merge(xp, m, {name: packed[i, ...] for i, name in enumerate(names)}, job, carry)


def _merge(xp: Namespace, m: Array, sums: dict[str, Array], job: LossArgs, carry: bool) -> Merged:
    zero = xp.zeros_like(m)
    rows, size, w = sums["count"] > 0, sums["size"], sums["w"]
    valid = None if job.dense else size > 0
    T: Array = None
    rest, log_sum, uniform, o = T, T, T, T
    if "others" in sums:
        rest = sums["others"] + (sums["ties"] - 1)
    if "o" in sums:
        o, logit = sums["o"], sums["logit"]
        d, lo = below(xp, logit, m, carry)
        e = exponential(xp, d, lo)
        s, loss = o + e, index_loss(xp, o, e, d, lo, w)
    else:
        s, T, loss = 1 + rest, sums["target"], sums["cost"]
        if job.label_smoothing:
            uniform = size * job.label_smoothing / xp.where(rows, sums["count"], zero + 1)
            T = T + uniform * sums["weights"]
            loss = loss + xp.where(uniform == 0, zero, uniform * sums["spread"])
        loss = loss + T * xp.log1p(rest)
    if job.z_loss:
        log_sum = m + xp.log1p(rest)
        loss = loss + w * (job.z_loss * log_sum**2)
    # a sample of which every class is hidden counts in no mean
    if valid is not None:
        # the gradient is divided by it
        s = xp.where(valid, s, nan_unless(xp, valid, s))
    all_ = Merged(m, s, rest, o, log_sum, rows, valid, xp.where(rows, w, zero), T, uniform, loss)
    return all_._replace(loss=settle(xp, all_, loss))


def slopes(xp: Namespace, part: Shard, all_: Merged, job: LossArgs, carry: bool) -> Array:
    """D loss / d logits of a share by row, before sample weights."""
    x, shown, hot, q, weight = part
    d, lo = below(xp, x, all_.m, carry)
    v = None
    if q is not None:
        v = (1 - job.label_smoothing) * q
        if all_.uniform is not None:
            v = v + (all_.uniform if shown is None else xp.where(shown, all_.uniform, xp.zeros_like(all_.uniform)))
        v = v if weight is None else v * weight
    row = Shifted(all_.m, d, lo, exponential(xp, d, lo), d == 0, all_.rest, x)
    # of a class that is shown here the sample shows something; without a label that is a class s is NaN
    rows = None if shown is None else all_.rows
    r = Rows(row, all_.s, shown, rows, hot, v, all_.T, all_.w, None, all_.o, all_.log_sum)
    return gradient(xp, r, job)


def cleared(xp: Namespace, logits: Array, job: LossArgs) -> tuple[Array, bool]:
    """The logits to compute with, 0 in samples that do not count, and whether rounding is carried."""
    x, carry = widen(xp, logits, job.precision)
    kept, _ = keep(xp, job, x)
    return x if kept is None else xp.where(kept, x, xp.zeros_like(x)), carry


def merged(xp: Namespace, logits: Array, job: LossArgs, first: Any, reduce: Reduce) -> Merged:
    """What all shares of the logits amount to."""
    x, carry = cleared(xp, logits, job)
    return meet(xp, *alone(xp, shard(xp, x, job, first), job, carry), job, reduce, carry)


def pulled(xp: Namespace, logits: Array, all_: Merged, job: LossArgs, first: Any, factor: Array) -> Array:
    """The gradient by a share of the logits, times ``factor`` by sample, from what all shares amount to."""
    x, carry = cleared(xp, logits, job)
    g = slopes(xp, shard(xp, x, job, first), all_, job, carry)
    return narrow(xp, scaled(xp, g, keep(xp, job, x)[0], factor), logits.dtype)


def _finished(xp: Namespace, loss: Array, w: Array, job: LossArgs) -> tuple[Array, Array, Array, Array]:
    """(value, kept, weight, divisor) of the losses and class weights of all samples."""
    kept, weight = keep(xp, job, loss)
    divisor = mass(xp, loss, job, w) if job.reduction == "mean" else None
    return reduced(xp, scaled(xp, loss, kept, weight), job, divisor), kept, weight, divisor


def sharded_cross_entropy(
    xp: Namespace,
    logits: Array,
    job: LossArgs,
    first: Any,
    reduce: Reduce,
    merged: Callable[..., tuple[Array, ...]] = merged,
) -> Array:
    """The loss, reduced; ``merged`` may be another way to the same sums."""
    all_ = Merged(*merged(xp, logits, job, first, reduce))
    return narrow(xp, _finished(xp, all_.loss, all_.w, job)[0], logits.dtype)


def sharded_cross_entropy_value_and_grad(
    xp: Namespace, logits: Array, job: LossArgs, first: Any, reduce: Reduce
) -> tuple[Array, Array]:
    """The loss, and the gradient by a share of the logits."""
    x, carry = cleared(xp, logits, job)
    part = shard(xp, x, job, first)
    all_ = meet(xp, *alone(xp, part, job, carry), job, reduce, carry)
    value, kept, weight, divisor = _finished(xp, all_.loss, all_.w, job)
    if divisor is not None:
        weight = divided(xp, xp.ones_like(all_.loss) if weight is None else weight, divisor)
    g = scaled(xp, slopes(xp, part, all_, job, carry), kept, weight)
    return narrow(xp, value, logits.dtype), narrow(xp, g, logits.dtype)


def _cut(all_: Merged, start: int, stop: int, n: int) -> Merged:
    return all_ if stop - start == n else Merged(*(None if a is None else a[start:stop, ...] for a in all_))


class LinearShard:
    """The linear model with some rows of W, its logits made in blocks, again for the gradient if there are several."""

    def __init__(
        self, xp: Namespace, X: Array, W: Array, bias: Array, job: LossArgs, first: Any, block_size: int | None
    ) -> None:
        self.xp, self.job, self.first = xp, job, first
        self.model = Wide(xp, X, W, bias, job, block_size)
        self.carry = widen(xp, W[:1, ...], job.precision)[1]
        one = self.model.n <= self.model.rows
        self.kept = list(self.model.blocks()) if one else None

    def merged(self, reduce: Reduce) -> Merged:
        """What all shares amount to, from one pass over X."""
        xp, lows, sums = self.xp, [], []
        for _, _, _, z, piece in self.kept or self.model.blocks():
            low, found = alone(xp, shard(xp, z, piece, self.first), piece, self.carry)
            lows.append(low)
            sums.append(found)
        if len(lows) == 1:
            return meet(xp, lows[0], sums[0], self.job, reduce, self.carry)
        whole = {name: xp.concat([some[name] for some in sums], axis=0) for name in sums[0]}
        return meet(xp, xp.concat(lows, axis=0), whole, self.job, reduce, self.carry)

    def grads(self, all_: Merged, factor: Array, wrt: tuple[str, ...], reduce: Reduce) -> tuple[Array, ...]:
        """The gradients of the sum of the losses times ``factor`` by sample, the class axis kept; None is 1."""
        xp, model = self.xp, self.model
        grads: dict[str, Any] = dict.fromkeys(wrt)
        rows: list[Array] = []
        beside = model.visible(model.operand) if "X" in grads else None
        for start, stop, x, z, piece in self.kept or model.blocks():
            some = _cut(all_, start, stop, model.n)
            g = slopes(xp, shard(xp, z, piece, self.first), some, piece, self.carry)
            times = factor if factor is None or stop - start == model.n else factor[start:stop, ...]
            g = scaled(xp, g, keep(xp, piece, z)[0], times)
            if "W" in grads:
                grads["W"] = add(grads["W"], model.product(g.T, x))
            if "bias" in grads:
                grads["bias"] = add(grads["bias"], xp.squeeze(total(xp, g, 0), axis=0))
            if "X" in grads:
                rows.append(counted(xp, model.product(g, beside), piece))
        if rows:
            grads["X"] = reduce(rows[0] if len(rows) == 1 else xp.concat(rows, axis=0), "sum")
        return tuple(grads[name] for name in wrt)


def linear_merged(
    xp: Namespace, X: Array, W: Array, bias: Array, job: LossArgs, first: Any, reduce: Reduce, block_size: int | None
) -> Merged:
    """What all shares of the logits of the linear model amount to."""
    return LinearShard(xp, X, W, bias, job, first, block_size).merged(reduce)


def sharded_linear_cross_entropy(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array,
    job: LossArgs,
    first: Any,
    reduce: Reduce,
    block_size: int | None = None,
    merged: Callable[..., tuple[Array, ...]] = linear_merged,
) -> Array:
    """The loss, reduced; ``merged`` may be another way to the same sums."""
    all_ = Merged(*merged(xp, X, W, bias, job, first, reduce, block_size))
    return narrow(xp, _finished(xp, all_.loss, all_.w, job)[0], W.dtype)


def sharded_linear_cross_entropy_value_and_grad(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array,
    job: LossArgs,
    wrt: tuple[str, ...],
    first: Any,
    reduce: Reduce,
    block_size: int | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """The loss, and its gradients by the share of W and bias, and by X, which is summed over the processes."""
    model = LinearShard(xp, X, W, bias, job, first, block_size)
    all_ = model.merged(reduce)
    value, _, weight, divisor = _finished(xp, all_.loss, all_.w, job)
    grads = model.grads(all_, weight, wrt, reduce)
    if divisor is not None:
        grads = tuple(divided(xp, g, divisor) for g in grads)
    return narrow(xp, value, W.dtype), tuple(narrow(xp, g, W.dtype) for g in grads)
