"""The cross-entropy of PyTorch tensors, its gradient, or both, in one of Triton's kernels, and the sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._options import LossArgs
from ..torch.blocks import View, view
from . import loss_kernels
from .graphs import loss_operator
from .layout import Wrap, as_it_is, launch, on_device_of, strides, together

#: Rows of a program that reads nothing of the logits.
_ROWS = 256


def _weights(a: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """Weights that broadcast to ``shape``, in single precision, one after the other."""
    return None if a is None else a.to(torch.float32).expand(shape).reshape(-1).contiguous()


def _divisor(
    v: View, job: LossArgs, labels: Tensor, weight: Tensor | None, balance: Tensor | None, wrap: Wrap
) -> Tensor:
    """What the mean divides by, 0-d."""
    if job.dense:
        q = labels.to(torch.float32)
        if balance is not None:
            q = q * balance.view((-1,) + (1,) * (q.ndim - 2))
        each = q.sum(1).reshape(-1)
        return (each if weight is None else torch.where(weight == 0, 0, each * weight)).sum()
    n = labels.numel()
    out = torch.empty(n, dtype=torch.float32, device=v.x.device)
    wrap(loss_kernels.weights)[(-(-n // _ROWS),)](
        labels, balance, weight, out, n, v.classes, job.ignore_index or 0,
        WEIGHTED=weight is not None, BALANCED=balance is not None, IGNORES=job.ignore_index is not None, ROWS=_ROWS,
    )  # fmt: skip
    return out.sum()


def computed(
    x: Tensor, job: LossArgs, value: bool, gradient: bool, wrap: Wrap = as_it_is
) -> tuple[Tensor | None, Tensor | None]:
    """(loss in float32, gradient), each None where it is not asked for."""
    v = view(x, job.axis)
    n, k, inner = x.numel() // v.classes, v.classes, 1 if v.rows else v.x.shape[2]
    labels = v.logits(job.labels) if job.dense else job.labels.reshape(-1).contiguous()
    weight, balance = _weights(job.sample_weight, v.sample_shape), _weights(job.class_weight, (k,))
    ignores = job.ignore_index is not None and not job.dense
    divisor, scale = None, 1.0
    shape = launch(n, k, together(v.x))
    kernel = loss_kernels.loss_tile if shape.tile else loss_kernels.loss_loop
    with on_device_of(x):
        if job.reduction == "mean":
            if weight is None and balance is None and not ignores and not job.dense:
                scale = 1 / n
            else:
                divisor = _divisor(v, job, labels, weight, balance, wrap)
        values = torch.empty(n, dtype=torch.float32, device=x.device) if value else None
        grad = torch.empty_like(v.x) if gradient else None
        wrap(kernel)[shape.grid](
            v.x, labels, balance, weight, divisor, values, grad, n, k, inner, *strides(v.x),
            *(strides(labels) if job.dense else (0, 0, 0)), *((0, 0, 0) if grad is None else strides(grad)),
            scale, job.ignore_index or 0, job.label_smoothing, job.z_loss,
            VALUE=value, GRAD=gradient, SOFT=job.dense or job.label_smoothing != 0, DENSE=job.dense,
            WEIGHTED=weight is not None, BALANCED=balance is not None, DIVIDED=divisor is not None, IGNORES=ignores,
            Z=job.z_loss != 0, ROWS=shape.rows, BLOCK=shape.block, num_warps=shape.warps,
        )  # fmt: skip
    if values is not None:
        values = v.back_samples(values) if job.reduction == "none" else values.sum()
    return values, None if grad is None else v.back(grad)


def _run(x: Tensor, job: LossArgs, value: bool, gradient: bool) -> tuple[Tensor | None, Tensor | None]:
    if torch.compiler.is_compiling():
        out = loss_operator(x, job, value, gradient)
        return (out[0].to(x.dtype) if value else None), (out[-1] if gradient else None)
    loss, grad = computed(x, job, value, gradient)
    return None if loss is None else loss.to(x.dtype), grad


def cross_entropy(xp: Any, logits: Tensor, job: LossArgs) -> Tensor:
    """The loss, reduced."""
    value = _run(logits, job, True, False)[0]
    assert value is not None
    return value


def cross_entropy_grad(xp: Any, logits: Tensor, job: LossArgs) -> Tensor:
    """D loss / d logits."""
    grad = _run(logits, job, False, True)[1]
    assert grad is not None
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Tensor, job: LossArgs) -> tuple[Tensor, Tensor]:
    """Loss and gradient in one kernel, and the sum."""
    value, grad = _run(logits, job, True, True)
    assert value is not None
    assert grad is not None
    return value, grad
