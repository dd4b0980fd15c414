"""The cross-entropy of PyTorch tensors that nothing records, its gradient, or both: in place, in blocks.

Masked classes go through the generic kernel, block by block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._kernels import loss as generic
from ..._options import LossArgs
from . import shared
from .blocks import NATIVE_SUM, SHORT, Block, Scratch, View, blocks, host, put, view, working
from .loss_blocks import dense_block, index_block, native_losses, target, weigh
from .samples import Samples, inverse, no_weight, prepare

#: The options that the kernels in place take; a loss with others goes through the generic ones.
TAKEN = ("label_smoothing", "class_weight", "ignore_index", "z_loss", "precision", "sample_weight", "where")
#: Classes below which a block stands class first: torch's maximum of a row is slow there.
ROWS = 32


class Masked:
    """A loss under a mask, block by block through the generic kernel."""

    def __init__(self, xp: Any, v: View, job: LossArgs, wide: torch.dtype) -> None:
        self.xp, self.job = xp, job._replace(reduction="none", precision=None)
        self.labels = v.logits(job.labels) if job.dense else v.samples(job.labels)
        self.where = None if job.where is None else v.logits(job.where)
        weight = job.sample_weight
        self.weight = None if weight is None else v.samples(weight.expand(v.sample_shape))
        self.scale: Tensor | float | None = None
        if job.reduction == "mean":
            like = torch.zeros((), dtype=wide, device=v.x.device)
            weights = [
                generic.total_weight(xp, like.expand(part.shape), self.part(part)) for part in blocks(v, wide.itemsize)
            ]
            self.scale = inverse(torch.stack(weights).sum() if weights else 0.0)
        #: Where the mean is of nothing: its loss and gradient are 0, whatever stands in the logits.
        self.none = no_weight(self.scale)

    def part(self, block: Block) -> LossArgs:
        """The job of a block."""
        cut, dim, _ = block
        return self.job._replace(
            axis=dim,
            labels=cut(self.labels) if self.job.dense else cut(self.labels).squeeze(dim),
            where=None if self.where is None else cut(self.where),
            sample_weight=None if self.weight is None else cut(self.weight).squeeze(dim),
        )

    def block(self, block: Block, src: Tensor, z: Tensor, grad: bool) -> Tensor:
        """Losses of a block, the class axis kept; leaves the gradient in ``z``."""
        job = self.part(block)
        if grad:
            loss, slope = generic.cross_entropy_value_and_grad(self.xp, src, job)
            torch.mul(slope, 1.0 if self.scale is None else self.scale, out=z)
        else:
            loss = generic.cross_entropy(self.xp, src, job)
        if self.none is not None:
            loss = loss.masked_fill(self.none, 0)
            if grad:
                z.masked_fill_(self.none, 0)
        return loss.unsqueeze(block.dim)


class Loss:
    """A loss on data that is seen as ``v``, for one block after the other."""

    #: What gradients are still to be multiplied by.
    late: Tensor | float | None = None

    def __init__(self, xp: Any, v: View, job: LossArgs, wide: torch.dtype, scratch: Scratch) -> None:
        self.xp, self.v, self.job, self.wide, self.scratch = xp, v, job, wide, scratch
        self.soft = job.dense or bool(job.label_smoothing)
        self.masked = Masked(xp, v, job, wide) if job.where is not None else None
        self.samples: Samples | None = None
        if self.masked is None:
            self.samples = prepare(xp, v, job, wide)
            self.scale = self.samples.scale
        else:
            self.scale = self.masked.scale

    def block(
        self, block: Block, src: Tensor, z: Tensor, value: bool, grad: bool, short: bool = False
    ) -> Tensor | None:
        """Losses of a block, the class axis kept; leaves the gradient in ``z``, which may be ``src``."""
        _, dim, shape = block
        at = self.at(block)
        if at is not None and not self.soft:
            return index_block(src, z, dim, at, self.job.z_loss, value, grad, short)
        # what is read again later must not be written over
        src = put(src, self.scratch(shape, 1))
        if at is not None:
            weights = target(z, dim, at, self.job.dense, self.job.label_smoothing, self.scratch(shape, 2))
            loss = dense_block(src, z, dim, at, weights, self.job.z_loss, value, grad, self.scratch)
            if not host(loss) or loss.sum().isfinite():
                return loss
            if self.masked is None:
                self.masked = Masked(self.xp, self.v, self.job, self.wide)
        assert self.masked is not None
        return self.masked.block(block, src, z, grad)

    def at(self, block: Block) -> Samples | None:
        """The samples of a block; None under a mask."""
        if self.samples is None:
            return None
        cut, all_ = block.cut, self.samples
        return all_._replace(
            labels=cut(all_.labels),
            weight=None if all_.weight is None else cut(all_.weight),
            w=None if all_.w is None else cut(all_.w),
            ignored=None if all_.ignored is None else cut(all_.ignored),
        )

    def total(self, sums: list[Tensor], dtype: torch.dtype) -> Tensor:
        """The reduced loss from the sums of the blocks."""
        value = torch.stack(sums).sum() if sums else torch.zeros((), dtype=self.wide, device=self.v.x.device)
        return (value if self.scale is None else value * self.scale).to(dtype)


def _native(v: View, job: LossArgs, wide: torch.dtype) -> bool:
    """Whether torch's own kernels are ahead for class indices: single precision in short rows, or for losses alone."""
    simple = not (job.dense or job.label_smoothing or job.where is not None or job.z_loss)
    return simple and v.rows and host(v.x) and v.x.dtype is wide is torch.float32 and SHORT <= v.classes <= NATIVE_SUM


def cross_entropy(xp: Any, x: Tensor, job: LossArgs, value: bool, grad: bool) -> tuple[Tensor | None, Tensor | None]:
    """(loss, gradient), each None where it is not asked for."""
    lent = shared.cross_entropy(x, job, value, grad)
    if lent is not None:
        return lent
    wide = working(x.dtype, job.precision)
    v = view(x, job.axis)
    scratch = Scratch(x, wide)
    loss = Loss(xp, v, job, wide, scratch)
    native = _native(v, job, wide)
    first = not native and v.rows and v.classes < ROWS and host(x)
    g = v.empty(x.dtype) if grad else None
    each = v.empty_samples(wide) if value and job.reduction == "none" else None
    sums: list[Tensor] = []
    for part in blocks(v, wide.itemsize, first):
        src = part.cut(v.x)
        to = None if g is None else part.cut(g)
        direct = to is not None and wide is x.dtype and not first
        z = to if direct and to is not None else scratch(part.shape)
        if native and not grad:
            at = loss.at(part)
            assert at is not None
            some: Tensor | None = z.new_empty((part.shape[0], 1))
            native = native_losses(src, z, at.labels, some)
            weigh(some, at)
        else:
            some = loss.block(part, src, z, value, grad, native and v.classes < ROWS)
        if to is not None and not direct:
            put(z, to)
        if value and some is not None:
            if each is None:
                sums.append(some.sum())
            else:
                put(some, part.cut(each))
    result = None
    if each is not None:
        result = v.back_samples(each).to(x.dtype)
    elif value:
        result = loss.total(sums, x.dtype)
    return result, None if g is None else v.back(g)
