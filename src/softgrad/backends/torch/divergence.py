"""The divergence of two softmaxes on PyTorch tensors: an operation with closed forms for its derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import divergence as generic
from ..._kernels.divergence import NAMES, DivergenceArgs
from .. import _divergence
from .autograd import batched, nested_forward
from .blocks import XP, is_eager, is_eager_cotangent


def _args(where: Tensor | None, options: tuple[Any, ...]) -> DivergenceArgs:
    axis, beta, temperature = options
    return DivergenceArgs(axis, None, beta, temperature, where)


def _plain_rows(x: Tensor, y: Tensor, args: DivergenceArgs, wrt: tuple[str, ...]) -> Any:
    """Rows of tensors that nothing records: on a CPU a block at a time."""
    if not x.is_cpu or x.numel() == 0:
        return generic.rows(XP, x, y, args, wrt)
    # threads share what is in one operation
    return _divergence.rows(XP, x, y, args, wrt, lambda task, n: task(0, n))


def _value(x: Tensor, y: Tensor, where: Tensor | None, *options: Any) -> Tensor:
    rows = _plain_rows if is_eager(x, y, where) else partial(generic.rows, XP)
    return rows(x, y, _args(where, options), ())[0]


def _slopes(
    c: Tensor, x: Tensor, y: Tensor, where: Tensor | None, options: tuple[Any, ...], needed: Any
) -> dict[str, Tensor]:
    names = tuple(name for name, need in zip(NAMES, needed, strict=True) if need)
    rows = _plain_rows if is_eager_cotangent(c, x, y, where) else partial(generic.rows, XP)
    return dict(zip(names, rows(x, y, _args(where, options), names)[1], strict=True))


def _pulled(c: Tensor, x: Tensor, y: Tensor, where: Tensor | None, ctx: Any) -> tuple[Any, ...]:
    """What ``backward`` gives."""
    found = _slopes(c, x, y, where, ctx.options, ctx.needs_input_grad[:2])
    return *(found[name] * c if name in found else None for name in NAMES), None, None, None, None


class _Each(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, y: Tensor, where: Tensor | None, *options: Any) -> Tensor:
        return _value(x, y, where, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.options = inputs[3:]
        ctx.save_for_backward(*inputs[:3])
        ctx.save_for_forward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, y, where = ctx.saved_tensors[:3]
        return _pulled(grads[0], x, y, where, ctx)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, y: Tensor, where: Tensor | None, axis: int, beta: float, temperature: float
    ) -> Any:
        return Each.apply(*batched(info, in_dims, x, y, where), axis + 1, beta, temperature), 0


class Each(_Each):
    """One divergence a sample, the class axis kept: (x, y, where or None, axis, beta, temperature)."""

    @staticmethod
    def forward(x: Tensor, y: Tensor, where: Tensor | None, *options: Any) -> Tensor:
        """The values; on a CPU with the gradient by ``x``, from the same exponentials."""
        if not (x.requires_grad and x.is_cpu and is_eager(x, y, where)):
            return _value(x, y, where, *options)
        value, (slope,) = _plain_rows(x, y, _args(where, options), NAMES[:1])
        # handed on to the context with the output, which is the same object there
        value.slope = slope
        return value

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the gradient too."""
        _Each.setup_context(ctx, inputs, output)
        ctx.save_for_backward(*inputs[:3], vars(output).pop("slope", None))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradients times the cotangent; recorded again where that is to be differentiated."""
        x, y, where, slope = ctx.saved_tensors
        if slope is None or torch.is_grad_enabled() or not is_eager_cotangent(grads[0], slope):
            return _pulled(grads[0], x, y, where, ctx)
        by_y = None
        if ctx.needs_input_grad[1]:
            by_y = _slopes(grads[0], x, y, where, ctx.options, (False, True))[NAMES[1]] * grads[0]
        return slope * grads[0], by_y, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The gradients times the tangents."""
        x, y, where = ctx.saved_tensors[:3]
        given = dict(zip(NAMES, tangents, strict=False))
        found = _slopes(x, x, y, where, ctx.options, [t is not None for t in given.values()])
        parts = [(g * given[name]).sum(ctx.options[0], keepdim=True) for name, g in found.items()]
        return sum(parts[1:], parts[0])


def _rows(xp: Any, x: Tensor, y: Tensor, args: DivergenceArgs, wrt: tuple[str, ...]) -> Any:
    """The rows of the generic kernel; of a value that something records, the operation."""
    if is_eager(x, y, args.where):
        return _plain_rows(x, y, args, wrt)
    if wrt or nested_forward():
        return generic.rows(xp, x, y, args, wrt)
    compiling = torch.compiler.is_compiling()
    if compiling and not (torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)):
        return generic.rows(xp, x, y, args, wrt)
    where = None if args.where is None else args.where.expand(x.shape)
    # a compiler cannot follow an operation with a rule for forward mode
    operation = _Each if compiling else Each
    return operation.apply(x, y, where, args.axis, args.beta, args.temperature), ()


def divergence(xp: Any, logits: Tensor, args: DivergenceArgs, wrt: tuple[str, ...] = ()) -> Any:
    """The divergence, reduced, and its gradients by ``wrt``."""
    axis, last = args.axis, logits.ndim - 1
    given = logits, args.target, args.where, args.labels
    lies = axis == last and all(a is None or a.is_contiguous() for a in given)
    if not lies and logits.is_cpu and is_eager(logits, args.target, args.where):

        def turn(a: Tensor) -> Tensor:
            return a.movedim(axis, -1).contiguous()

        where = None if args.where is None else turn(args.where.expand(logits.shape))
        logits, args = turn(logits), _divergence.turned(args, turn, where)
    grads: Any
    value, grads = generic.divergence(xp, logits, args, wrt, _rows)
    return value, grads if args.axis == axis else tuple(g.movedim(last, axis) for g in grads)
