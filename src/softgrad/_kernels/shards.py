"""The cross-entropy whose classes are split over processes: each holds some columns of the logits, or rows of W.

A process sums its share beside the largest scaled logit of that share. One collective finds a level that all can
measure theirs from, the sums times the exponentials of how far they are below it are added by another: that is the
merge of :mod:`softgrad.partial`, and the closed forms follow from the merged sums. The gradient by a share of the
logits needs nothing more from anybody.

With a temperature and a softcap the class that is largest is so before they are applied, and its logit is the level.
With a shift by class the level is a logit of one class and the shift that makes the largest scaled logit of it: digits
are kept, but no class is level. So the sums bring logit and shift of the class that is the largest, to be taken beside
it. Factors of the focal loss that are not the label's alone are summed once the normalizer is known, by a third.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from .._array.typing import Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from . import focal
from .dense import Shifted, along, exponential, first_largest, iota, joined, nan_unless, narrow, total
from .loss import (
    Rows,
    gradient,
    index_loss,
    losses,
    mask_samples,
    with_focal,
)
from .scaling import Scaling, apart, finite, scaled, scaling_of
from .targets import index_labels

#: The options that the kernels here take.
TAKES = (
    "softcap",
    "temperature",
    "logit_shift",
    "label_smoothing",
    "class_weight",
    "focal",
    "ignore_index",
    "z_loss",
    "precision",
    "sample_weight",
    "where",
)
#: ``reduce(array, "max" or "sum")``: over the processes, element by element.
Reduce: TypeAlias = Callable[[Array, str], Array]


class Shard(NamedTuple):
    """A process's share of the classes, prepared."""

    #: Its logits, -inf where a class is hidden; with a softcap finite elsewhere.
    x: Array
    visible: Array | None
    onehot: Array | None
    #: Target weights before smoothing, but for plain class indices; class weights, or None.
    q: ArrayIfAsked
    weight: Array | None
    scaling: Scaling


class Level(NamedTuple):
    """What scaled logits are measured from, the class axis kept; the last two None but with a shift by class."""

    #: A logit, before it is scaled; the shift that is added to it; what the two give.
    x: Array
    shift: ArrayIfAsked = None
    z: ArrayIfAsked = None


class Merged(NamedTuple):
    """What all processes know of each sample, the class axis kept; None where the options do not ask for it."""

    #: Logit and shift of the class of the largest scaled logit.
    m: Array
    shift: Array | None
    #: Sum of all exponentials beside it; without one maximum's; without the label's.
    s: Array
    sum_ex_max: ArrayIfAsked
    sum_ex_label: ArrayIfAsked
    log_sum: ArrayIfAsked
    #: Whether a class is visible; whether the label is a class; the class weight of the sample; the target's sum.
    rows: Array
    valid: Array | None
    w: Array
    T: ArrayIfAsked
    #: What smoothing adds to the target of a class.
    uniform: ArrayIfAsked
    #: The loss of the sample, before its sample weight.
    loss: Array


def below(xp: Namespace, x: Array, level: Level, compensated: bool, scaling: Scaling) -> tuple[Array, Array | None]:
    """(How far scaled logits are above a level, what its rounding lost or None); of -inf itself, softcap or not."""
    d, lo = apart(xp, x, level.x, compensated, scaling, level.shift)
    return (d if scaling.softcap is None else xp.where(x == -math.inf, xp.zeros_like(d) - math.inf, d)), lo


def gap(xp: Namespace, low: Array, high: Array, near: Callable[[Array, Array], Array] = lambda a, b: a - b) -> Array:
    """``near(low, high)`` for ``low <= high``, where two infinities are level and one is infinitely far."""
    zero = xp.zeros_like(high)
    step = near(xp.where(xp.isinf(low), zero, low), xp.where(xp.isinf(high), zero, high))
    far = xp.logical_or(low == -math.inf, high == math.inf)
    return xp.where(far, xp.where(xp.logical_and(low == high, high == math.inf), zero, zero - math.inf), step)


