"""What a loss says of each sample of PyTorch tensors, before any block is worked on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._kernels.loss import ignored_index
from ..._options import LossArgs
from .blocks import View, blocks, host


class Samples(NamedTuple):
    """In a view's shape, the class axis kept; a divisor is a number or 0-d."""

    #: Class indices, inside the range; or weights by class, in the logits' shape.
    labels: Tensor
    #: Weight of a sample: 0 where ignored, NaN where the label is no class; None for 1.
    weight: Tensor | None
    #: Class weight of a sample's target; None for 1.
    w: Tensor | None
    #: Where the sample counts for nothing, or None.
    ignored: Tensor | None
    #: 1 / what the mean divides by; None for a sum.
    scale: Tensor | float | None
    #: By class, in the dtype to compute in, shaped to broadcast to a row; or None.
    class_weight: Tensor | None


def inverse(divisor: Tensor | float) -> Tensor | float:
    """1 / divisor; 0 where every sample was ignored."""
    if isinstance(divisor, float):
        return 1 / divisor if divisor else 0.0
    none = divisor == 0
    return divisor.masked_fill(none, 1).reciprocal_().masked_fill_(none, 0)


def no_weight(scale: Tensor | float | None) -> Tensor | None:
    """Where a mean divides by 0, 0-d; None where it is known not to."""
    return _some(scale == 0) if isinstance(scale, Tensor) else None


def times(a: Tensor | None, b: Tensor) -> Tensor:
    """``a * b``, None being 1."""
    return b if a is None else a * b


def _some(mask: Tensor) -> Tensor | None:
    """``mask``; None where it is known to hold nothing."""
    return None if host(mask) and not bool(mask.any()) else mask


def _outside(labels: Tensor, inside: Tensor, classes: int) -> Tensor | None:
    if host(labels) and labels.numel():
        low, high = torch.aminmax(labels)
        if int(low) >= 0 and int(high) < classes:
            return None
    return labels != inside


def _target_weight(v: View, labels: Tensor, class_weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Sum of each sample's weights by class, times the class weights."""
    out = v.empty_samples(dtype)
    for cut, dim, _ in blocks(v, dtype.itemsize):
        q = cut(labels)
        if class_weight is not None:
            q = q * (class_weight if dim == 1 and q.ndim == 2 else class_weight.view(-1, 1))
        torch.sum(q, dim, keepdim=True, dtype=dtype, out=cut(out))
    return out


def _scale(mass: Tensor | None, ignored: Tensor | None, count: int) -> Tensor | float:
    if mass is None:
        return inverse(float(count))
    return inverse((mass if ignored is None else mass.masked_fill(ignored, 0)).sum())


def prepare(xp: Any, v: View, job: LossArgs, wide: torch.dtype) -> Samples:
    """The samples of a job that hides no class."""
    class_weight = None if job.class_weight is None else job.class_weight.to(wide)
    ignored = outside = w = None
    if job.dense:
        labels = v.logits(job.labels)
        w = _target_weight(v, labels, class_weight, wide)
    else:
        given = v.samples(job.labels).to(torch.int64)
        labels = given.clamp(0, v.classes - 1)
        outside = _outside(given, labels, v.classes)
        if job.ignore_index is not None:
            # the cast may have wrapped a label of 64 unsigned bits onto it
            known = ignored_index(xp, job.labels, given, job.ignore_index)
            ignored = None if known is None else _some(given == known)
        if class_weight is not None:
            w = class_weight.take(labels)
            if outside is not None:
                w.masked_fill_(outside, 0)
    weight: Tensor | None = None
    if job.sample_weight is not None:
        weight = v.samples(job.sample_weight.expand(v.sample_shape)).to(wide)
        nothing = _some(weight == 0)
        if nothing is not None:
            ignored = nothing if ignored is None else ignored | nothing
    mass = weight if w is None else times(weight, w)
    if ignored is not None and mass is None:
        mass = torch.ones_like(labels, dtype=wide)
    count = v.x.numel() // v.classes
    scale = _scale(mass, ignored, count) if job.reduction == "mean" else None
    nothing = no_weight(scale)
    if nothing is not None and mass is not None:
        # a NaN that counts for nothing must not stay as 0 * NaN
        nothing = nothing.expand(mass.shape)
        ignored = nothing if ignored is None else ignored | nothing
    if ignored is not None or outside is not None:
        if weight is None:
            weight = torch.ones_like(labels if mass is None else mass, dtype=wide)
        if outside is not None:
            weight = weight.masked_fill(outside, math.nan)
        if ignored is not None:
            weight = weight.masked_fill(ignored, 0)
    return Samples(labels, weight, w, ignored, scale, class_weight)
