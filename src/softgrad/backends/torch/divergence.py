"""The divergence of two softmaxes on PyTorch tensors: an operation with closed forms for its derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import divergence as generic
from ..._kernels.divergence import NAMES, DivergenceArgs
from .autograd import XP, batched, nested_forward
from .blocks import plain


def _args(where: Tensor | None, options: tuple[Any, ...]) -> DivergenceArgs:
    axis, beta, temperature = options
    return DivergenceArgs(axis, None, beta, temperature, where)


def _value(x: Tensor, y: Tensor, where: Tensor | None, *options: Any) -> Tensor:
    return generic.rows(XP, x, y, _args(where, options), ())[0]


def _slopes(x: Tensor, y: Tensor, where: Tensor | None, options: tuple[Any, ...], needed: Any) -> dict[str, Tensor]:
    names = tuple(name for name, need in zip(NAMES, needed, strict=True) if need)
    return dict(zip(names, generic.rows(XP, x, y, _args(where, options), names)[1], strict=True))


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
        x, y, where = ctx.saved_tensors
        found = _slopes(x, y, where, ctx.options, ctx.needs_input_grad[:2])
        return *(found[name] * grads[0] if name in found else None for name in NAMES), None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, y: Tensor, where: Tensor | None, axis: int, beta: float, temperature: float
    ) -> Any:
        return Each.apply(*batched(info, in_dims, x, y, where), axis + 1, beta, temperature), 0


class Each(_Each):
    """One divergence a sample, the class axis kept: (x, y, where or None, axis, beta, temperature)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """The gradients times the tangents."""
        x, y, where = ctx.saved_tensors
        given = dict(zip(NAMES, tangents, strict=False))
        found = _slopes(x, y, where, ctx.options, [t is not None for t in given.values()])
        parts = [(g * given[name]).sum(ctx.options[0], keepdim=True) for name, g in found.items()]
        return sum(parts[1:], parts[0])


def _rows(xp: Any, x: Tensor, y: Tensor, args: DivergenceArgs, wrt: tuple[str, ...]) -> Any:
    """The rows of the generic kernel; of a value that something records, the operation."""
    if wrt or plain(x, y) or nested_forward():
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
    return generic.divergence(xp, logits, args, wrt, _rows)
