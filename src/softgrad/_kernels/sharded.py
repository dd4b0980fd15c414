"""The cross-entropy of logits whose classes are split over processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._array.typing import Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from .dense import narrow, widen
from .loss import divided, keep, reduced, scaled, weight_sum
from .shards import Merged, Reduce, logit_gradient, merged_shares, shard


def cleared(xp: Namespace, logits: Array, args: LossArgs) -> tuple[Array, bool]:
    """The logits to compute with, 0 in samples that do not count, and whether rounding is compensated."""
    x, compensated = widen(xp, logits, args.precision)
    kept, _ = keep(xp, args, x)
    return x if kept is None else xp.where(kept, x, xp.zeros_like(x)), compensated


def merged(xp: Namespace, logits: Array, args: LossArgs, first: Any, reduce: Reduce) -> Merged:
    """What all shares of the logits amount to."""
    x, compensated = cleared(xp, logits, args)
    return merged_shares(xp, shard(xp, x, args, first), args, reduce, compensated)


def share_gradient(xp: Namespace, logits: Array, all_: Merged, args: LossArgs, first: Any, factor: Array) -> Array:
    """The gradient by a share of the logits, times ``factor`` by sample, from what all shares amount to."""
    x, compensated = cleared(xp, logits, args)
    g = logit_gradient(xp, shard(xp, x, args, first), all_, args, compensated)
    return narrow(xp, scaled(xp, g, keep(xp, args, x)[0], factor), logits.dtype)


def finished(
    xp: Namespace, loss: Array, w: Array, args: LossArgs
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """(value, kept, weight, divisor) of the losses and class weights of all samples."""
    kept, weight = keep(xp, args, loss)
    divisor = weight_sum(xp, loss, args, w) if args.reduction == "mean" else None
    return reduced(xp, scaled(xp, loss, kept, weight), args, divisor), kept, weight, divisor


def sharded_cross_entropy(
    xp: Namespace,
    logits: Array,
    args: LossArgs,
    first: Any,
    reduce: Reduce,
    merged: Callable[..., tuple[ArrayIfAsked, ...]] = merged,
) -> Array:
    """The loss, reduced; ``merged`` may be another way to the same sums."""
    all_ = Merged(*merged(xp, logits, args, first, reduce))
    return narrow(xp, finished(xp, all_.loss, all_.w, args)[0], logits.dtype)


def sharded_cross_entropy_value_and_grad(
    xp: Namespace, logits: Array, args: LossArgs, first: Any, reduce: Reduce
) -> tuple[Array, Array]:
    """The loss, and the gradient by a share of the logits."""
    x, compensated = cleared(xp, logits, args)
    part = shard(xp, x, args, first)
    all_ = merged_shares(xp, part, args, reduce, compensated)
    value, kept, weight, divisor = finished(xp, all_.loss, all_.w, args)
    if divisor is not None:
        weight = divided(xp, xp.ones_like(all_.loss) if weight is None else weight, divisor)
    g = scaled(xp, logit_gradient(xp, part, all_, args, compensated), kept, weight)
    return narrow(xp, value, logits.dtype), narrow(xp, g, logits.dtype)
