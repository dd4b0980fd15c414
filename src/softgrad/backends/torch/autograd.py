"""Softmax, its logarithm and the log-sum-exp as operations that autograd records, every derivative a closed form.

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
from ..._kernels import log_probs as log_prob_kernels
from ..._kernels.scaling import Scaling
from .._registry import call
from .blocks import XP, is_eager, kept_where
from .derivatives import log_softmax_jvp, log_softmax_vjp, softmax_vjp
from .shared import traced


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
    kernel = partial(call, name) if is_eager(x, where) else getattr(high_kernels, name)
    value: Tensor = kernel(XP, x, axis, where, precision)
    return value


def softmax(x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Tensor:
    """The value of a softmax."""
    return _value("softmax", x, where, axis, precision)


def log_softmax(x: Tensor, where: Tensor | None, axis: int, precision: str | None, scaling: Scaling) -> Tensor:
    """The value of the log-softmax of scaled logits."""
    if scaling.identity:
        return _value("log_softmax", x, where, axis, precision)
    return log_prob_kernels.scaled_log_softmax(XP, x, axis, where, precision, scaling)


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


def zero_hidden(a: Tensor, where: Tensor | None) -> Tensor:
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
        return softmax_vjp(p, zero_hidden(grads[0], where), ctx.axis), None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, where: Tensor | None, axis: int, precision: str | None) -> Any:
        x_, where = batched(info, in_dims, x, where)
        return Softmax.apply(x_, where, axis + 1, precision), 0


class Softmax(_Softmax):
    """``exp(x) / sum(exp(x))``: (x, where of x's shape or None, axis, precision)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The Jacobian is symmetric."""
        p, where = ctx.saved_tensors
        return zero_hidden(softmax_vjp(p, zero_hidden(tangents[0], where), ctx.axis), where)


def _sloped(g: Tensor, x: Tensor | None, where: Tensor | None, scaling: Scaling) -> Tensor:
    """A derivative by scaled logits as one by the logits, which are there for a softcap."""
    at: Tensor = None if x is None else zero_hidden(x, where)
    sloped: Tensor = log_prob_kernels.sloped(XP, g, at, scaling)
    return sloped


class _LogSoftmax(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, where: Tensor | None, axis: int, precision: str | None, scaling: Scaling) -> Tensor:
        return log_softmax(x, where, axis, precision, scaling)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, where, ctx.axis, _, ctx.scaling = inputs
        arrays = output, where, None if ctx.scaling.softcap is None else x
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        log_p, where, x = ctx.saved_tensors
        g = log_softmax_vjp(log_p, zero_hidden(grads[0], where), ctx.axis)
        return zero_hidden(_sloped(g, x, where, ctx.scaling), where), None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, where: Tensor | None, axis: int, precision: str | None, scaling: Scaling
    ) -> Any:
        x_, where = batched(info, in_dims, x, where)
        return LogSoftmax.apply(x_, where, axis + 1, precision, scaling), 0


class LogSoftmax(_LogSoftmax):
    """``z - logsumexp(z)`` of scaled logits z: (x, where of x's shape or None, axis, precision, scaling)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """``t - sum(p t)``, where ``t`` is the tangent of z."""
        log_p, where, x = ctx.saved_tensors
        t = _sloped(zero_hidden(tangents[0], where), x, where, ctx.scaling)
        return zero_hidden(log_softmax_jvp(log_p, t, ctx.axis), where)


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
    """``log(sum(exp(x)))``: (x, where of x's shape or None, axis, precision)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """``sum(p t)``."""
        x, where = ctx.saved_tensors
        p = recorded(SOFTMAX, x, where, ctx.axis, ctx.precision)
        return (p * zero_hidden(tangents[0], where)).sum(ctx.axis)


class Operation(NamedTuple):
    """An operation as all others call it, as a compiler does, and as a compiler does where no gradient is recorded."""

    full: Any
    traced: Any
    generic: Callable[..., Tensor]


SOFTMAX = Operation(Softmax, _Softmax, softmax)
LOG_SOFTMAX = Operation(LogSoftmax, _LogSoftmax, log_softmax)
LOG_SUM_EXP = Operation(LogSumExp, _LogSumExp, logsumexp)


def recorded(operation: Operation, x: Tensor, *args: Any) -> Any:
    """Apply an operation."""
    if not torch.compiler.is_compiling():
        return operation.full.apply(x, *args)
    if x.requires_grad and torch.is_grad_enabled():
        return operation.traced.apply(x, *args)
    return operation.generic(x, *args)
