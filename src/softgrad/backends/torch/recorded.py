"""The cross-entropy of PyTorch tensors that something records or transforms: options around one operation a sample."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._kernels import loss as loss_kernels
from ..._kernels.log_probs import PLAIN
from ..._kernels.targets import target
from ..._options import LossArgs
from . import rules
from .autograd import LOG_SOFTMAX, LOG_SUM_EXP, recorded
from .blocks import XP, kept_where
from .loss import TAKEN, label_weight


def _tracked(a: Tensor | None) -> bool:
    """Whether a derivative with respect to ``a`` may be asked for."""
    if a is None or not a.is_floating_point():
        return False
    if a.requires_grad or torch.compiler.is_compiling():
        return a.requires_grad
    return torch.autograd.forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


def cross_entropy(logits: Tensor, args: LossArgs) -> Tensor:
    """The loss, reduced; in the dtype of the losses where that is wider than the logits'."""
    axis = args.axis
    x = logits.to(torch.float32) if logits.dtype in (torch.float16, torch.bfloat16) else logits
    kept, weight = loss_kernels.keep(XP, args, x)
    if kept is not None:
        # a NaN left in an ignored sample would come back as 0 * NaN in its derivative
        x = kept_where(kept, x)
    where = None if args.where is None else args.where.expand(x.shape)
    if args.beyond(TAKEN):
        if any(map(_tracked, rules.arrays_of(args))):
            # by the kernel's own operations
            return loss_kernels.cross_entropy(XP, logits, args)
        _, _, _, w, _ = target(XP, x, args._replace(label_smoothing=0.0), where)
        each = rules.losses(x, args).unsqueeze(axis)
    elif args.dense or args.label_smoothing:
        visible = where
        _, v, _, w, valid = target(XP, x, args, visible)
        each = rules.losses(x, LossArgs(axis, v.detach(), True, where=where, precision=args.precision)).unsqueeze(axis)
        if _tracked(v):
            # the loss is linear in the weights, so that they take their derivatives from a term that is 0
            cost = -recorded(LOG_SOFTMAX, x, where, axis, args.precision, PLAIN)
            cost = kept_where(cost.isfinite(), cost)
            each = each + ((v - v.detach()) * cost).sum(axis, keepdim=True)
        if valid is not None:
            # a product has NaN for its derivative too; an ignored sample is not to have one
            fine = valid if kept is None else valid | ~kept
            each = each * kept_where(fine, torch.ones_like(each), torch.nan)
    else:
        w = label_weight(args, x)
        each = rules.losses(x, LossArgs(axis, args.labels, False, where=where, precision=args.precision)).unsqueeze(
            axis
        )
        if w is not None:
            # a class of weight 0 costs nothing, though its logit be -inf
            each = kept_where((w != 0) | ~each.isinf(), each) * w
    if args.z_loss and not args.beyond(TAKEN):
        lse = recorded(LOG_SUM_EXP, x, where, axis, args.precision).unsqueeze(axis)
        if where is not None:
            lse = kept_where(where.any(axis, keepdim=True), lse)
        extra = args.z_loss * lse**2
        each = each + (extra if w is None else extra * w)
    weighted: Tensor = loss_kernels.scaled(XP, each, kept, weight)
    if args.reduction == "none":
        return weighted.squeeze(axis)
    value = loss_kernels.sum_all(XP, weighted)
    if args.reduction == "mean":
        value = loss_kernels.divided(XP, value, loss_kernels.weight_sum(XP, x, args, w))
    return value
