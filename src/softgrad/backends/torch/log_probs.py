"""Log-probabilities of labels and the entropy of PyTorch tensors, and what pulls their cotangents back.

What autograd records has the closed form for its derivative, in operations that can be differentiated again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import log_probs as generic
from ..._kernels.log_probs import PLAIN
from ..._kernels.scaling import Scaling
from .._registry import call
from .autograd import LOG_SOFTMAX, Operation, batched, nested_forward, recorded, zero_hidden
from .blocks import XP, is_eager, is_eager_cotangent


def _entropy(x: Tensor, where: Tensor | None, axis: int, precision: str | None, scaling: Scaling) -> Tensor:
    kernel = partial(call, "entropy") if is_eager(x, where) else generic.entropy
    value: Tensor = kernel(XP, x, axis, where, precision, scaling)
    return value


class _Entropy(Function):  # type: ignore[misc]
    @staticmethod
    def forward(x: Tensor, where: Tensor | None, axis: int, precision: str | None, scaling: Scaling) -> Tensor:
        return _entropy(x, where, axis, precision, scaling)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.options = inputs[2:]
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, where = ctx.saved_tensors
        axis, *rest = ctx.options
        kernel = partial(call, "entropy_vjp") if is_eager_cotangent(grads[0], x, where) else generic.entropy_vjp
        return kernel(XP, x, grads[0], axis, where, *rest), None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, where: Tensor | None, axis: int, *rest: Any) -> Any:
        x_, where = batched(info, in_dims, x, where)
        return Entropy.apply(x_, where, axis + 1, *rest), 0


class Entropy(_Entropy):
    """``-sum(p log(p))``, without ``axis``: (x, where of x's shape or None, axis, precision, scaling)."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Its gradient times the tangent."""
        x, where = ctx.saved_tensors
        axis, *rest = ctx.options
        slope = generic.entropy_vjp(XP, x, torch.ones_like(x.select(axis, 0)), axis, where, *rest)
        return (slope * zero_hidden(tangents[0], where)).sum(axis)


ENTROPY = Operation(Entropy, _Entropy, _entropy)


def entropy(
    xp: Any,
    x: Tensor,
    axis: int,
    where: Tensor | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Tensor:
    """``-sum(p log(p))``, without ``axis``."""
    if where is not None:
        where = where.expand(x.shape)
    if is_eager(x, where) or nested_forward():
        return generic.entropy(XP, x, axis, where, precision, scaling)
    value: Tensor = recorded(ENTROPY, x, where, axis, precision, scaling)
    return value


def log_probs(
    xp: Any,
    x: Tensor,
    labels: Tensor,
    axis: int,
    where: Tensor | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Tensor:
    """``log(softmax(x))`` at the labels."""
    if scaling.identity:
        return generic.log_probs(xp, x, labels, axis, where, precision, scaling, partial(call, "log_softmax"))
    if nested_forward():
        return generic.log_probs(xp, x, labels, axis, where, precision, scaling)
    visible = None if where is None else where.expand(x.shape)
    return generic.take_labels(xp, recorded(LOG_SOFTMAX, x, visible, axis, precision, scaling), labels, axis)


def log_probs_vjp(
    xp: Any,
    x: Tensor,
    labels: Tensor,
    cotangent: Tensor,
    axis: int,
    where: Tensor | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Tensor:
    """The sum of c (onehot - p) over a sample's labels."""
    if is_eager_cotangent(cotangent, x) and where is None and scaling.identity and labels.shape[axis] == 1:
        return generic.one_label_vjp(xp, x, labels, cotangent, axis, precision, partial(call, "cross_entropy_grad"))
    return generic.log_probs_vjp(xp, x, labels, cotangent, axis, where, precision, scaling)
