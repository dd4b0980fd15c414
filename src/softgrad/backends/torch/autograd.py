"""Softmax and its losses as operations that autograd records, with closed forms for every derivative.

A compiler cannot follow an operation with a rule for forward mode, so each comes as a class without one, for it, and
a subclass that has it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import high as high_kernels
from ..._kernels import loss as loss_kernels
from ..._options import LossArgs
from .._registry import call
from ..triton.graphs import loss_operator
from .blocks import XP, kept_where, plain, plain_cotangent
from .pull import log_softmax_pull, log_softmax_push, softmax_pull
from .shared import traced

#: Whether the backward pass that is running leaves its graph for another one.
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def nested_forward() -> bool:
    """Whether two forward-mode transforms hold each other, whose tangents an operation of ours would mix up."""
    if torch.compiler.is_compiling():
        return False
    levels = torch._C._functorch.get_interpreter_stack()
    return levels is not None and sum(level.key() == torch._C._functorch.TransformType.Jvp for level in levels) > 1


def _value(name: str, x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
    if traced(name, x, axis, where, precision):
        traced_value: Tensor = torch.ops.softgrad.dense(x, name, axis, where)
        return traced_value
    kernel = partial(call, name) if plain(x, where) else getattr(high_kernels, name)
    value: Tensor = kernel(XP, x, axis, where, precision)
    return value


def softmax(x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
    """The value of a softmax."""
    return _value("softmax", x, where, axis, precision)


def log_softmax(x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
    """The value of a log-softmax."""
    return _value("log_softmax", x, where, axis, precision)


def logsumexp(x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
    """The value of a log-sum-exp, without ``axis``."""
    return _value("logsumexp", x, where, axis, precision)


def batched(info: Any, dims: tuple[Any, ...], *arrays: Tensor | None) -> list[Tensor | None]:
    """Arrays with the batch as their first axis."""
    out: list[Tensor | None] = []
    for a, dim in zip(arrays, dims, strict=False):
        if a is None:
            out.append(None)
        else:
            out.append(a.expand(info.batch_size, *a.shape) if dim is None else a.movedim(dim, 0))
    return out


def seen(a: Tensor, where: Tensor | None) -> Tensor:
    """``a`` with 0 at the classes that are hidden."""
    return a if where is None else kept_where(where, a)


class _Softmax(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
        return softmax(x, where, axis, precision)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.axis = inputs[2]
        ctx.save_for_backward(output, inputs[1])
        ctx.save_for_forward(output, inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        p, where = ctx.saved_tensors
        return softmax_pull(p, seen(grads[0], where), ctx.axis), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Any:
        x_, where = batched(info, in_dims, x, where)
        return Softmax.apply(x_, where, axis + 1, precision), 0


class Softmax(_Softmax):
    """exp(x) / sum(exp(x)): (x, where of x's shape or None, axis, precision)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The Jacobian is symmetric."""
        p, where = ctx.saved_tensors
        return seen(softmax_pull(p, seen(tangents[0], where), ctx.axis), where)


class _LogSoftmax(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
        return log_softmax(x, where, axis, precision)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.axis = inputs[2]
        ctx.save_for_backward(output, inputs[1])
        ctx.save_for_forward(output, inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        log_p, where = ctx.saved_tensors
        return seen(log_softmax_pull(log_p, seen(grads[0], where), ctx.axis), where), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Any:
        x_, where = batched(info, in_dims, x, where)
        return LogSoftmax.apply(x_, where, axis + 1, precision), 0


class LogSoftmax(_LogSoftmax):
    """X - logsumexp(x): (x, where of x's shape or None, axis, precision)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """T - sum(p t)."""
        log_p, where = ctx.saved_tensors
        return seen(log_softmax_push(log_p, seen(tangents[0], where), ctx.axis), where)


class _LogSumExp(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
        return logsumexp(x, where, axis, precision)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.axis, ctx.precision = inputs[2:]
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, where = ctx.saved_tensors
        p = recorded(SOFTMAX, x, where, ctx.axis, ctx.precision)
        return p * grads[0].unsqueeze(ctx.axis), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Any:
        x_, where = batched(info, in_dims, x, where)
        return LogSumExp.apply(x_, where, axis + 1, precision), 0


class LogSumExp(_LogSumExp):
    """log(sum(exp(x))): (x, where of x's shape or None, axis, precision)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """sum(p t)."""
        x, where = ctx.saved_tensors
        p = recorded(SOFTMAX, x, where, ctx.axis, ctx.precision)
        return (p * seen(tangents[0], where)).sum(ctx.axis)


def _job(
    target: Tensor, where: Tensor | None, axis: int, precision: str | None, weight: Tensor | None = None
) -> LossArgs:
    return LossArgs(
        axis=axis,
        labels=target,
        dense=target.is_floating_point(),
        sample_weight=weight,
        where=where,
        reduction="none",
        precision=precision,
    )


def _scaled(slope: Tensor, factor: Tensor) -> Tensor:
    """Their product, in the slope's place if that is not needed again; 0 where the factor is, whatever the slope."""
    out = slope * factor if _keeps_graph() else slope.mul_(factor)
    nothing = factor == 0
    return out.masked_fill_(nothing, 0) if nothing.any() else out


class _Losses(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, target: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
        if not plain(x, target, where):
            return _generic_losses(x, target, where, axis, precision)
        job = _job(target, where, axis, precision)
        loss: Tensor
        if not (x.requires_grad and x.is_cpu):
            loss = call("cross_entropy", XP, x, job)
            return loss
        loss, slope = call("cross_entropy_value_and_grad", XP, x, job)
        # handed on to the context with the output, which is the same object there
        loss.slope = slope
        return loss

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.axis, ctx.precision = inputs[3:]
        ctx.save_for_backward(*inputs[:3])
        ctx.save_for_forward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, target, where = ctx.saved_tensors[:3]
        return recorded(SLOPES, x, target, grads[0], where, ctx.axis, ctx.precision), None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, target: Tensor, where: Tensor | None, axis: int, precision: str | None
    ) -> Any:
        arrays = batched(info, in_dims, x, target, where)
        return Losses.apply(*arrays, axis + 1, precision), 0


class Losses(_Losses):
    """One loss a sample: (x, class indices or weights by class, where or None, axis, precision).

    Weights by class are constants of it. On a CPU the gradient comes with the loss, and is kept.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the gradient too."""
        _Losses.setup_context(ctx, inputs, output)
        ctx.save_for_backward(*inputs[:3], vars(output).pop("slope", None))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradient times the cotangent; recorded anew where that is to be differentiated."""
        slope = ctx.saved_tensors[3]
        if slope is not None and not torch.is_grad_enabled() and plain_cotangent(grads[0], slope):
            return _scaled(slope, grads[0].unsqueeze(ctx.axis)), None, None, None, None
        return _Losses.backward(ctx, *grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The gradient times the tangent."""
        x, target, where = ctx.saved_tensors[:3]
        slope = _slope(x, target, where, ctx.axis, ctx.precision)
        return (slope * seen(tangents[0], where)).sum(ctx.axis)


def _slope(x: Tensor, target: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
    """Each sample's gradient."""
    ones = torch.ones_like(x.select(axis, 0))
    return recorded(SLOPES, x, target, ones, where, axis, precision)


class _Slopes(Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        x: Tensor, target: Tensor, weight: Tensor, where: Tensor | None, axis: int, precision: str | None
    ) -> Tensor:
        if not plain_cotangent(weight, x, target, where):
            return _generic_slopes(x, target, weight, where, axis, precision)
        slope: Tensor = call("cross_entropy_grad", XP, x, _job(target, where, axis, precision, weight))
        return slope

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.axis, ctx.precision = inputs[4:]
        ctx.save_for_backward(*inputs[:4])
        ctx.save_for_forward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, target, weight, where = ctx.saved_tensors
        job = _job(target, where, ctx.axis, ctx.precision, weight)
        u = seen(grads[0], where)
        through_x = through_weight = None
        if ctx.needs_input_grad[0]:
            through_x = loss_kernels.cross_entropy_hvp(XP, x, job, u)
        if ctx.needs_input_grad[2]:
            through_weight = (_slope(x, target, where, ctx.axis, ctx.precision) * u).sum(ctx.axis)
        return through_x, None, through_weight, None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: Any,
        x: Tensor,
        target: Tensor,
        weight: Tensor,
        where: Tensor | None,
        axis: int,
        precision: str | None,
    ) -> Any:
        arrays = batched(info, in_dims, x, target, weight, where)
        return Slopes.apply(*arrays, axis + 1, precision), 0


class Slopes(_Slopes):
    """The gradient of each sample's loss times its weight: (x, target, weight, where or None, axis, precision)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """By the second derivative, and by the weight."""
        x, target, weight, where = ctx.saved_tensors
        out = None
        if tangents[0] is not None:
            job = _job(target, where, ctx.axis, ctx.precision, weight)
            out = loss_kernels.cross_entropy_hvp(XP, x, job, seen(tangents[0], where))
        if tangents[2] is not None:
            more = _slope(x, target, where, ctx.axis, ctx.precision) * tangents[2].unsqueeze(ctx.axis)
            out = more if out is None else out + more
        return out


class Operation(NamedTuple):
    """An operation as all others call it, as a compiler does, and as a compiler does where no gradient is recorded."""

    full: Any
    traced: Any
    generic: Callable[..., Tensor]


def _generic_losses(x: Tensor, target: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
    job = _job(target, where, axis, precision)
    if traced("cross_entropy", x, job):
        return loss_operator(x, job, True, False)[0].to(x.dtype)
    return loss_kernels.cross_entropy(XP, x, job)


def _generic_slopes(
    x: Tensor, target: Tensor, weight: Tensor, where: Tensor | None, axis: int, precision: str | None
) -> Tensor:
    job = _job(target, where, axis, precision, weight)
    if traced("cross_entropy_grad", x, job):
        return loss_operator(x, job, False, True)[0]
    return loss_kernels.cross_entropy_grad(XP, x, job)


SOFTMAX = Operation(Softmax, _Softmax, softmax)
LOG_SOFTMAX = Operation(LogSoftmax, _LogSoftmax, log_softmax)
LOG_SUM_EXP = Operation(LogSumExp, _LogSumExp, logsumexp)
LOSSES = Operation(Losses, _Losses, _generic_losses)
SLOPES = Operation(Slopes, _Slopes, _generic_slopes)


def recorded(operation: Operation, x: Tensor, *args: Any) -> Any:
    """Apply an operation."""
    if not torch.compiler.is_compiling():
        return operation.full.apply(x, *args)
    if x.requires_grad and torch.is_grad_enabled():
        return operation.traced.apply(x, *args)
    return operation.generic(x, *args)
