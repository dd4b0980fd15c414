"""The cross-entropy that autograd records where Triton's kernels run: one for the losses, one for their gradient.

The logits are kept in their own dtype, half precision too, and nothing else of their size.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import loss as loss_kernels
from ..._options import ARRAYS, LossArgs
from ..triton.graphs import loss_operator
from . import shared
from .blocks import XP, is_eager_cotangent, why_not_eager
from .loss import label_weight
from .rules import arrays_of, slopes_vjp, with_arrays

_Array: TypeAlias = Tensor | None


def takes(x: Tensor, args: LossArgs) -> bool:
    """Whether autograd records the logits alone, or also the samples' weights, and a kernel has this loss."""
    if any(a is not None and a.requires_grad for a in arrays_of(args)) or not x.requires_grad:
        return False
    if torch.compiler.is_compiling():
        return torch.is_grad_enabled() and shared.traced("cross_entropy", x, args)
    if not torch.is_grad_enabled() or not shared.on_gpu("cross_entropy", x, args):
        return False
    with torch.no_grad():
        return why_not_eager(x, *args.arrays) is None


def _computed(x: Tensor, args: LossArgs, gradient: bool) -> Tensor:
    """Each sample's loss in float32, or the gradient of their sum."""
    if torch.compiler.is_compiling():
        return loss_operator(x, args, not gradient, gradient)[0]
    out: Tensor = shared.imported("..triton.loss").computed(x, args, not gradient, gradient)[gradient]
    return out


class _Losses(Function):  # type: ignore[misc]
    """One loss a sample, in float32: (x, args without arrays, the arrays of ``arrays_of``), one by one for Dynamo."""

    @staticmethod
    def forward(x: Tensor, static: LossArgs, labels: Tensor, where: _Array, shift: _Array, balance: _Array) -> Tensor:
        return _computed(x, with_arrays(static, (labels, where, shift, balance)), False)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.static = inputs[1]
        ctx.save_for_backward(inputs[0], *inputs[2:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, labels, where, shift, balance = ctx.saved_tensors
        return _Slopes.apply(x, grads[0], ctx.static, labels, where, shift, balance), None, None, None, None, None


class _Slopes(Function):  # type: ignore[misc]
    """The gradient of each loss times a weight: (x, weight, args without arrays, the arrays)."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, static: LossArgs, labels: Tensor, where: _Array, shift: _Array, balance: _Array
    ) -> Tensor:
        args = with_arrays(static, (labels, where, shift, balance), weight)
        if torch.compiler.is_compiling() or is_eager_cotangent(weight, x):
            return _computed(x, args, True)
        return loss_kernels.cross_entropy_grad(XP, x, args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.static = inputs[2]
        ctx.save_for_backward(*inputs[:2], *inputs[3:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, *arrays = ctx.saved_tensors
        return slopes_vjp(
            ctx, grads[0], x, weight, arrays, lambda: _Slopes.apply(x, torch.ones_like(weight), ctx.static, *arrays)
        )


def _target_weight(x: Tensor, args: LossArgs) -> Tensor | None:
    """The class weight of each sample's target, the class axis kept; None for 1."""
    if args.dense:
        shape = (-1,) + (1,) * (x.ndim - 1 - args.axis)
        q = args.labels if args.class_weight is None else args.labels * args.class_weight.view(shape)
        return q.sum(args.axis, keepdim=True, dtype=torch.float32)
    return label_weight(args, x)


def cross_entropy(x: Tensor, args: LossArgs) -> Tensor:
    """The loss, reduced, in float32."""
    static = args._replace(**dict.fromkeys(ARRAYS), reduction="none")
    each = _Losses.apply(x, static, *arrays_of(args)).unsqueeze(args.axis)
    like = each.expand(x.shape)
    kept, weight = loss_kernels.keep(XP, args, like)
    weighted: Tensor = loss_kernels.scaled(XP, each, kept, weight)
    if args.reduction == "none":
        return weighted.squeeze(args.axis)
    value = loss_kernels.sum_all(XP, weighted)
    if args.reduction == "sum":
        return value
    return loss_kernels.divided(XP, value, loss_kernels.weight_sum(XP, like, args, _target_weight(like, args)))
