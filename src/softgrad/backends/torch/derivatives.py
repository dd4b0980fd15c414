"""Cotangents of softmax and log-softmax of PyTorch tensors, pulled back to the logits.

Where one class has nearly all of the sum, two numbers that are close would be subtracted: the cotangent is centred on
its value at that class first, or its terms are summed without it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..._kernels.dense import SURE
from .._registry import call
from . import shared
from .blocks import XP, is_eager_cotangent, kept_where


def _wide(*arrays: Tensor) -> list[Tensor]:
    return [a.to(torch.float32) if a.dtype in (torch.float16, torch.bfloat16) else a for a in arrays]


def _softmax_vjp(p: Tensor, c: Tensor, axis: int) -> Tensor:
    """``p (c - sum(p c))``, with ``c`` centred on its value at the largest ``p``; differentiable in both."""
    dtype = p.dtype
    p, c = _wide(p, c)
    index = torch.arange(p.shape[axis], device=p.device).view((-1,) + (1,) * (p.ndim - 1 - axis % p.ndim))
    top = index == p.argmax(axis, keepdim=True)
    # the largest has the difference 0: what is linear in c here passes on to it the sum of the others, and no more
    apart = kept_where(~top, c - kept_where(top, c).sum(axis, keepdim=True))
    return (p * (apart - (p * apart).sum(axis, keepdim=True))).to(dtype)


def _log_softmax_vjp(log_p: Tensor, c: Tensor, axis: int) -> Tensor:
    """``c - p sum(c)``; near p = 1 from ``1 - p`` and the sum of the other cotangents; differentiable in both."""
    dtype = log_p.dtype
    log_p, c = _wide(log_p, c)
    top = log_p > -0.5
    p = log_p.exp()
    others = kept_where(~top, c).sum(axis, keepdim=True)
    own = -(c * log_p.expm1()) - p * others
    return torch.where(top, own, c - p * c.sum(axis, keepdim=True)).to(dtype)


def log_softmax_jvp(log_p: Tensor, t: Tensor, axis: int) -> Tensor:
    """``t - sum(p t)``, with ``t`` centred on its value at a probability near 1; differentiable in both."""
    axis %= log_p.ndim
    if is_eager_cotangent(t, log_p):
        pushed: Tensor = call("log_softmax_jvp", XP, log_p, t, axis)
        return pushed
    dtype = log_p.dtype
    log_p, t = _wide(log_p, t)
    p = log_p.exp()
    top = p > SURE
    apart = kept_where(~top, t - kept_where(top, t).sum(axis, keepdim=True))
    return (apart - (p * apart).sum(axis, keepdim=True)).to(dtype)


def _vjp(name: str, closed: Callable[[Tensor, Tensor, int], Tensor], a: Tensor, c: Tensor, axis: int) -> Tensor:
    """By the registry's kernel where nothing is recorded, else by the closed form."""
    axis %= a.ndim
    if shared.traced(f"{name}_vjp", a, c, axis):
        return torch.ops.softgrad.vjp(a, c, axis, name == "log_softmax")
    if not is_eager_cotangent(c, a):
        return closed(a, c, axis)
    pulled: Tensor = call(f"{name}_vjp", XP, a, c, axis)
    return pulled


def softmax_vjp(p: Tensor, c: Tensor, axis: int) -> Tensor:
    """The cotangent of the logits from that of a softmax."""
    return _vjp("softmax", _softmax_vjp, p, c, axis)


def log_softmax_vjp(log_p: Tensor, c: Tensor, axis: int) -> Tensor:
    """The cotangent of the logits from that of a log-softmax."""
    return _vjp("log_softmax", _log_softmax_vjp, log_p, c, axis)
