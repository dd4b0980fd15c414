"""One block of a cross-entropy of PyTorch tensors: its losses, and its gradient in the memory of its logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .blocks import Scratch, host, put
from .dense import shift
from .samples import Samples


def _clear(a: Tensor, ignored: Tensor, dim: int) -> None:
    """Set the ignored samples of ``a`` to 0."""
    if host(a) and a.ndim == 2:
        a.index_fill_(1 - dim, ignored.reshape(-1).nonzero().view(-1), 0)
    else:
        a.masked_fill_(ignored, 0)


def index_block(
    src: Tensor, z: Tensor, dim: int, at: Samples, z_loss: float, value: bool, grad: bool, native: bool = False
) -> Tensor | None:
    """Losses of a block with class indices, the class axis kept; leaves the gradient in ``z``.

    The label's exponential is read and set to 0, so that the sum is the others' alone. ``native`` takes them from
    torch's softmax; it is for a block of rows on a CPU, without ``z_loss``.
    """
    if native:
        torch.softmax(src, dim, out=z)
    else:
        m = shift(src, z, dim)
        d = z.gather(dim, at.labels)
        z.exp_()
    e = z.gather(dim, at.labels)
    others = z.scatter_(dim, at.labels, 0).sum(dim, keepdim=True)
    loss = lse = None
    if native and value:
        loss = (others / e).log1p_()
        tiny = (e < 1e-30).view(-1).nonzero().view(-1)
        if tiny.numel():
            _again(src, at.labels, loss, tiny)
    elif value or z_loss:
        # with the label at the maximum e - 1 is 0, and the others are all that is left
        loss = (others + (e - 1)).log1p_()
        if z_loss:
            lse = loss + m
        loss.sub_(d)
    if loss is not None:
        extra = None if lse is None else lse * lse * z_loss
        weigh(loss, at, extra)
    if grad:
        slope = (others + e).reciprocal_()
        for each in (at.weight, at.w, at.scale):
            if each is not None:
                slope.mul_(each)
        own = others.neg_()
        if lse is not None:
            own.addcmul_(lse, e, value=2 * z_loss)
        own.mul_(slope)
        if lse is not None:
            slope.mul_(lse.mul_(2 * z_loss).add_(1))
        z.mul_(slope).scatter_(dim, at.labels, own)
        if at.ignored is not None:
            _clear(z, at.ignored, dim)
    return loss


def _again(src: Tensor, labels: Tensor, loss: Tensor, rows: Tensor) -> None:
    """Compute the losses of some rows anew."""
    some = src.index_select(0, rows).t().contiguous()
    at = Samples(labels.index_select(0, rows).t(), None, None, None, None, None)
    again = index_block(some, torch.empty_like(some), 0, at, 0.0, True, False)
    assert again is not None
    loss.index_copy_(0, rows, again.t())


def weigh(loss: Tensor, at: Samples, extra: Tensor | None = None) -> None:
    """Multiply losses, and what is added to them, by their samples' weights."""
    if at.w is not None:
        # a class of weight 0 costs nothing, though its logit be -inf
        loss.masked_fill_((at.w == 0) & loss.isinf(), 0).mul_(at.w)
    if extra is not None:
        loss.add_(extra if at.w is None else extra.mul_(at.w))
    if at.weight is not None:
        loss.mul_(at.weight)
    if at.ignored is not None:
        loss.masked_fill_(at.ignored, 0)


def native_losses(src: Tensor, z: Tensor, labels: Tensor, loss: Tensor) -> bool:
    """Losses of a block of rows on a CPU through torch's log-softmax; whether more blocks should go that way.

    Where the label's probability is near 1 they are computed anew.
    """
    near_zero = max(1 / 64, z.shape[1] / 2240)
    torch.neg(torch.log_softmax(src, 1, out=z).gather(1, labels), out=loss)
    rows = (loss < near_zero).view(-1).nonzero().view(-1)
    if rows.numel():
        _again(src, labels, loss, rows)
    return rows.numel() * 8 <= z.shape[0]


