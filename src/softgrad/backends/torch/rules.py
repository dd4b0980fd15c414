"""The generic kernels of a loss as operations that autograd records, their own gradient and second derivative as rules.

For the options that no other kernel takes. What a derivative is not asked for by is constant: all but the logits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import loss as loss_kernels
from ..._options import ARRAYS, LossArgs
from .autograd import Operation, batched, recorded
from .blocks import XP, kept_where

#: The arrays of a loss that all have the samples' axes come first.
_NAMES = ("labels", "where", *(name for name in ARRAYS if name not in ("labels", "where", "sample_weight")))


def arrays_of(args: LossArgs) -> tuple[Tensor | None, ...]:
    """The arrays that a loss has beside logits and sample weights."""
    return tuple(getattr(args, name) for name in _NAMES)


def with_arrays(static: LossArgs, arrays: Any, weight: Tensor | None = None) -> LossArgs:
    """The arguments of a loss whose arrays are ``arrays_of`` it and the samples' weights."""
    return static._replace(**dict(zip(_NAMES, arrays, strict=True)), sample_weight=weight)


def _seen(a: Tensor, where: Tensor | None) -> Tensor:
    return a if where is None else kept_where(where.expand(a.shape), a)


def _generic_losses(x: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
    return loss_kernels.cross_entropy(XP, x, with_arrays(static, arrays))


def _generic_slopes(x: Tensor, weight: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
    return loss_kernels.cross_entropy_grad(XP, x, with_arrays(static, arrays, weight))


class _Losses(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
        return _generic_losses(x, static, *arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.static, *arrays = inputs
        ctx.save_for_backward(x, *arrays)
        ctx.save_for_forward(x, *arrays)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *arrays = ctx.saved_tensors
        return recorded(SLOPES, x, grads[0], ctx.static, *arrays), None, *(None for _ in arrays)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, static: LossArgs, *arrays: Tensor | None) -> Any:
        x_, labels, where = batched(info, (in_dims[0], *in_dims[2:4]), x, *arrays[:2])
        return Losses.apply(x_, static._replace(axis=static.axis + 1), labels, where, *arrays[2:]), 0


class Losses(_Losses):
    """One loss a sample: (x, arguments without arrays, labels, where of x's shape or None, vectors by class)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The gradient times the tangent."""
        x, *arrays = ctx.saved_tensors
        ones = torch.ones_like(x.select(ctx.static.axis, 0))
        slope = recorded(SLOPES, x, ones, ctx.static, *arrays)
        return (slope * _seen(tangents[0], arrays[1])).sum(ctx.static.axis)


class _Slopes(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, weight: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
        return _generic_slopes(x, weight, static, *arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, ctx.static, *arrays = inputs
        ctx.save_for_backward(x, weight, *arrays)
        ctx.save_for_forward(x, weight, *arrays)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, *arrays = ctx.saved_tensors
        u = _seen(grads[0], arrays[1])
        through_x = through_weight = None
        if ctx.needs_input_grad[0]:
            through_x = loss_kernels.cross_entropy_hvp(XP, x, with_arrays(ctx.static, arrays, weight), u)
        if ctx.needs_input_grad[1]:
            slope = recorded(SLOPES, x, torch.ones_like(weight), ctx.static, *arrays)
            through_weight = (slope * u).sum(ctx.static.axis)
        return through_x, through_weight, None, *(None for _ in arrays)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, weight: Tensor, static: LossArgs, *arrays: Tensor | None) -> Any:
        x_, weight_, labels, where = batched(info, (*in_dims[:2], *in_dims[3:5]), x, weight, *arrays[:2])
        return Slopes.apply(x_, weight_, static._replace(axis=static.axis + 1), labels, where, *arrays[2:]), 0


class Slopes(_Slopes):
    """The gradient of each sample's loss times its weight: (x, weight, arguments without arrays, arrays as above)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """By the second derivative, and by the weight."""
        x, weight, *arrays = ctx.saved_tensors
        out = None
        if tangents[0] is not None:
            args = with_arrays(ctx.static, arrays, weight)
            out = loss_kernels.cross_entropy_hvp(XP, x, args, _seen(tangents[0], arrays[1]))
        if tangents[1] is not None:
            each = recorded(SLOPES, x, torch.ones_like(weight), ctx.static, *arrays)
            more = each * tangents[1].unsqueeze(ctx.static.axis)
            out = more if out is None else out + more
        return out


LOSSES = Operation(Losses, _Losses, _generic_losses)
SLOPES = Operation(Slopes, _Slopes, _generic_slopes)


def losses(x: Tensor, args: LossArgs) -> Tensor:
    """One loss a sample, whatever its weight."""
    static = args._replace(**dict.fromkeys(ARRAYS), ignore_index=None, reduction="none")
    labels, where, *by_class = arrays_of(args)
    return recorded(LOSSES, x, static, labels, None if where is None else where.expand(x.shape), *by_class)
