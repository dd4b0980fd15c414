"""The cross-entropy of logits whose classes are split over processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._array.typing import Array, Namespace
from .._options import LossArgs
from .dense import narrow, widen
from .loss import divided, keep, mass, reduced, scaled
from .shards import Merged, Reduce, gathered, shard, slopes


def cleared(xp: Namespace, logits: Array, job: LossArgs) -> tuple[Array, bool]:
    """The logits to compute with, 0 in samples that do not count, and whether rounding is carried."""
    x, carry = widen(xp, logits, job.precision)
    kept, _ = keep(xp, job, x)
    return x if kept is None else xp.where(kept, x, xp.zeros_like(x)), carry


def merged(xp: Namespace, logits: Array, job: LossArgs, first: Any, reduce: Reduce) -> Merged:
    """What all shares of the logits amount to."""
    x, carry = cleared(xp, logits, job)
    return gathered(xp, shard(xp, x, job, first), job, reduce, carry)


def pulled(xp: Namespace, logits: Array, all_: Merged, job: LossArgs, first: Any, factor: Array) -> Array:
    """The gradient by a share of the logits, times ``factor`` by sample, from what all shares amount to."""
    x, carry = cleared(xp, logits, job)
    g = slopes(xp, shard(xp, x, job, first), all_, job, carry)
    return narrow(xp, scaled(xp, g, keep(xp, job, x)[0], factor), logits.dtype)


def finished(xp: Namespace, loss: Array, w: Array, job: LossArgs) -> tuple[Array, Array, Array, Array]:
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
    return narrow(xp, finished(xp, all_.loss, all_.w, job)[0], logits.dtype)


def sharded_cross_entropy_value_and_grad(
    xp: Namespace, logits: Array, job: LossArgs, first: Any, reduce: Reduce
) -> tuple[Array, Array]:
    """The loss, and the gradient by a share of the logits."""
    x, carry = cleared(xp, logits, job)
    part = shard(xp, x, job, first)
    all_ = gathered(xp, part, job, reduce, carry)
    value, kept, weight, divisor = finished(xp, all_.loss, all_.w, job)
    if divisor is not None:
        weight = divided(xp, xp.ones_like(all_.loss) if weight is None else weight, divisor)
    g = scaled(xp, slopes(xp, part, all_, job, carry), kept, weight)
    return narrow(xp, value, logits.dtype), narrow(xp, g, logits.dtype)
