"""The cross-entropy with its classes split over processes, as operations that autograd records.

What all processes know of a sample is kept, and the gradient is made of it when the cotangent comes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import linear_shards, sharded
from ..._kernels.shards import Merged, Reduce
from ..._options import BY_CLASS, LossArgs
from .blocks import XP, autocast
from .linear_recorded import by_name, needed_of

LOSS = Merged._fields.index("loss")


def _as_given(x: Tensor) -> AbstractContextManager[Any]:
    """A block in which autocast rounds no operand of a product."""
    return torch.autocast(x.device.type, enabled=False) if autocast(x) else nullcontext()


def _constant(args: LossArgs) -> None:
    for name in ("labels", *(name for _, name in BY_CLASS)):
        given = getattr(args, name)
        if given is not None and given.requires_grad:
            raise TypeError(f"{name} requires a gradient: with classes split over processes it is a constant")


def _all_but_loss(ctx: Any, output: Any) -> None:
    ctx.mark_non_differentiable(*(a for i, a in enumerate(output) if a is not None and i != LOSS))


class _Once(Function):  # type: ignore[misc]
    """A gradient that cannot be differentiated again: (gradient, what it depends on)."""

    @staticmethod
    def forward(grad: Tensor, *given: Any) -> Tensor:
        return grad.view_as(grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        raise RuntimeError("with classes split over processes a loss can be differentiated once, not twice")


class _Merge(Function):  # type: ignore[misc]
    """The fields of ``Merged``; the loss among them has a derivative: (logits, args, first, reduce)."""

    @staticmethod
    def forward(logits: Tensor, args: LossArgs, first: Any, reduce: Reduce) -> Any:
        return tuple(sharded.merged(XP, logits, args, first, reduce))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        logits, ctx.args, ctx.first, _ = inputs
        _all_but_loss(ctx, output)
        ctx.save_for_backward(logits, *output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        logits, *fields = ctx.saved_tensors
        with torch.no_grad():
            grad = sharded.share_gradient(XP, logits, Merged(*fields), ctx.args, ctx.first, cotangents[LOSS])
        return _Once.apply(grad, logits, cotangents[LOSS]), None, None, None


class _LinearMerge(Function):  # type: ignore[misc]
    """The same of the linear model: (X, W, bias, args, first, reduce, block_size)."""

    @staticmethod
    def forward(X: Tensor, W: Tensor, bias: Tensor | None, *rest: Any) -> Any:
        with _as_given(X):
            return tuple(linear_shards.merged_linear_shares(XP, X, W, bias, *rest))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        X, W, bias, ctx.args, ctx.first, ctx.reduce, ctx.block_size = inputs
        _all_but_loss(ctx, output)
        ctx.save_for_backward(X, W, bias, *output)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        X, W, bias, *fields = ctx.saved_tensors
        names = needed_of((X, W, bias), ctx.needs_input_grad[:3])
        with torch.no_grad(), _as_given(X):
            model = linear_shards.LinearShard(XP, X, W, bias, ctx.args, ctx.first, ctx.block_size)
            grads: tuple[Tensor, ...] = model.grads(Merged(*fields), cotangents[LOSS], names, ctx.reduce)
            grads = tuple(g.to(W.dtype) for g in grads)
        given = (X, W, bias, cotangents[LOSS])
        return *by_name(names, [_Once.apply(g, *given) for g in grads]), None, None, None, None


def _recorded(_: Any, logits: Tensor, args: LossArgs, first: Any, reduce: Reduce) -> Any:
    return _Merge.apply(logits, args, first, reduce)


def _linear_recorded(_: Any, X: Tensor, W: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    return _LinearMerge.apply(X, W, bias, *rest)


def sharded_cross_entropy(xp: Any, logits: Tensor, args: LossArgs, first: Any, reduce: Reduce) -> Tensor:
    """The loss, reduced."""
    _constant(args)
    return sharded.sharded_cross_entropy(xp, logits, args, first, reduce, _recorded)


def sharded_cross_entropy_value_and_grad(
    xp: Any, logits: Tensor, args: LossArgs, first: Any, reduce: Reduce
) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient by a share of the logits; neither is recorded."""
    with torch.no_grad():
        return sharded.sharded_cross_entropy_value_and_grad(xp, logits, args, first, reduce)


def sharded_linear_cross_entropy(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    args: LossArgs,
    first: Any,
    reduce: Reduce,
    block_size: int | None = None,
) -> Tensor:
    """The loss, reduced."""
    _constant(args)
    return linear_shards.sharded_linear_cross_entropy(xp, X, W, bias, args, first, reduce, block_size, _linear_recorded)


def sharded_linear_cross_entropy_value_and_grad(
    xp: Any, X: Tensor, W: Tensor, bias: Tensor | None, args: LossArgs, *rest: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss, and its gradients; none is recorded."""
    with torch.no_grad(), _as_given(X):
        return linear_shards.sharded_linear_cross_entropy_value_and_grad(xp, X, W, bias, args, *rest)
