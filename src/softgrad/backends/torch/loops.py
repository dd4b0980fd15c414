"""The compiled loops on PyTorch's CPU tensors, in their memory, on the threads of PyTorch's own operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..._options import LossArgs
from ..numba import entries
from ..numba import rows as numba_rows
from ..numba.rows import along, share_out
from . import threads as torch_threads

#: What NumPy calls the dtypes that have loops.
CHARS = {torch.float32: "f", torch.float64: "d"}


def _place(a: Tensor | None) -> entries.Place:
    return entries.NOWHERE if a is None else entries.Place(a.data_ptr(), a.numel(), a)


def _sizes(x: Tensor, axis: int) -> tuple[str, int, int, int]:
    """(what NumPy calls its dtype, its numbers, classes, columns)."""
    shape = x.shape
    return CHARS[x.dtype], x.numel(), shape[axis], math.prod(shape[axis + 1 :])


def dense(function: str, x: Tensor, axis: int) -> Tensor:
    """The softmax, its logarithm or its normaliser."""
    shape = x.shape
    out = x.new_empty(shape[:axis] + shape[axis + 1 :]) if function == "logsumexp" else torch.empty_like(x)
    with torch_threads.shared():
        along(function, *_sizes(x, axis), _place(x), _place(out))
    return out


def pull(function: str, a: Tensor, cotangent: Tensor, axis: int) -> Tensor:
    """Cotangents of (log-)probabilities ``a``, pulled back to the logits."""
    cotangent, out = cotangent.contiguous(), torch.empty_like(a)
    with torch_threads.shared():
        numba_rows.pull(function, *_sizes(a, axis), _place(a), _place(cotangent), _place(out))
    return out


def has_mass(job: LossArgs) -> bool:
    """Whether all samples weigh 1, so that what a mean divides by is known without a look at the labels."""
    return job.sample_weight is None and (job.ignore_index is None or job.reduction != "mean")


def cross_entropy(x: Tensor, job: LossArgs, value: bool, grad: bool) -> tuple[Tensor | None, Tensor | None]:
    """(loss, gradient), each None where it is not asked for."""
    labels = job.labels if job.labels.dtype is torch.int64 else job.labels.to(torch.int64)
    labels = labels.contiguous()
    each = torch.empty_like(labels, dtype=x.dtype) if value and job.reduction == "none" else None
    slopes = torch.empty_like(x) if grad else None
    divisor = labels.numel() if job.reduction == "mean" else 1
    with torch_threads.shared():
        places = _place(x), _place(labels), entries.NOWHERE, _place(each), _place(slopes)
        sizes = _sizes(x, job.axis)
        total = share_out(entries.loss, *sizes, *places, skipped=job.ignore_index, factor=1.0 / divisor)
    if value and each is None:
        each = x.new_full((), total / divisor)
    return each, slopes
