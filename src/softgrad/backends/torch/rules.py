"""The loss as an operation that autograd records, its own gradient and second derivative as rules.

What a derivative is not asked for by is constant: all but the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import loss as loss_kernels
from ..._options import ARRAYS, LossArgs
from .._registry import call
from ..triton.graphs import loss_operator
from .autograd import Operation, batched, recorded, zero_hidden
from .blocks import XP, is_eager, is_eager_cotangent
from .shared import traced

#: Whether the backward pass that is running leaves its graph for another one.
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
#: The arrays of a loss that all have the samples' axes come first.
_NAMES = ("labels", "where", *(name for name in ARRAYS if name not in ("labels", "where", "sample_weight")))


def arrays_of(args: LossArgs) -> tuple[Tensor | None, ...]:
    """The arrays that a loss has beside logits and sample weights."""
    return tuple(getattr(args, name) for name in _NAMES)


def with_arrays(static: LossArgs, arrays: Any, weight: Tensor | None = None) -> LossArgs:
    """The arguments of a loss whose arrays are ``arrays_of`` it and the samples' weights."""
    return static._replace(**dict(zip(_NAMES, arrays, strict=True)), sample_weight=weight)


def _generic_losses(x: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
    args = with_arrays(static, arrays)
    if traced("cross_entropy", x, args):
        return loss_operator(x, args, True, False)[0].to(x.dtype)
    return loss_kernels.cross_entropy(XP, x, args)


def _generic_slopes(x: Tensor, weight: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
    args = with_arrays(static, arrays, weight)
    if traced("cross_entropy_grad", x, args):
        return loss_operator(x, args, False, True)[0]
    return loss_kernels.cross_entropy_grad(XP, x, args)


def _slope(x: Tensor, static: LossArgs, arrays: Any) -> Tensor:
    """Each sample's gradient."""
    return recorded(SLOPES, x, torch.ones_like(x.select(static.axis, 0)), static, *arrays)


def _scaled(slope: Tensor, factor: Tensor) -> Tensor:
    """Their product, in the slope's place if that is not needed again; 0 where the factor is, whatever the slope."""
    out = slope * factor if _keeps_graph() else slope.mul_(factor)
    nothing = factor == 0
    return out.masked_fill_(nothing, 0) if nothing.any() else out


class _Losses(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
        if not is_eager(x, *arrays):
            return _generic_losses(x, static, *arrays)
        loss: Tensor
        if not (x.requires_grad and x.is_cpu):
            loss = call("cross_entropy", XP, x, with_arrays(static, arrays))
            return loss
        loss, slope = call("cross_entropy_value_and_grad", XP, x, with_arrays(static, arrays))
        # handed on to the context with the output, which is the same object there
        loss.slope = slope
        return loss

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.static, *arrays = inputs
        ctx.save_for_backward(x, *arrays)
        ctx.save_for_forward(x, *arrays)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *arrays = ctx.saved_tensors[: 1 + len(_NAMES)]
        return recorded(SLOPES, x, grads[0], ctx.static, *arrays), None, *(None for _ in arrays)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, static: LossArgs, *arrays: Tensor | None) -> Any:
        x_, labels, where = batched(info, (in_dims[0], *in_dims[2:4]), x, *arrays[:2])
        return Losses.apply(x_, static._replace(axis=static.axis + 1), labels, where, *arrays[2:]), 0


class Losses(_Losses):
    """One loss a sample: (x, arguments without arrays, labels, where of x's shape or None, vectors by class).

    On a CPU the gradient comes with the loss, and is kept.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the gradient too."""
        _Losses.setup_context(ctx, inputs, output)
        x, _, *arrays = inputs
        ctx.save_for_backward(x, *arrays, vars(output).pop("slope", None))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradient times the cotangent; recorded again where that is to be differentiated."""
        slope = ctx.saved_tensors[-1]
        if slope is not None and not torch.is_grad_enabled() and is_eager_cotangent(grads[0], slope):
            return _scaled(slope, grads[0].unsqueeze(ctx.static.axis)), None, *(None for _ in _NAMES)
        return _Losses.backward(ctx, *grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The gradient times the tangent."""
        x, *arrays = ctx.saved_tensors[: 1 + len(_NAMES)]
        return (_slope(x, ctx.static, arrays) * zero_hidden(tangents[0], arrays[1])).sum(ctx.static.axis)


def slopes_vjp(ctx: Any, u: Tensor, x: Tensor, weight: Tensor, arrays: Any, slope: Callable[[], Tensor]) -> Any:
    """The cotangents of the arguments of ``Slopes`` from ``u``, by the second derivative and each sample's gradient."""
    u = zero_hidden(u, arrays[1])
    through_x = through_weight = None
    if ctx.needs_input_grad[0]:
        through_x = loss_kernels.cross_entropy_hvp(XP, x, with_arrays(ctx.static, arrays, weight), u)
    if ctx.needs_input_grad[1]:
        through_weight = (slope() * u).sum(ctx.static.axis, dtype=weight.dtype)
    return through_x, through_weight, None, *(None for _ in arrays)


class _Slopes(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, weight: Tensor, static: LossArgs, *arrays: Tensor | None) -> Tensor:
        if not is_eager_cotangent(weight, x, *arrays):
            return _generic_slopes(x, weight, static, *arrays)
        slope: Tensor = call("cross_entropy_grad", XP, x, with_arrays(static, arrays, weight))
        return slope

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, ctx.static, *arrays = inputs
        ctx.save_for_backward(x, weight, *arrays)
        ctx.save_for_forward(x, weight, *arrays)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, *arrays = ctx.saved_tensors
        return slopes_vjp(ctx, grads[0], x, weight, arrays, lambda: _slope(x, ctx.static, arrays))

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
            out = loss_kernels.cross_entropy_hvp(XP, x, args, zero_hidden(tangents[0], arrays[1]))
        if tangents[1] is not None:
            more = _slope(x, ctx.static, arrays) * tangents[1].unsqueeze(ctx.static.axis)
            out = more if out is None else out + more
        return out


LOSSES = Operation(Losses, _Losses, _generic_losses)
SLOPES = Operation(Slopes, _Slopes, _generic_slopes)


def losses(x: Tensor, args: LossArgs) -> Tensor:
    """One loss a sample, whatever its weight."""
    static = args._replace(**dict.fromkeys(ARRAYS), ignore_index=None, reduction="none")
    labels, where, *by_class = arrays_of(args)
    return recorded(LOSSES, x, static, labels, None if where is None else where.expand(x.shape), *by_class)
