"""Cross-entropy of NumPy logits, its gradient, and both from one exponential, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._kernels import loss as loss_kernels
from ..._options import LossArgs
from . import small
from .blocks import Block, Floats, Memory, View, narrow, over_blocks, view
from .dense_blocks import ROWS, SOFTMAX_ROWS, working
from .loss_blocks import Loss
from .small import SMALL

#: Labels that are looked at together.
CHUNK = 1 << 20


def mass(job: LossArgs, labels: Floats, weight: Floats | None, k: int) -> float:
    """What the mean divides by: the weights of the samples that count."""
    if job.class_weight is None and weight is None and job.ignore_index is None:
        return float(labels.size)
    total = 0.0
    labels, flat = labels.reshape(-1), None if weight is None else weight.reshape(-1)
    for i in range(0, labels.size, CHUNK):
        y = labels[i : i + CHUNK]
        w = np.ones(y.shape) if flat is None else flat[i : i + CHUNK].astype(np.float64)
        if job.class_weight is not None:
            known = (y >= 0) & (y < k)
            w *= np.where(known, job.class_weight.astype(np.float64).take(np.where(known, y, 0).astype(np.intp)), 0.0)
        if job.ignore_index is not None:
            w[y == job.ignore_index] = 0.0
        if flat is not None:
            w[flat[i : i + CHUNK] == 0] = 0.0
        total += float(np.add.reduce(w))
    return total


def dense_mass(job: LossArgs, labels: Floats, weight: Floats | None) -> float:
    """The same for labels (outer, class, inner) that are weights."""
    scale = np.ones(labels.shape[1]) if job.class_weight is None else job.class_weight.astype(np.float64)
    total = 0.0
    step = max(1, CHUNK // max(1, labels.shape[1] * labels.shape[2]))
    for i in range(0, labels.shape[0], step):
        w = np.einsum("okj,k->oj", labels[i : i + step].astype(np.float64, copy=False), scale)
        if weight is not None:
            part = weight[i : i + step]
            w = np.where(part == 0, 0.0, w * part)
        total += float(np.add.reduce(w, None))
    return total


class _Call:
    """One call of a kernel: the arrays as (outer, class, inner), and what comes out."""

    def __init__(self, xp: Any, x: Floats, job: LossArgs, want_value: bool, want_grad: bool) -> None:
        self.xp, self.job, self.want_value, self.want_grad = xp, job, want_value, want_grad
        self.x, self.dtype = x, x.dtype
        self.work = working(x.dtype, job.precision)
        self.view: View = view(x, job.axis)
        seen = self.view
        _, self.k, inner = seen.x.shape
        self.labels = seen.logits(job.labels) if job.dense else seen.samples(job.labels)
        samples = x.shape[: job.axis] + x.shape[job.axis + 1 :]
        weight = job.sample_weight
        self.weight = None if weight is None else seen.samples(np.broadcast_to(weight, samples))
        self.where = None if job.where is None else seen.logits(np.broadcast_to(job.where, x.shape))
        self.grad = self.grad3 = self.losses = self.losses2 = None
        if want_grad:
            self.grad, self.grad3 = seen.empty(x.shape, x.dtype)
        if want_value and job.reduction == "none":
            self.losses, self.losses2 = seen.empty_samples(samples, x.dtype)
        self.divisor = 1.0
        if job.reduction == "mean":
            if job.dense:
                self.divisor = dense_mass(job, self.labels, self.weight)
            else:
                self.divisor = mass(job, self.labels, self.weight, self.k)
        self.fast = (
            job.where is None
            and not (x.dtype.char == "d" and job.precision == "high")
            and not (job.dense and inner > 1)
        )

    def run(self) -> tuple[Any, Any]:
        if self.divisor == 0.0:
            if self.grad3 is not None:
                self.grad3[...] = 0
            return np.zeros((), self.dtype), self.grad
        total = 0.0
        if self.x.size:
            total = sum(over_blocks(self.view.x.shape, self.work, self.make))
        value: Any = self.losses
        if value is None and self.want_value:
            value = np.asarray(total / self.divisor).astype(self.dtype)
        return value, self.grad

    def make(self, memory: Memory) -> Callable[[Block], float]:
        loss = Loss(self.job, self.k, memory, 1.0 / self.divisor, self.want_grad)

        def block(at: Block) -> float:
            o0, o1, i0, i1 = at
            losses = self.fast_block(loss, at) if self.fast else None
            if losses is None:
                losses = self.generic_block(at)
            if self.losses2 is not None:
                self.losses2[o0:o1, i0:i1] = losses.reshape(o1 - o0, i1 - i0)
            return float(np.add.reduce(losses, None, dtype=np.float64)) if self.want_value else 0.0

        return block

    def fast_block(self, loss: Loss, at: Block) -> Floats | None:
        o0, o1, i0, i1 = at
        memory, job = loss.memory, self.job
        weight = None if self.weight is None else self.weight[o0:o1, i0:i1].reshape(-1)
        target = None
        if not job.dense:
            target = loss.target(self.labels[o0:o1, i0:i1].reshape(-1), weight)
            if target is None:
                return None
        src, dst = self.view.x[o0:o1, :, i0:i1], None
        apart = self.work != self.dtype
        if apart:
            wide = memory(4, src.shape)
            np.copyto(wide, src)
            src = wide
        if self.grad3 is not None:
            dst = memory(5, src.shape) if apart else self.grad3[o0:o1, :, i0:i1]
        if job.dense or (src.shape[2] == 1 and self.k >= (SOFTMAX_ROWS if memory.free else ROWS[self.work.char])):
            x, e = src[:, :, 0], memory(0, src.shape[:2]) if dst is None else dst[:, :, 0]
            if target is None:
                losses = loss.weighted_rows(x, e, self.labels[o0:o1, :, 0], weight)
            else:
                losses = loss.rows(x, e, target)
        else:
            assert target is not None
            losses = loss.columns(src, dst, target)
        if apart and dst is not None and self.grad3 is not None:
            narrow(dst, self.grad3[o0:o1, :, i0:i1])
        return losses

    def generic_block(self, at: Block) -> Floats:
        """Losses of a block by the generic kernel, and their gradient."""
        o0, o1, i0, i1 = at
        job = self.job
        piece = job._replace(
            axis=1,
            labels=self.labels[o0:o1, :, i0:i1] if job.dense else self.labels[o0:o1, i0:i1],
            sample_weight=None if self.weight is None else self.weight[o0:o1, i0:i1],
            where=None if self.where is None else self.where[o0:o1, :, i0:i1],
            reduction="none",
            precision=job.precision if self.work == self.dtype else None,
        )
        x = self.view.x[o0:o1, :, i0:i1].astype(self.work, copy=False)
        if self.grad3 is None:
            return np.asarray(loss_kernels.cross_entropy(self.xp, x, piece))
        losses, grad = loss_kernels.cross_entropy_value_and_grad(self.xp, x, piece)
        narrow(grad * self.work.type(1.0 / self.divisor), self.grad3[o0:o1, :, i0:i1])
        return np.asarray(losses)


def _small(x: Floats, job: LossArgs, value: bool, grad: bool) -> tuple[Any, Any] | None:
    """The same of a small array and a loss without options, if it can be had in a few calls."""
    if not 0 < x.size <= SMALL or job.axis != x.ndim - 1 or x.dtype.char not in "fd" or not x.flags.c_contiguous:
        return None
    if job.dense or job.labels.dtype.kind != "i" or job.beyond(()):
        return None
    return small.cross_entropy(x, job.labels, job.reduction, value, grad)


def _loss(xp: Any, x: Floats, job: LossArgs, value: bool, grad: bool) -> tuple[Any, Any]:
    return _small(x, job, value, grad) or _Call(xp, x, job, value, grad).run()


def cross_entropy(xp: Any, logits: Floats, job: LossArgs) -> Any:
    """Return the loss, reduced."""
    return _loss(xp, logits, job, True, False)[0]


def cross_entropy_grad(xp: Any, logits: Floats, job: LossArgs) -> Floats:
    """Return the gradient with respect to the logits."""
    grad: Floats = _loss(xp, logits, job, False, True)[1]
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Floats, job: LossArgs) -> tuple[Any, Floats]:
    """Return the loss and its gradient."""
    return _loss(xp, logits, job, True, True)
