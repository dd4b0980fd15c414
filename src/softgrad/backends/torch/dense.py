"""Softmax, its logarithm and log-sum-exp of PyTorch tensors that nothing records, by torch's own kernels.

What these lose in a sum over many classes is given back, and a result near 0 has a closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import working

#: Classes up to which the sum of torch's softmax is exact enough.
NATIVE_SUM = 256


def softmax(x: Tensor, axis: int, precision: str | None) -> Tensor:
    """``exp(x) / sum(exp(x))``."""
    k, wide = x.shape[axis], working(x.dtype, precision)
    # the kernel of a CPU rounds half precision more than once
    if precision is None and k <= NATIVE_SUM and (x.dtype is wide or not x.is_cpu):
        return torch.softmax(x, axis)
    p = torch.softmax(x, axis, dtype=wide)
    if k > NATIVE_SUM:
        p.div_(p.sum(axis, keepdim=True))
    return p.to(x.dtype)


def log_softmax(x: Tensor, axis: int, precision: str | None) -> Tensor:
    """``x - logsumexp(x)``; at the maximum ``-log1p`` of the sum of the other exponentials."""
    y = torch.log_softmax(x, axis, dtype=working(x.dtype, precision))
    p = y.exp()
    if x.shape[axis] > NATIVE_SUM:
        total = p.sum(axis, keepdim=True)
        p.div_(total)
        y.sub_(total.log_())
    top, index = y.max(axis, keepdim=True)
    closed = p.scatter_(axis, index, 0).sum(axis, keepdim=True).div_(top.exp()).log1p_().neg_()
    return y.scatter_(axis, index, torch.where(top > -0.5, closed, top)).to(x.dtype)


def logsumexp(x: Tensor, axis: int, precision: str | None) -> Tensor:
    """``max + log1p(sum of the other exponentials)``, without ``axis``."""
    y = x.to(working(x.dtype, precision))
    m = y.amax(axis, keepdim=True)
    e = (y - m).exp_()
    rest = e.sum(axis, keepdim=True).sub_(1)
    # the fraction of the largest is 0; what is missing then are its ties, a whole number
    others = e.frac_().sum(axis, keepdim=True)
    others.add_(rest.sub_(others).round_())
    return torch.where(m.isinf(), m, others.log1p_().add_(m)).squeeze(axis).to(x.dtype)
