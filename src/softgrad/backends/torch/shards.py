"""The cross-entropy with its classes split over processes, as operations that autograd records.

What all processes know of a sample is kept, and the gradient is made of it when the cotangent comes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..._array.typing import LossArgs
from ..._kernels import shards as generic
from ..._kernels.shards import Merged, Reduce
from . import autograd

LOSS = Merged._fields.index("loss")
NAMES = ("X", "W", "bias")


def _constant(job: LossArgs) -> None:
    for name in ("labels", "class_weight"):
        given = getattr(job, name)
        if given is not None and given.requires_grad:
            raise TypeError(f"{name} requires a gradient: with classes split over processes it is a constant")


def _all_but_loss(ctx: Any, output: Any) -> None:
    ctx.mark_non_differentiable(*(a for i, a in enumerate(output) if a is not None and i != LOSS))


class _Merge(Function):  # type: ignore[misc]
    """The fields of ``Merged``, of which the loss has a derivative: (logits, job, first, reduce)."""

    @staticmethod
    def forward(logits: Tensor, job: LossArgs, first: Any, reduce: Reduce) -> Any:
        return tuple(generic.merged(autograd.XP, logits, job, first, reduce))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        logits, ctx.job, ctx.first, _ = inputs
        _all_but_loss(ctx, output)
        ctx.save_for_backward(logits, *output)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *cotangents: Any) -> Any:
        logits, *fields = ctx.saved_tensors
        grad = generic.pulled(autograd.XP, logits, Merged(*fields), ctx.job, ctx.first, cotangents[LOSS])
        return grad, None, None, None


class _LinearMerge(Function):  # type: ignore[misc]
    """The same of the linear model: (X, W, bias, job, first, reduce, block_size)."""

    @staticmethod
    def forward(X: Tensor, W: Tensor, bias: Tensor | None, *rest: Any) -> Any:
        with torch.autocast(X.device.type, enabled=False):
            return tuple(generic.linear_merged(autograd.XP, X, W, bias, *rest))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        X, W, bias, ctx.job, ctx.first, ctx.reduce, ctx.block_size = inputs
        _all_but_loss(ctx, output)
        ctx.save_for_backward(X, W, bias, *output)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *cotangents: Any) -> Any:
        X, W, bias, *fields = ctx.saved_tensors
        needed = zip(NAMES, ctx.needs_input_grad, strict=False)
        names = tuple(name for name, need in needed if need)
        with torch.autocast(X.device.type, enabled=False):
            model = generic.LinearShard(autograd.XP, X, W, bias, ctx.job, ctx.first, ctx.block_size)
            grads = model.grads(Merged(*fields), cotangents[LOSS], names, ctx.reduce)
        found = {name: g.to(W.dtype) for name, g in zip(names, grads, strict=True)}
        return *(found.get(name) for name in NAMES), None, None, None, None


def _recorded(_: Any, logits: Tensor, job: LossArgs, first: Any, reduce: Reduce) -> Any:
    return _Merge.apply(logits, job, first, reduce)


def _linear_recorded(_: Any, X: Tensor, W: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    return _LinearMerge.apply(X, W, bias, *rest)


def sharded_cross_entropy(xp: Any, logits: Tensor, job: LossArgs, first: Any, reduce: Reduce) -> Tensor:
    """The loss, reduced."""
    _constant(job)
    return generic.sharded_cross_entropy(xp, logits, job, first, reduce, _recorded)


def sharded_cross_entropy_value_and_grad(
    xp: Any, logits: Tensor, job: LossArgs, first: Any, reduce: Reduce
) -> tuple[Tensor, Tensor]:
    """The loss, and the gradient by a share of the logits; neither is recorded."""
    with torch.no_grad():
        return generic.sharded_cross_entropy_value_and_grad(xp, logits, job, first, reduce)


def sharded_linear_cross_entropy(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    job: LossArgs,
    first: Any,
    reduce: Reduce,
    block_size: int | None = None,
) -> Tensor:
    """The loss, reduced."""
    _constant(job)
    return generic.sharded_linear_cross_entropy(xp, X, W, bias, job, first, reduce, block_size, _linear_recorded)


def sharded_linear_cross_entropy_value_and_grad(
    xp: Any, X: Tensor, W: Tensor, bias: Tensor | None, job: LossArgs, *rest: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss, and its gradients; none is recorded."""
    with torch.no_grad(), torch.autocast(X.device.type, enabled=False):
        return generic.sharded_linear_cross_entropy_value_and_grad(xp, X, W, bias, job, *rest)