def shard(xp: Namespace, x: Array, args: LossArgs, first: Any) -> Shard:
    """The share that begins with class ``first``."""
    axis, visible, onehot, q = args.axis, None, None, None
    if args.softcap is not None:
        x = finite(xp, x)
    if args.where is not None:
        visible = xp.broadcast_to(args.where, x.shape)
        x = xp.where(visible, x, xp.zeros_like(x) - math.inf)
    weight = None if args.class_weight is None else along(xp, narrow(xp, args.class_weight, x.dtype), x, axis)
    if args.dense:
        q = narrow(xp, args.labels, x.dtype)
    else:
        labels = xp.expand_dims(index_labels(xp, args.labels, x), axis=axis)
        onehot = iota(xp, x, axis, labels.dtype) + first == labels
        q = xp.astype(onehot, x.dtype) if args.label_smoothing else None
    return Shard(x, visible, onehot, q, weight, scaling_of(xp, x, args))


def needs_focal_sum(args: LossArgs) -> bool:
    """Whether factors of several classes of a sample ask for a sum of their own, once the normalizer is known."""
    return bool(args.focal and (args.dense or args.label_smoothing))


def _columns(args: LossArgs) -> tuple[str, ...]:
    """The sums that are exchanged: by options that all processes share, so that all exchange the same."""
    names = ["count", "size", "w"]
    if not (args.dense or args.label_smoothing):
        names += ["ex_label", "logit"]
    elif not args.focal:
        names += ["cost", "target", *(("spread", "weights") if args.label_smoothing else ())]
    if args.dense or args.label_smoothing or args.z_loss:
        names += ["others", "ties"]
    if args.logit_shift is not None:
        names += ["winners", "most", "most_shift", *(("label_shift",) if "ex_label" in names else ())]
    return tuple(names)


def _largest(xp: Namespace, part: Shard, axis: int) -> Level:
    """The class of a share with the largest scaled logit, -inf where nothing is left of it."""
    x, scaling = part.x, part.scaling
    if scaling.logit_shift is None:
        return Level(xp.max(x, axis=axis, keepdims=True))
    z = scaled(xp, x, scaling)
    z = z if scaling.softcap is None else xp.where(x == -math.inf, x, z)
    first = first_largest(xp, z, axis)
    most, added, z = (
        xp.sum(xp.where(first, a, xp.zeros_like(x)), axis=axis, keepdims=True, dtype=x.dtype)
        for a in (x, scaling.logit_shift, z)
    )
    none = z == -math.inf
    return Level(xp.where(none, z, most), xp.where(none, xp.zeros_like(z), added), z)


def partial_sums(xp: Namespace, part: Shard, args: LossArgs, compensated: bool) -> tuple[Level, dict[str, Array]]:
    """(largest class, sums beside it) of a share."""
    axis, (x, visible, onehot, q, weight, scaling) = args.axis, part
    most = _largest(xp, part, axis)
    zero = xp.zeros_like(most.x)
    # a share with no visible class has the maximum -inf, which cannot be subtracted
    d, lo = below(xp, x, most._replace(x=xp.where(most.x == -math.inf, zero, most.x)), compensated, scaling)
    e = exponential(xp, d, lo)
    names, sums = _columns(args), {}

    def each(a: Array, where: Array | None = None, compensated: bool = False) -> Array:
        return total(xp, a if where is None else xp.where(where, a, zero), axis, compensated)

    sums["count"] = xp.zeros_like(zero) + x.shape[axis] if visible is None else each(xp.astype(visible, x.dtype))
    sums["size"] = each(xp.astype(onehot, x.dtype) if q is None else q)
    if weight is None:
        sums["w"] = sums["size"]
    else:
        sums["w"] = each(xp.broadcast_to(weight, x.shape), onehot) if q is None else each(q * weight)
    if "ex_label" in names:
        sums["ex_label"] = total(xp, xp.where(onehot, zero, e), axis, compensated)
        sums["logit"] = each(x, onehot)
    if "label_shift" in names:
        sums["label_shift"] = each(xp.broadcast_to(scaling.logit_shift, x.shape), onehot)
    if "others" in names:
        top = d == 0
        sums["others"] = each(e, xp.logical_not(top), compensated)
        sums["ties"] = each(e, top)
    if "cost" in names:
        cost = -d if lo is None else -d - lo
        factor = (1 - args.label_smoothing) * (q if weight is None else q * weight)
        sums["target"] = each(factor)
        # 0 * inf is nothing lost, while a weight of 0 keeps its derivative wherever the cost is finite
        sums["cost"] = each(factor * cost, xp.logical_not(xp.logical_and(factor == 0, xp.isinf(cost))), compensated)
        if args.label_smoothing:
            factor = xp.broadcast_to(xp.ones_like(zero) if weight is None else weight, x.shape)
            sums["weights"] = each(factor, visible)
            costs = xp.logical_not(xp.logical_and(factor == 0, xp.isinf(cost)))
            costs = costs if visible is None else xp.logical_and(costs, visible)
            sums["spread"] = each(factor * cost, costs, compensated)
    return most, sums


