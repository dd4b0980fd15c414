"""The cross-entropy of PyTorch tensors, its gradient, or both, in one of Triton's kernels, and the sum."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._options import LossArgs
from ..torch.blocks import View, inverse, view
from . import loss_kernels
from .graphs import loss_operator
from .layout import Wrap, as_it_is, how, launch, on_device_of, strides, together

#: Rows of a program that reads nothing of the logits.
_ROWS = 256


def _weights(a: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """Weights that broadcast to ``shape``, in single precision, one after the other."""
    return None if a is None else a.to(torch.float32).expand(shape).reshape(-1).contiguous()


def _divisor(
    v: View, args: LossArgs, labels: Tensor, weight: Tensor | None, balance: Tensor | None, wrap: Wrap
) -> Tensor:
    """What the mean divides by, 0-d."""
    if args.dense:
        q = labels if balance is None else labels * balance.view((-1,) + (1,) * (labels.ndim - 2))
        each = q.sum(1, dtype=torch.float32).reshape(-1)
        return (each if weight is None else torch.where(weight == 0, 0, each * weight)).sum()
    n = labels.numel()
    out = torch.empty(n, dtype=torch.float32, device=v.x.device)
    wrap(loss_kernels.weights)[(-(-n // _ROWS),)](
        labels, balance, weight, out, n, v.classes, args.ignore_index or 0,
        WEIGHTED=weight is not None, BALANCED=balance is not None, IGNORES=args.ignore_index is not None, ROWS=_ROWS,
    )  # fmt: skip
    return out.sum()


class Samples(NamedTuple):
    """What a loss says of its samples, as the kernels read it."""

    #: One index a sample, or weights of the logits' shape.
    labels: Tensor
    weight: Tensor | None
    balance: Tensor | None
    #: What is added to the logits of each class.
    shift: Tensor | None
    #: True keeps a class, of the logits' shape.
    where: Tensor | None
    #: What losses are divided by, 0-d, or None; and a factor.
    divisor: Tensor | None
    scale: float

    def part(self, start: int, stop: int) -> Samples:
        """Some of the samples."""
        labels, weight, where = (
            None if a is None else a.narrow(0, start, stop - start) for a in (self.labels, self.weight, self.where)
        )
        return self._replace(labels=labels, weight=weight, where=where)


def prepared(v: View, args: LossArgs, wrap: Wrap = as_it_is) -> Samples:
    """The samples of a loss on logits that are seen as ``v``."""
    labels = v.logits(args.labels) if args.dense else args.labels.reshape(-1).contiguous()
    weight = _weights(args.sample_weight, v.sample_shape)
    balance, shift = (_weights(a, (v.classes,)) for a in (args.class_weight, args.logit_shift))
    divisor, scale = None, 1.0
    if args.reduction == "mean":
        if weight is None and balance is None and args.ignore_index is None and not args.dense:
            scale = v.classes / v.x.numel()
        else:
            divisor = _divisor(v, args, labels, weight, balance, wrap)
    return Samples(labels, weight, balance, shift, None if args.where is None else v.logits(args.where), divisor, scale)


def launched(
    x: Tensor, at: Samples, args: LossArgs, values: Tensor | None, grad: Tensor | None, wrap: Wrap = as_it_is
) -> None:
    """Write losses and gradient of logits (rows, classes) or (outer, classes, inner); ``grad`` may be ``x``."""
    k = x.shape[1]
    n, inner = x.numel() // k, 1 if x.ndim == 2 else x.shape[2]
    smooth = args.label_smoothing != 0
    soft = args.dense or smooth
    shape = launch(n, k, together(x), may_split=True, heavy=args.softcap is not None)
    kernel, grid = loss_kernels.loss_tile, shape.grid
    scratch: tuple[Tensor | None, ...] = ()
    more: dict[str, bool] = {}
    given = x, at.labels, at.balance, at.shift, at.where
    places = (*strides(x), *strides(at.labels if args.dense else None), *strides(at.where))
    options = {
        "SOFT": soft, "DENSE": args.dense, "SMOOTH": smooth, "BALANCED": at.balance is not None,
        "HOW": how(at.where, args), "BLOCK": shape.block, "num_warps": shape.warps,
    }  # fmt: skip
    cap = args.softcap or 1.0
    if not shape.tile:
        kernel, scratch, more = (
            loss_kernels.loss_loop,
            (shape.scratch(x, 12 if soft else 4),),
            {"SPLIT": shape.parts > 0},
        )
        if shape.parts:
            wrap(loss_kernels.loss_parts)[grid](*given, *scratch, k, inner, *places, cap, args.temperature, **options)
            grid = (n, 1) if grad is None else grid
    wrap(kernel)[grid](
        *given, at.weight, at.divisor, *scratch, values, grad, n, k, inner, *places, *strides(grad), at.scale,
        args.ignore_index or 0, args.label_smoothing, args.z_loss, cap, args.temperature, min(args.focal, 1e38),
        VALUE=values is not None, GRAD=grad is not None, WEIGHTED=at.weight is not None,
        DIVIDED=at.divisor is not None, IGNORES=args.ignore_index is not None and not args.dense, Z=args.z_loss != 0,
        FOCAL=args.focal != 0, **more, ROWS=shape.rows, **options,
    )  # fmt: skip


def computed(
    x: Tensor, args: LossArgs, value: bool, gradient: bool, wrap: Wrap = as_it_is
) -> tuple[Tensor | None, Tensor | None]:
    """(loss in float32, gradient), each None where it is not asked for."""
    v = view(x, args.axis)
    with on_device_of(x):
        at = prepared(v, args, wrap)
        values = torch.empty(x.numel() // v.classes, dtype=torch.float32, device=x.device) if value else None
        grad = torch.empty_like(v.x) if gradient else None
        launched(v.x, at, args, values, grad, wrap)
    if values is not None:
        values = v.back_samples(values) if args.reduction == "none" else values.sum()
    return values, None if grad is None else v.back(grad)


def _run(x: Tensor, args: LossArgs, value: bool, gradient: bool) -> tuple[Tensor | None, Tensor | None]:
    if torch.compiler.is_compiling():
        out = loss_operator(x, args, value, gradient)
        return (out[0].to(x.dtype) if value else None), (out[-1] if gradient else None)
    loss, grad = computed(x, args, value, gradient)
    return None if loss is None else loss.to(x.dtype), grad


def cross_entropy(xp: Any, logits: Tensor, args: LossArgs) -> Tensor:
    """The loss, reduced."""
    value = _run(logits, args, True, False)[0]
    assert value is not None
    return value


def cross_entropy_grad(xp: Any, logits: Tensor, args: LossArgs) -> Tensor:
    """D loss / d logits."""
    grad = _run(logits, args, False, True)[1]
    assert grad is not None
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Tensor, args: LossArgs) -> tuple[Tensor, Tensor]:
    """Loss and gradient in one kernel, and the sum."""
    value, grad = _run(logits, args, True, True)
    assert value is not None
    assert grad is not None
    return value, grad


class InPlace:
    """The loss of rows of logits that come in blocks, each of which leaves its gradient in their place."""

    def __init__(self, like: Tensor, args: LossArgs) -> None:
        """``like`` has the shape and the dtype of all the logits."""
        self.args = args
        with on_device_of(like):
            self.samples = prepared(View(like, like.shape, 1, False), args)
        divisor, factor = self.samples.divisor, self.samples.scale
        #: 1 over what the mean divides by, where that is a tensor.
        self.scale = None if divisor is None else inverse(divisor)
        #: What gradients are still to be multiplied by: float16 has no range for slopes over the number of samples.
        self.late: Tensor | float | None = None
        if like.dtype is torch.float16 and args.reduction == "mean":
            self.late = factor if self.scale is None else self.scale
            self.samples = self.samples._replace(divisor=None, scale=1.0)

    def block(self, start: int, z: Tensor, value: bool, grad: bool) -> list[Tensor]:
        """Losses of the rows from ``start`` on, if asked for."""
        n = z.shape[0]
        values = torch.empty(n, dtype=torch.float32, device=z.device) if value else None
        if n:
            with on_device_of(z):
                launched(z, self.samples.part(start, start + n), self.args, values, z if grad else None)
        return [] if values is None else [values]

    def total(self, sums: list[Tensor], dtype: torch.dtype) -> Tensor:
        """The reduced loss from the sums of the blocks."""
        value = torch.stack(sums).sum()
        return (value if self.late is None else value * self.late).to(dtype)