def target(like: Tensor, dim: int, at: Samples, dense: bool, label_smoothing: float, v: Tensor) -> Tensor:
    """The weights by class of a block: smoothed, times the class weights."""
    k = like.shape[dim]
    cw = at.class_weight
    if cw is not None:
        cw = cw.view(-1, 1) if dim == 0 or like.ndim == 3 else cw
    if dense:
        q = at.labels
        if not label_smoothing:
            return q if cw is None and dim and q.dtype is v.dtype else torch.mul(q, 1 if cw is None else cw, out=v)
        size = q.sum(dim, keepdim=True, dtype=v.dtype).mul_(label_smoothing / k)
        # a product with a number would be rounded to the labels' dtype first
        v.copy_(q).mul_(1 - label_smoothing).add_(size)
    else:
        v.fill_(label_smoothing / k)
        v.scatter_(dim, at.labels, (1 - label_smoothing) + label_smoothing / k)
    return v if cw is None else v.mul_(cw)


class Tops(NamedTuple):
    """The samples of a block whose maximum has most of the sum."""

    #: Their numbers; None where all are looked at.
    rows: Tensor | None
    #: The place of the maximum (anywhere, where it has not most of the sum), the class axis kept.
    place: Tensor
    #: Where it has.
    alone: Tensor


def tops(e: Tensor, rest: Tensor, dim: int) -> Tops | None:
    """Find them, and correct the ``rest`` of theirs: sum(e) - 1 without the cancellation."""
    rows = None
    if host(e) and e.ndim == 2:
        rows = (rest < 0.5).view(-1).nonzero().view(-1)
        if not rows.numel():
            return None
        e = e.index_select(1 - dim, rows)
    high = e.trunc()
    iota = torch.arange(e.shape[dim], dtype=e.dtype, device=e.device)
    if dim == 0 or e.ndim == 3:
        iota = iota.view(-1, 1)
    others = torch.sub(e, high, out=e if rows is not None else None).sum(dim, keepdim=True)
    place = high.mul_(iota).sum(dim, keepdim=True).nan_to_num_(0).clamp_(max=e.shape[dim] - 1).to(torch.int64)
    if rows is None:
        alone = rest < 0.5
        put(torch.where(alone, others, rest), rest)
        return Tops(None, place, alone)
    rest.index_copy_(1 - dim, rows, others)
    return Tops(rows, place, others < 0.5)


def dense_block(
    src: Tensor,
    z: Tensor,
    dim: int,
    at: Samples,
    v: Tensor,
    z_loss: float,
    value: bool,
    grad: bool,
    scratch: Scratch,
) -> Tensor:
    """Losses of a block with weights ``v`` by class, the class axis kept; leaves the gradient in ``z``.

    The gradient is ``T p - v``; at a maximum with most of the sum it is ``(T - v) - T (1 - p)``.
    """
    m = shift(src, z, dim)
    total = v.sum(dim, keepdim=True)
    product = torch.mul(v, z, out=scratch(tuple(z.shape), 4))
    if not host(z):
        # 0 * inf is nothing lost; on a CPU the sum tells, and the generic kernel takes the block
        product.masked_fill_(v == 0, 0)
    loss = product.sum(dim, keepdim=True).neg_()
    rest = z.exp_().sum(dim, keepdim=True).sub_(1)
    top = tops(z, rest, dim)
    lse = None
    if value or z_loss:
        log = rest.log1p()
        loss.addcmul_(log, total)
        if z_loss:
            lse = log.add_(m)
            extra = lse * lse * z_loss
            loss.add_(extra if at.w is None else extra.mul_(at.w))
    weigh(loss, at._replace(w=None))
    if not grad:
        return loss
    slope = (rest + 1).reciprocal_()
    miss = rest.mul_(slope)
    pull = total
    if lse is not None:
        more = lse.mul_(2 * z_loss)
        pull = total + (more if at.w is None else more.mul_(at.w))
    rest_of_scale = at.scale
    scale = 1.0
    if at.weight is None and isinstance(at.scale, float):
        scale, rest_of_scale = at.scale, None
    z.mul_(slope.mul_(pull).mul_(scale)).sub_(v, alpha=scale)
    if top is not None:
        weights, near, pulls, misses = (
            a if top.rows is None else a.index_select(1 - dim, top.rows) for a in (v, z, pull, miss)
        )
        own = (pulls - weights.gather(dim, top.place)).addcmul_(pulls, misses, value=-1).mul_(scale)
        near.scatter_(dim, top.place, torch.where(top.alone, own, near.gather(dim, top.place)))
        if top.rows is not None:
            z.index_copy_(1 - dim, top.rows, near)
    for each in (at.weight, rest_of_scale):
        if each is not None:
            z.mul_(each)
    if at.ignored is not None:
        _clear(z, at.ignored, dim)
    return loss