def _step(xp: Namespace, low: Level, high: Level, args: LossArgs, compensated: bool) -> tuple[Array, Array]:
    """(how far one level is above a higher one, its exponential)."""
    rounded: Array | None = None

    def near(a: Array, b: Array) -> Array:
        nonlocal rounded
        scaling = Scaling(args.temperature, args.softcap, low.shift)
        step, rounded = apart(xp, a, b, compensated, scaling, high.shift)
        return step

    step = gap(xp, low.x, high.x, near)
    return step, exponential(xp, step, rounded)


def merge_sums(
    xp: Namespace, low: Level, sums: dict[str, Array], args: LossArgs, reduce: Reduce, compensated: bool
) -> Merged:
    """The sums of all shares, by one maximum and one sum over the processes."""
    zero, sums = xp.zeros_like(low.x), dict(sums)
    if low.shift is None:
        high = Level(reduce(low.x, "max"))
        level = low.x == high.x if "others" in sums else None
    else:
        packed = reduce(xp.stack([low.x, low.z], axis=0), "max")
        x, z = packed[0, ...], packed[1, ...]
        high = Level(x, z - scaled(xp, x, Scaling(args.temperature, args.softcap)), z)
        level = low.z == z
        sums["winners"] = xp.where(level, zero + 1, zero)
        sums["most"], sums["most_shift"] = (xp.where(level, a, zero) for a in low[:2])
    step, scale = _step(xp, low, high, args, compensated)
    if "ex_label" in sums:
        sums["ex_label"] = sums["ex_label"] * scale
    if "others" in sums:
        others, ties = sums["others"], sums["ties"]
        sums["others"] = xp.where(level, others if low.shift is None else others * scale, (others + ties) * scale)
        sums["ties"] = xp.where(level, ties if low.shift is None else ties * scale, zero)
    # in a share with no visible class every cost is infinite already
    _moved(xp, sums, xp.where(low.x == -math.inf, zero, -step))
    names = _columns(args)
    # in parts: CuPy would carry the addresses of more than eight arrays from the host to the device
    parts = [xp.stack([sums[name] for name in names[i : i + 6]], axis=0) for i in range(0, len(names), 6)]
    packed = reduce(joined(xp, parts), "sum")
    sums = {name: packed[i, ...] for i, name in enumerate(names)}
    if low.shift is not None:
        high, sums = _beside_largest(xp, high, sums, args, compensated)
    return _merge(xp, high, sums, args, compensated)


def _moved(xp: Namespace, sums: dict[str, Array], up: Array) -> None:
    """Costs measured from a level that is higher by ``up``."""
    for name, weight in (("cost", "target"), ("spread", "weights")):
        if name in sums:
            sums[name] = sums[name] + xp.where(sums[weight] == 0, xp.zeros_like(up), sums[weight] * up)


def _beside_largest(
    xp: Namespace, level: Level, sums: dict[str, Array], args: LossArgs, compensated: bool
) -> tuple[Level, dict[str, Array]]:
    """(The class of the largest scaled logit, the sums beside it); of several that are level their mean."""
    count = sums["winners"]
    x, lowest = sums["most"] / count, -float(xp.finfo(count.dtype).max)
    # several that were -inf under a softcap add up to it again
    most = Level(xp.where(level.x == lowest, level.x, x), sums["most_shift"] / count)
    step, scale = _step(xp, most, level, args, compensated)
    sums = {name: sums[name] / scale if name in ("ex_label", "others", "ties") else sums[name] for name in sums}
    if "ties" in sums:
        # in one share they are as many as classes: a rounding would cover the others
        sums["ties"] = xp.where(count == 1, xp.round(sums["ties"]), sums["ties"])
    _moved(xp, sums, step)
    return most, sums


