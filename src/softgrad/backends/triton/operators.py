"""The kernels as operators of PyTorch's, which stand in a graph that a compiler traces.

An operator is what ``torch.library.triton_op`` takes apart, so that the compiler sees the kernel; where kernels are
interpreted, or PyTorch is older than 2.6, it stays in one piece.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._options import LossArgs
from ..torch.blocks import view
from . import loss, rows
from .graphs import INTERPRETED
from .layout import seen_by_compilers

_triton_op = None if INTERPRETED else getattr(torch.library, "triton_op", None)
_register: Any = _triton_op or torch.library.custom_op


def dense(x: Tensor, function: str, axis: int, where: Tensor | None) -> Tensor:
    """The softmax, its logarithm or its normaliser."""
    return rows.dense(function, x, axis, where, seen_by_compilers)


def _empty_dense(x: Tensor, function: str, axis: int, where: Tensor | None) -> Tensor:
    v = view(x, axis)
    return x.new_empty(v.sample_shape) if function == "logsumexp" else v.back(torch.empty_like(v.x))


def vjp(a: Tensor, cotangent: Tensor, axis: int, log: bool) -> Tensor:
    """A cotangent pulled back through the softmax ``a``, or its logarithm."""
    return rows.vjp(a, cotangent, axis, log, seen_by_compilers)


def _empty_vjp(a: Tensor, cotangent: Tensor, axis: int, log: bool) -> Tensor:
    v = view(a, axis)
    return v.back(torch.empty_like(v.x))


def cross_entropy(
    x: Tensor,
    labels: Tensor,
    class_weight: Tensor | None,
    sample_weight: Tensor | None,
    logit_shift: Tensor | None,
    where: Tensor | None,
    axis: int,
    dense: bool,
    softcap: float | None,
    temperature: float,
    label_smoothing: float,
    focal: float,
    ignore_index: int | None,
    z_loss: float,
    reduction: str,
    value: bool,
    gradient: bool,
) -> list[Tensor]:
    """The loss in float32, its gradient, or both."""
    args = LossArgs(
        axis=axis,
        labels=labels,
        dense=dense,
        sample_weight=sample_weight,
        where=where,
        softcap=softcap,
        temperature=temperature,
        logit_shift=logit_shift,
        label_smoothing=label_smoothing,
        class_weight=class_weight,
        focal=focal,
        ignore_index=ignore_index,
        z_loss=z_loss,
        reduction=reduction,
    )
    return [each for each in loss.computed(x, args, value, gradient, seen_by_compilers) if each is not None]


def _empty_cross_entropy(x: Tensor, *options: Any) -> list[Tensor]:
    axis, (reduction, value, gradient) = options[5], options[-3:]
    v = view(x, axis)
    values = x.new_empty(v.sample_shape if reduction == "none" else (), dtype=torch.float32)
    return [values] * value + [v.back(torch.empty_like(v.x))] * gradient


for _run, _fake in ((dense, _empty_dense), (vjp, _empty_vjp), (cross_entropy, _empty_cross_entropy)):
    _register(f"softgrad::{_run.__name__}", _run, mutates_args=()).register_fake(_fake)
