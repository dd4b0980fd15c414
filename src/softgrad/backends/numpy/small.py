"""Small contiguous arrays with the classes last: one block by the functions of blocks, hence with the same bits.

What is left out is what finds blocks of any layout, which takes longer than such an array's own work.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._options import LossArgs
from . import dense_blocks as blocks
from .blocks import SMALL, Floats, Memory
from .dense_blocks import FEW
from .loss_blocks import Loss, Target, within

_max: Any = np.maximum.reduce
_sum: Any = np.add.reduce


def fits(x: Floats, axis: int) -> bool:
    """Whether an array is a single block of rows in memory order."""
    return 0 < x.size <= SMALL and axis == x.ndim - 1 and x.dtype.char in "fd" and x.flags.c_contiguous


def _shifted_columns(x: Floats) -> tuple[Floats, Floats]:
    """(maximum, x - maximum) of rows, class first."""
    z = x.T.copy()
    m = _max(z, 0)
    return m, np.subtract(z, m, z)


def softmax(x: Floats) -> Floats:
    """Exponentials over their sum."""
    rows, memory = x.reshape(-1, x.shape[-1]), Memory(x.dtype)
    if x.shape[-1] <= FEW:
        return blocks.softmax_columns(*_shifted_columns(rows), memory).T.copy().reshape(x.shape)
    y = np.empty(rows.shape, x.dtype)
    blocks.softmax(rows, y, memory)
    return y.reshape(x.shape)


def log_softmax(x: Floats) -> Floats:
    """Logarithm of the softmax."""
    rows, memory = x.reshape(-1, x.shape[-1]), Memory(x.dtype)
    if x.shape[-1] <= FEW:
        return blocks.log_softmax_columns(*_shifted_columns(rows), memory).T.copy().reshape(x.shape)
    y = np.empty(rows.shape, x.dtype)
    blocks.log_softmax(rows, y, memory)
    return y.reshape(x.shape)


def logsumexp(x: Floats) -> Floats:
    """Logarithm of the sum of exponentials."""
    rows, memory = x.reshape(-1, x.shape[-1]), Memory(x.dtype)
    few = x.shape[-1] <= FEW
    r = blocks.logsumexp_columns(*_shifted_columns(rows), memory) if few else blocks.logsumexp(rows, memory)
    return r.reshape(x.shape[:-1])


def cross_entropy(x: Floats, args: LossArgs, value: bool, grad: bool) -> tuple[Any, Any] | None:
    """(loss, gradient) of a loss without options; None where a sample is out of the ordinary."""
    k, n, dtype = x.shape[-1], args.labels.size, x.dtype
    divisor = float(n) if args.reduction == "mean" else 1.0
    loss = Loss(args, k, Memory(dtype), 1.0 / divisor, grad)
    labels = args.labels.reshape(-1)
    if not within(labels, k):
        return None
    target = Target(labels.astype(np.intp, copy=False), 1.0, 1.0, 0.0)
    rows = x.reshape(n, k)
    if k <= FEW:
        z = rows.T.copy()
        losses = loss.small_columns(z, target)
        slopes = z.T
    else:
        slopes = np.empty((n, k), dtype)
        losses = loss.rows(rows, slopes, target)
    if loss.irregular is not None:
        return None
    found = None
    if value and args.reduction == "none":
        found = losses.reshape(x.shape[:-1])
    elif value:
        found = np.asarray(float(_sum(losses, None, np.float64)) / divisor, dtype)
    return found, np.ascontiguousarray(slopes).reshape(x.shape) if grad else None
