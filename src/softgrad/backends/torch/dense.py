"""Softmax, its logarithm and log-sum-exp of PyTorch tensors that nothing records: in place, in blocks.

torch's own softmax runs where it is fastest, and what it loses in a sum over many classes is given back. The others
are one pass after the other over a block in cache, with the closed forms that keep the digits of a result near 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import shared
from .blocks import BLOCK_BYTES, NATIVE_SUM, SHORT, Scratch, View, blocks, host, put, view, working

#: Classes from which torch's kernels in float64 are ahead of one pass after the other.
NATIVE_SOFTMAX64, NATIVE_LOG64 = 100, 64
#: Elements up to which no block is made; up to which a softmax is torch's in any case, and where torch is good at it.
SMALL, FEW = 2048, 512
#: Sums below this are taken without their largest term, for a log of the sum and for log-probabilities.
DOMINATED, FAR = 1.5, 1.125
#: Bytes of a row that torch's maximum takes with vector instructions; what is left over goes one by one.
VECTOR = 128


def row_max(x: Tensor, dim: int) -> Tensor:
    """The maximum, the class axis kept."""
    k = x.shape[dim]
    width = VECTOR // x.element_size()
    if dim == 0 or x.ndim != 2 or k < width or k % width < width // 8 or not host(x):
        return x.amax(dim, keepdim=True)
    # an element that is looked at twice does not change a maximum
    whole = x.narrow(1, 0, k - k % width).amax(1, keepdim=True)
    return torch.maximum(whole, x.narrow(1, k - width, width).amax(1, keepdim=True), out=whole)


def padded(v: View, class_first: bool) -> int:
    """Classes of a block's scratch memory: rows too short for a vector are filled up with -inf."""
    width = VECTOR // 4
    if v.rows and host(v.x) and not class_first and v.classes < width and v.x.dtype is not torch.float64:
        return width
    return v.classes


def shift(src: Tensor, z: Tensor, dim: int) -> Tensor:
    """Write ``src`` less its maximum into ``z``; returns the maximum, the class axis kept."""
    if z.shape != src.shape:
        z[:, src.shape[1] :] = -math.inf
        z[:, : src.shape[1]] = src
        src = z
    elif src.dtype != z.dtype or dim == 0:
        src = put(src, z)
    m = row_max(src, dim)
    torch.sub(src, m, out=z)
    return m


def rest_of(e: Tensor, dim: int, below: float = DOMINATED) -> Tensor:
    """sum(e) - 1 for exponentials whose largest is 1, the class axis kept; overwrites ``e``.

    A sum below ``below`` is taken again without its largest term.
    """
    rest = e.sum(dim, keepdim=True).sub_(1)
    if dim and host(e) and e.shape[1] >= SHORT:
        near = (rest < below - 1).view(-1).nonzero().view(-1)
        if not near.numel():
            return rest
        if e.ndim == 2 and near.numel() * 4 < e.shape[0]:
            return rest.index_copy_(0, near, e.index_select(0, near).frac_().sum(1, keepdim=True))
    # the fraction of the largest is 0; what is missing then are its ties, a whole number
    others = e.frac_().sum(dim, keepdim=True)
    return others.add_(rest.sub_(others).round_())


def _class_first(v: View, below: int = SHORT) -> bool:
    return v.rows and v.classes < below and host(v.x)


def softmax(x: Tensor, axis: int, precision: str | None) -> Tensor:
    """exp(x) / sum(exp(x))."""
    kernel = shared.on_gpu("softmax", x, axis, None, precision)
    if kernel is not None:
        return kernel(None, x, axis)
    if shared.on_host(x):
        return shared.host("softmax", x, axis, None, precision)
    k, n, wide = x.shape[axis], x.numel(), working(x.dtype, precision)
    # the native kernel of a CPU rounds half precision more than once
    native = precision is None and k <= NATIVE_SUM and (x.dtype is wide or not host(x))
    if native and n <= FEW:
        return torch.softmax(x, axis)
    slow = host(x) and k < (NATIVE_SOFTMAX64 if wide is torch.float64 else SHORT)
    if native and (n <= SMALL or not slow):
        return torch.softmax(x, axis)
    v = view(x, axis)
    if native and not v.rows:
        return torch.softmax(x, axis)
    first = _class_first(v)
    passes = native and not first
    out, scratch = v.empty(x.dtype), Scratch(x, wide)
    direct = wide is x.dtype and not first
    for cut, dim, shape in blocks(v, wide.itemsize, first):
        src, to = cut(v.x), cut(out)
        p = to if direct else scratch(shape)
        if passes:
            shift(src, p, dim)
            p.exp_()
            p.div_(p.sum(dim, keepdim=True))
        else:
            if not direct:
                src = put(src, scratch(shape, 1))
            torch.softmax(src, dim, out=p)
            if k > NATIVE_SUM:
                total = p.sum(dim, keepdim=True)
                if not host(p) or not (total - 1).abs_().amax().item() <= 16 * torch.finfo(wide).eps:
                    p.div_(total)
        if not direct:
            put(p, to)
    return v.back(out)


