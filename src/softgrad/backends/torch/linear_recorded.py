"""The linear softmax model as an operation that autograd records: nothing of the logits' size is kept.

The gradients are made with the value, block by block, and scaled when the cotangent comes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import linear as linear_kernels
from ..._options import LossArgs
from .._registry import call
from . import linear as torch_linear
from . import recorded
from .blocks import XP, autocast, is_eager_cotangent, why_not_eager

NAMES = ("X", "W", "bias")
_BOTH = "linear_cross_entropy_value_and_grad"
#: The standard's functions; of the names of one function the one that autograd's own batches of cotangents know.
_XP: Any = SimpleNamespace(**{**vars(XP), "concat": lambda arrays, axis: torch.cat(arrays, axis)})


def recordable(X: Tensor, W: Tensor, bias: Tensor | None, *extra: Tensor | None) -> bool:
    """Whether only autograd keeps the in-place kernels from running, and only for arguments they differentiate."""
    with torch.no_grad():
        free = why_not_eager(X, W, bias, *extra) is None
    return free and not any(a is not None and a.requires_grad for a in extra)


def needed_of(parameters: tuple[Any, ...], needed: Any) -> tuple[str, ...]:
    """Which of X, W and bias a gradient is needed by."""
    return tuple(name for name, a, need in zip(NAMES, parameters, needed, strict=True) if a is not None and need)


def by_name(names: tuple[str, ...], values: Any) -> list[Any]:
    """Values by name, in the order of X, W and bias."""
    held = dict(zip(names, values, strict=True))
    return [held.get(name) for name in NAMES]


class LinearLoss(Function):  # type: ignore[misc]
    """The reduced loss, or each sample's: (xp, X, W, bias, args, block_size)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Value, and unless the cotangent is one a sample its gradients."""
        xp, X, W, bias, args, block_size = inputs
        ctx.xp, ctx.args, ctx.block_size = xp, args, block_size
        ctx.names = needed_of((X, W, bias), ctx.needs_input_grad[1:4])
        grads: tuple[Tensor, ...] = ()
        if args.reduction == "none":
            value = call("linear_cross_entropy", xp, X, W, bias, args, block_size)
        elif X.is_cpu:
            # the gradients of float16 need the range of single precision
            x, w, b = (a.float() if a is not None and a.dtype is torch.float16 else a for a in (X, W, bias))
            value, grads = call(_BOTH, xp, x, w, b, args, ctx.names, None, block_size)
            value = value.to(W.dtype) if w is not W and not autocast(X) else value
        else:
            value, grads = torch_linear.value_and_grad(xp, X, W, bias, args, ctx.names, None, block_size, final=False)
        ctx.save_for_backward(X, W, bias, *grads)
        return value

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        """The gradients times the cotangent."""
        X, W, bias, *grads = ctx.saved_tensors
        c = cotangents[0]
        if ctx.args.reduction == "none":
            out = _each(ctx, X, W, bias, c)
        elif torch.is_grad_enabled():
            out = LinearSlope.apply(ctx.xp, X, W, bias, ctx.args, ctx.block_size, ctx.names, c, *grads)
        else:
            out = [(g * c).to(g.dtype) for g in grads]
        return None, *by_name(ctx.names, out), None, None


def _each(ctx: Any, X: Tensor, W: Tensor, bias: Tensor | None, c: Tensor) -> Any:
    """The gradients with a cotangent for each sample: a weight of the samples."""
    args: LossArgs = ctx.args
    weight = c if args.sample_weight is None else c * args.sample_weight
    again = torch.is_grad_enabled()
    if not again and is_eager_cotangent(weight):
        args = args._replace(sample_weight=weight, reduction="sum")
        return call(_BOTH, ctx.xp, X, W, bias, args, ctx.names, None, ctx.block_size)[1]
    with torch.enable_grad():
        each = linear_kernels.linear_cross_entropy(ctx.xp, X, W, bias, args, ctx.block_size, recorded_loss)
    inputs = [a for a, name in zip((X, W, bias), NAMES, strict=True) if name in ctx.names]
    return torch.autograd.grad(each, inputs, c, create_graph=again)


def recorded_loss(xp: Any, logits: Tensor, args: LossArgs) -> Tensor:
    """The loss of a block, as operations that can be differentiated again."""
    return recorded.cross_entropy(logits, args)


class LinearSlope(Function):  # type: ignore[misc]
    """The gradients times a cotangent: (xp, X, W, bias, args, block_size, names, cotangent, *gradients)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        """Scale them."""
        xp, X, W, bias, args, block_size, names, c, *grads = inputs
        ctx.xp, ctx.args, ctx.block_size, ctx.names = xp, args, block_size, names
        ctx.save_for_backward(X, W, bias, c, *grads)
        return tuple((g * c).to(g.dtype) for g in grads)

    @staticmethod
    def backward(ctx: Any, *vectors: Any) -> Any:
        """The second derivative times the vectors, and their product with the gradients."""
        X, W, bias, c, *_ = ctx.saved_tensors
        products = linear_kernels.linear_cross_entropy_hvp(
            _XP, X, W, bias, ctx.args, ctx.names, vectors, ctx.block_size
        )
        through_c = None
        if ctx.needs_input_grad[7]:
            grads = ctx.saved_tensors[4:]
            through_c = sum((g * u).sum() for g, u in zip(grads, vectors, strict=True))
        scaled = [h * c for h in products]
        return None, *by_name(ctx.names, scaled), None, None, None, through_c, *([None] * len(vectors))