def _merge(xp: Namespace, most: Level, sums: dict[str, Array], args: LossArgs, compensated: bool) -> Merged:
    m, zero = most.x, xp.zeros_like(most.x)
    rows, size, w = sums["count"] > 0, sums["size"], sums["w"]
    # what shows nothing counts for nothing, whatever its label
    valid = None if args.dense else xp.logical_or(size > 0, xp.logical_not(rows))
    T: ArrayIfAsked = None
    sum_ex_max, log_sum, uniform, sum_ex_label = T, T, T, T
    if "others" in sums:
        sum_ex_max = sums["others"] + (sums["ties"] - 1)
    if "ex_label" in sums:
        sum_ex_label, T = sums["ex_label"], w
        scaling = Scaling(args.temperature, args.softcap, sums.get("label_shift"))
        d, lo = below(xp, sums["logit"], most, compensated, scaling)
        e = exponential(xp, d, lo)
        s, loss = sum_ex_label + e, index_loss(xp, sum_ex_label, e, d, lo, w)
        if args.focal:
            q = sum_ex_label / s
            loss = loss * focal.power(xp, q, args.focal)
            T = w * focal.first(xp, e / s, q, index_loss(xp, sum_ex_label, e, d, lo, None), args.focal)
    else:
        s, loss = 1 + sum_ex_max, zero
        if args.label_smoothing:
            uniform = size * args.label_smoothing / xp.where(rows, sums["count"], zero + 1)
        if "cost" in sums:
            T, loss = sums["target"], sums["cost"]
            if uniform is not None:
                T = T + uniform * sums["weights"]
                loss = loss + xp.where(uniform == 0, zero, uniform * sums["spread"])
            loss = loss + T * xp.log1p(sum_ex_max)
    if args.z_loss:
        log_sum = scaled(xp, m, Scaling(args.temperature, args.softcap, most.shift)) + xp.log1p(sum_ex_max)
        loss = loss + w * (args.z_loss * log_sum**2)
    # a sample with no visible class counts in no mean
    if valid is not None:
        # the gradient is divided by it
        s = xp.where(valid, s, nan_unless(xp, valid, s))
        w = xp.where(valid, w, zero + 1)
    w = xp.where(rows, w, zero)
    all_ = Merged(m, most.shift, s, sum_ex_max, sum_ex_label, log_sum, rows, valid, w, T, uniform, loss)
    return all_._replace(loss=mask_samples(xp, all_, loss))


def _rows(xp: Namespace, part: Shard, all_: Merged, args: LossArgs, compensated: bool) -> Rows:
    """A share as a part of the whole."""
    x, visible, onehot, q, weight, scaling = part
    d, lo = below(xp, x, Level(all_.m, all_.shift), compensated, scaling)
    v = None
    if q is not None:
        v = (1 - args.label_smoothing) * q
        if all_.uniform is not None:
            v = v + (all_.uniform if visible is None else xp.where(visible, all_.uniform, xp.zeros_like(all_.uniform)))
        v = v if weight is None else v * weight
    row = Shifted(all_.m, d, lo, exponential(xp, d, lo), d == 0, all_.sum_ex_max, x)
    # a sample with a visible class here is visible; where the label is no class s is NaN
    rows = None if visible is None else all_.rows
    return Rows(row, all_.s, visible, rows, onehot, v, all_.T, all_.w, None, all_.sum_ex_label, all_.log_sum, scaling)


def focal_sums(xp: Namespace, part: Shard, all_: Merged, args: LossArgs, compensated: bool) -> Array:
    """A share's part of losses with focal factors, and of the target weights in their gradient."""
    r, args = _rows(xp, part, all_, args, compensated), args._replace(z_loss=0.0)
    return xp.stack([losses(xp, r, args, compensated), with_focal(xp, r, args).T], axis=0)


def with_focal_sums(all_: Merged, sums: Array) -> Merged:
    """What all shares amount to, with the sums of what ``focal_sums`` gives."""
    return all_._replace(loss=all_.loss + sums[0, ...], T=sums[1, ...])


def logit_gradient(xp: Namespace, part: Shard, all_: Merged, args: LossArgs, compensated: bool) -> Array:
    """``d loss / d logits`` of a share by row, before sample weights."""
    r = _rows(xp, part, all_, args, compensated)
    if needs_focal_sum(args):
        r = with_focal(xp, r, args)._replace(T=all_.T)
    return gradient(xp, r, args._replace(focal=0.0))


def merged_shares(xp: Namespace, part: Shard, args: LossArgs, reduce: Reduce, compensated: bool) -> Merged:
    """What all shares amount to: of the losses and the sums in the gradient."""
    all_ = merge_sums(xp, *partial_sums(xp, part, args, compensated), args, reduce, compensated)
    return (
        with_focal_sums(all_, reduce(focal_sums(xp, part, all_, args, compensated), "sum"))
        if needs_focal_sum(args)
        else all_
    )
