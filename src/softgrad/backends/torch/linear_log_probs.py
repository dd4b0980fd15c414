"""Log-probabilities of the linear model on PyTorch tensors, as an operation that keeps no logits for autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..._kernels import linear_log_probs as generic
from ..._kernels.linear_log_probs import Rows, Wanted
from ..._options import LossArgs
from .._registry import call
from .blocks import XP, is_eager
from .linear_recorded import NAMES, by_name, recordable
from .log_probs import entropy, log_probs


def _recorded_block(xp: Any, z: Tensor, labels: Tensor, wanted: Wanted, compensated: bool) -> Rows:
    """The results of a block of logits, by operations with closed forms for their derivatives."""
    precision = "high" if compensated else None
    return generic.recorded_block(xp, z, z.detach(), labels, wanted, precision, log_probs, entropy)


class LinearLogProbs(Function):  # type: ignore[misc]
    """What is wanted of every sample: (xp, X, W, bias, args, wanted, block_size)."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        """All results, None for what is not wanted."""
        xp, X, W, bias, *rest = inputs
        found = Rows(*call("linear_log_probs", xp, X, W, bias, *rest))
        ctx.xp, ctx.rest = xp, rest
        ctx.set_materialize_grads(False)
        if found.top_labels is not None:
            ctx.mark_non_differentiable(found.top_labels)
        ctx.save_for_backward(X, W, bias, found.top_labels)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        """By the logits made again."""
        X, W, bias, top = ctx.saved_tensors
        args, wanted, block_size = ctx.rest
        c = Rows(*cotangents)
        names = tuple(name for name, need in zip(NAMES, ctx.needs_input_grad[1:4], strict=True) if need)
        if torch.is_grad_enabled():
            slopes: Any = _again(ctx, X, W, bias, c, names)
        else:
            first, labels = c.log_probs, args.labels
            if c.top_log_probs is not None:
                # the likeliest are labels as well
                own = torch.zeros(labels.shape, dtype=X.dtype, device=X.device) if first is None else first
                first, labels = torch.cat([own, c.top_log_probs], 1), torch.cat([labels.to(top.dtype), top], 1)
            given = Rows(first, c.log_normalizer, c.entropy)
            args = args._replace(labels=labels)
            slopes = call("linear_log_probs_vjp", ctx.xp, X, W, bias, args, names, wanted.scaling, given, block_size)
        return None, *by_name(names, slopes), None, None, None


def _again(ctx: Any, X: Tensor, W: Tensor, bias: Tensor | None, c: Rows, names: tuple[str, ...]) -> Any:
    """The same, to be differentiated in turn."""
    with torch.enable_grad():
        args, wanted, block_size = ctx.rest
        found = generic.linear_log_probs(XP, X, W, bias, args, wanted, block_size, _recorded_block)
    pairs = [(a, g) for a, g in zip(found, c, strict=True) if a is not None and g is not None]
    inputs = [a for a, name in zip((X, W, bias), NAMES, strict=True) if name in names]
    return torch.autograd.grad([a for a, _ in pairs], inputs, [g for _, g in pairs], create_graph=True)


def linear_log_probs(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    args: LossArgs,
    wanted: Wanted,
    block_size: int | None = None,
) -> Rows:
    """What is wanted of every sample."""
    if is_eager(X, W, bias, args.labels):
        return generic.linear_log_probs(xp, X, W, bias, args, wanted, block_size)
    if recordable(X, W, bias, args.labels):
        return Rows(*LinearLogProbs.apply(xp, X, W, bias, args, wanted, block_size))
    return generic.linear_log_probs(xp, X, W, bias, args, wanted, block_size, _recorded_block)
