"""The cross-entropy of PyTorch tensors that nothing records, its gradient, or both: in place."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..._kernels import loss as generic
from ..._kernels.targets import target
from ..._options import LossArgs
from .blocks import kept_where, working

#: The options that these kernels take; a loss with others goes through the generic ones.
TAKEN = ("label_smoothing", "class_weight", "ignore_index", "z_loss", "precision", "sample_weight")


def label_weight(args: LossArgs, x: Tensor) -> Tensor | None:
    """The class weight of each sample's label, the class axis kept; 1 where it is no class."""
    if args.class_weight is None:
        return None
    labels = args.labels.to(torch.int64)
    inside = labels.clamp(0, x.shape[args.axis] - 1)
    weight = args.class_weight.to(x.dtype)[inside]
    return kept_where(labels == inside, weight, 1).unsqueeze(args.axis)


def in_place(xp: Any, logits: Tensor, args: LossArgs, value: bool, grad: bool) -> tuple[Any, Any]:
    """(loss, gradient), each None where it is not asked for.

    One array of the logits' size becomes the gradient; a class of each row is set apart from the others' sum: that is
    the label or, of targets with a weight for each class ``v``, the largest.
    """
    axis = args.axis
    x = logits.to(working(logits.dtype, args.precision))
    kept, weight = generic.keep(xp, args, x)
    v: Tensor | None = None
    if args.dense or args.label_smoothing:
        _, v, T, w, valid = target(xp, x, args, None)
        m, at = x.max(axis, keepdim=True)
    else:
        labels = args.labels.to(torch.int64).unsqueeze(axis)
        at = labels.clamp(0, x.shape[axis] - 1)
        valid, T = labels == at, label_weight(args, x)
        w, m = T, x.amax(axis, keepdim=True)
    z = x - m
    d = z.gather(axis, at) if v is None else (v * z).masked_fill_(v == 0, 0).sum(axis, keepdim=True)
    e = z.exp_().gather(axis, at)
    others = z.scatter_(axis, at, 0).sum(axis, keepdim=True)
    # with its class at the maximum e - 1 is 0, and the others are all that is left
    log_s = (others + (e - 1)).log1p_()
    lse = log_s + m if args.z_loss else None
    divisor = None
    if args.reduction == "mean":
        divisor = generic.weight_sum(xp, x, args, torch.ones_like(e) if w is None else w)
    loss = slopes = None
    if value:
        each = generic.index_loss(xp, others, e, d, None, w) if v is None else T * log_s - d
        if lse is not None:
            each = each + args.z_loss * lse * lse * (1 if w is None else w)
        if valid is not None:
            each = kept_where(valid, each, math.nan)
        reduced: Tensor = generic.reduced(xp, generic.scaled(xp, each, kept, weight), args, divisor)
        loss = reduced.to(logits.dtype)
    if grad:
        own = (1 if w is None else w) if v is None else v.gather(axis, at)
        whole = own if v is None else T
        extra = 0 if lse is None else 2 * args.z_loss * lse * (1 if w is None else w)
        s = others + e
        factor = torch.ones_like(s) if weight is None else weight
        if divisor is not None:
            factor = factor / divisor
            # a NaN that counts for nothing must not stay as 0 * NaN
            kept = divisor != 0 if kept is None else kept & (divisor != 0)
        if valid is not None:
            factor = kept_where(valid, factor, math.nan)
        z.mul_((whole + extra) * factor / s)
        if v is not None:
            z.addcmul_(v, factor, value=-1)
        z.scatter_(axis, at, ((whole - own + extra) * e - own * others) * factor / s)
        slopes = (z if kept is None else z.masked_fill_(~kept, 0)).to(logits.dtype)
    return loss, slopes