def _log_softmax_native(x: Tensor, axis: int) -> Tensor:
    """The native kernel, and the top element from the sum of the others."""
    y = torch.log_softmax(x, axis)
    top, index = y.max(axis, keepdim=True)
    p = y.exp().scatter_(axis, index, 0)
    closed = p.sum(axis, keepdim=True).div_(top.exp()).log1p_().neg_()
    return y.scatter_(axis, index, torch.where(top > -0.5, closed, top))


def _inexact(y: Tensor, scratch: Scratch) -> Tensor:
    """Which rows of a native log-softmax hold an element so near to 0 that its digits are lost."""
    k = y.shape[1]
    bound = max(1 / 64, k / 2240)
    if y.element_size() * k >= VECTOR:
        return (row_max(y, 1) > -bound).view(-1).nonzero().view(-1)
    # a sum is faster than a maximum of a few, and one element above the clamp shows in it
    low = torch.clamp_min(y, -1.1 * bound, out=scratch((y.shape[0], k), 2))
    return (low.sum(1) > bound * (0.1 - 1.1 * k)).nonzero().view(-1)


def _log_rows(src: Tensor, out: Tensor, dim: int, size: int, scratch: Scratch) -> None:
    """Log-softmax of a block, one pass after the other; ``size`` classes with what is filled up."""
    k = src.shape[dim]
    shape = (src.shape[0], size) if size != k else tuple(src.shape)
    d = out if out.dtype is scratch.dtype and dim and size == k else scratch(shape)
    shift(src, d, dim)
    e = torch.exp(d, out=scratch(shape, 1))
    torch.sub(d[:, :k] if size != k else d, rest_of(e, dim, FAR).log1p_(), out=out)


def log_softmax(x: Tensor, axis: int, precision: str | None) -> Tensor:
    """X - logsumexp(x); -log1p(the others) at the top."""
    kernel = shared.on_gpu("log_softmax", x, axis, None, precision)
    if kernel is not None:
        return kernel(None, x, axis)
    if shared.on_host(x):
        return shared.host("log_softmax", x, axis, None, precision)
    k, wide = x.shape[axis], working(x.dtype, precision)
    if x.numel() <= SMALL and k <= NATIVE_SUM and x.dtype is wide and host(x):
        y = torch.log_softmax(x, axis)
        if x.numel() == 0 or y.amax().item() <= -max(1 / 64, k / 2240):
            return y
    elif not host(x):
        return _log_softmax_native(x.to(wide), axis).to(x.dtype)
    v = view(x, axis)
    first = _class_first(v)
    size = padded(v, first)
    # rows are tried with torch's kernel until a block has many that it is too inexact for
    native = v.rows and x.dtype is wide and (SHORT if wide is torch.float32 else NATIVE_LOG64) <= k <= NATIVE_SUM
    out, scratch = v.empty(x.dtype), Scratch(x, wide)
    late, start = [], 0
    for cut, dim, shape in blocks(v, wide.itemsize, first):
        src, to = cut(v.x), cut(out)
        if native:
            torch.log_softmax(src, dim, out=to)
            rows = _inexact(to, scratch)
            native = rows.numel() * 4 <= shape[0]
            if native:
                if rows.numel():
                    late.append(rows.add_(start))
                start += shape[0]
                continue
        _log_rows(src, to, dim, size, scratch)
    if late:
        most = max(1, BLOCK_BYTES // (k * wide.itemsize))
        for rows in torch.cat(late).split(most):
            src = v.x.index_select(0, rows)
            to = torch.empty_like(src)
            _log_rows(src, to, 1, size, scratch)
            out.index_copy_(0, rows, to)
    return v.back(out)


def _log_sum(src: Tensor, z: Tensor, dim: int) -> Tensor:
    """log(sum(exp(src))), the class axis kept; overwrites ``z``."""
    m = shift(src, z, dim)
    r = rest_of(z.exp_(), dim).log1p_().add_(m)
    if host(m) and m.sum().isfinite():
        return r
    return torch.where(m.isinf(), m, r)


def logsumexp(x: Tensor, axis: int, precision: str | None) -> Tensor:
    """Max + log1p(the others), without ``axis``."""
    kernel = shared.on_gpu("logsumexp", x, axis, None, precision)
    if kernel is not None:
        return kernel(None, x, axis)
    if shared.on_host(x):
        return shared.host("logsumexp", x, axis, None, precision)
    wide = working(x.dtype, precision)
    v = view(x, axis)
    first = _class_first(v)
    size = padded(v, first)
    out, scratch = v.empty_samples(x.dtype), Scratch(x, wide)
    for cut, dim, shape in blocks(v, wide.itemsize, first):
        if size != v.classes:
            shape = (shape[0], size)
        put(_log_sum(cut(v.x), scratch(shape), dim), cut(out))
    return v.back_samples(out)
