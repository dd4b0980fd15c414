"""The divergence of two linear models as an operation that autograd records: nothing of the logits' size is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import linear_divergence as generic
from ..._kernels.divergence import DivergenceArgs
from ..._kernels.linear_divergence import Given, Model
from . import divergence
from .blocks import why_not_eager
from .linear_recorded import NAMES, by_name, needed_of


def _run(
    xp: Any,
    student: tuple[Any, ...],
    target: Model | Given,
    args: DivergenceArgs,
    wrt: tuple[str, ...],
    size: int | None,
) -> Any:
    X, W, bias = student
    return generic.linear_divergence(xp, X, W, bias, target, args, wrt, size, divergence.divergence)


class LinearDivergence(Function):  # type: ignore[misc]
    """The divergence: (X, W, bias, xp, target, args, block_size)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Value, and unless the cotangent is one a sample its gradients."""
        student, (xp, target, args, size) = inputs[:3], inputs[3:]
        names = needed_of(student, ctx.needs_input_grad[:3])
        ctx.names = names
        value, grads = _run(xp, student, target, args, () if args.reduction == "none" else names, size)
        ctx.rest = (xp, target, args, size)
        ctx.save_for_backward(*student, *grads)
        return value

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        """The gradients times the cotangent."""
        student, c = tuple(ctx.saved_tensors[:3]), cotangents[0]
        xp, target, args, size = ctx.rest
        again = torch.is_grad_enabled()
        if again or (args.reduction == "none" and why_not_eager(c) is not None):
            inputs = [a for a, name in zip(student, NAMES, strict=True) if name in ctx.names]
            with torch.enable_grad():
                value = _run(xp, student, target, args, (), size)[0]
            grads = torch.autograd.grad(value, inputs, c, create_graph=again)
        elif args.reduction == "none":
            weight = c if args.sample_weight is None else c * args.sample_weight
            args = args._replace(sample_weight=weight, reduction="sum")
            grads = _run(xp, student, target, args, ctx.names, size)[1]
        else:
            grads = tuple((g * c).to(g.dtype) for g in ctx.saved_tensors[3:])
        return *by_name(ctx.names, grads), None, None, None, None


def linear_divergence(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    target: Model | Given,
    args: DivergenceArgs,
    wrt: tuple[str, ...] = (),
    block_size: int | None = None,
) -> Any:
    """The divergence, reduced, and its gradients by some of W, bias and X."""
    given: tuple[Tensor, ...] = target
    constants: list[Tensor] = [None if a is None else a.detach() for a in given]
    target = type(target)(*constants)
    student = (X, W, bias)
    with torch.no_grad():
        free = why_not_eager(*student, *target, args.where, args.sample_weight) is None
    weighted = args.sample_weight is not None and args.sample_weight.requires_grad
    recorded = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in student)
    if wrt or not free or weighted or not recorded:
        return _run(xp, student, target, args, wrt, block_size)
    return LinearDivergence.apply(*student, xp, target, args, block_size), ()
