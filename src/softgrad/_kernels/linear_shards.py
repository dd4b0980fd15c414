"""The linear softmax model whose classes are split over processes: each holds some rows of W.

What the shares of the logits amount to is :mod:`.shards`'; here they are made in blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .._array.typing import Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from .dense import joined, narrow, widen
from .linear import BlockedLinear, Gradients
from .loss import divided, keep, scaled
from .sharded import finished
from .shards import (
    Level,
    Merged,
    Reduce,
    Shard,
    focal_sums,
    logit_gradient,
    merge_sums,
    needs_focal_sum,
    partial_sums,
    shard,
    with_focal_sums,
)


def _cut(all_: Merged, start: int, stop: int, n: int) -> Merged:
    if stop - start == n:
        return all_
    parts: list[ArrayIfAsked] = [None if a is None else a[start:stop, ...] for a in all_]
    return Merged(*parts)


class LinearShard:
    """The linear model with some rows of W, its logits made in blocks, again for the gradient if there are several."""

    def __init__(
        self, xp: Namespace, X: Array, W: Array, bias: Array | None, args: LossArgs, first: Any, block_size: int | None
    ) -> None:
        self.xp, self.args, self.first = xp, args, first
        self.model = BlockedLinear(xp, X, W, bias, args, block_size)
        self.compensated = widen(xp, W[:1, ...], args.precision)[1]
        one = self.model.n <= self.model.rows
        self.kept = list(self.model.blocks()) if one else None

    def shares(self) -> Iterator[tuple[Shard, LossArgs, int, int]]:
        """(share of the logits, its arguments, start, stop) of each block."""
        for start, stop, _, z, piece in self.kept or self.model.blocks():
            yield shard(self.xp, z, piece, self.first), piece, start, stop

    def merged(self, reduce: Reduce) -> Merged:
        """What all shares amount to, from one pass over X; from two if ``needs_focal_sum``."""
        xp, args, compensated = self.xp, self.args, self.compensated
        lows, found = zip(
            *(partial_sums(xp, part, piece, compensated) for part, piece, _, _ in self.shares()), strict=True
        )
        low = Level(*(self._joined(parts) for parts in zip(*lows, strict=True)))
        sums = {name: self._joined([some[name] for some in found]) for name in found[0]}
        all_ = merge_sums(xp, low, sums, args, reduce, compensated)
        if not needs_focal_sum(args):
            return all_
        each = [
            focal_sums(xp, part, _cut(all_, start, stop, self.model.n), piece, compensated)
            for part, piece, start, stop in self.shares()
        ]
        return with_focal_sums(all_, reduce(self._joined(each, 1), "sum"))

    def _joined(self, parts: Sequence[ArrayIfAsked], axis: int = 0) -> ArrayIfAsked:
        """The results of all blocks; None where there are none."""
        return None if parts[0] is None else joined(self.xp, list(parts), axis)

    def grads(self, all_: Merged, factor: Array | None, wrt: tuple[str, ...], reduce: Reduce) -> tuple[Array, ...]:
        """The gradients of the sum of the losses times ``factor`` by sample, the class axis kept; None is 1."""
        xp, model = self.xp, self.model
        grads = Gradients(xp, wrt, model.operand, self.args, model.product)
        for start, stop, x, z, piece in self.kept or model.blocks():
            some = _cut(all_, start, stop, model.n)
            g = logit_gradient(xp, shard(xp, z, piece, self.first), some, piece, self.compensated)
            times = factor if factor is None or stop - start == model.n else factor[start:stop, ...]
            grads.add(x, scaled(xp, g, keep(xp, piece, z)[0], times), piece)
        return tuple(reduce(g, "sum") if name == "X" else g for name, g in grads.found().items())


def merged_linear_shares(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    first: Any,
    reduce: Reduce,
    block_size: int | None,
) -> Merged:
    """What all shares of the logits of the linear model amount to."""
    return LinearShard(xp, X, W, bias, args, first, block_size).merged(reduce)


def sharded_linear_cross_entropy(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    first: Any,
    reduce: Reduce,
    block_size: int | None = None,
    merged: Callable[..., tuple[ArrayIfAsked, ...]] = merged_linear_shares,
) -> Array:
    """The loss, reduced; ``merged`` may be another way to the same sums."""
    all_ = Merged(*merged(xp, X, W, bias, args, first, reduce, block_size))
    return narrow(xp, finished(xp, all_.loss, all_.w, args)[0], W.dtype)


def sharded_linear_cross_entropy_value_and_grad(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    first: Any,
    reduce: Reduce,
    block_size: int | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """The loss, and its gradients by the share of W and bias, and by X, which is summed over the processes."""
    model = LinearShard(xp, X, W, bias, args, first, block_size)
    all_ = model.merged(reduce)
    value, _, weight, divisor = finished(xp, all_.loss, all_.w, args)
    grads = model.grads(all_, weight, wrt, reduce)
    if divisor is not None:
        grads = tuple(divided(xp, g, divisor) for g in grads)
    return narrow(xp, value, W.dtype), tuple(narrow(xp, g, W.dtype) for g in grads)
