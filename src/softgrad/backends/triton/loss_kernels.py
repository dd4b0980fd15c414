"""Triton's kernels of the cross-entropy and its gradient, of rows in registers and of rows in a loop.

The formulas are those of the generic kernel: of class indices the exponentials of all classes but the label's, of
targets by class e (T - v) - v (the exponentials of the others), so that nothing near 0 comes from a difference.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .mathematics import exp, log1p, merge, part, part_beside, starts


@triton.jit
def _labels(y_ptr, rows, live, k, DENSE: tl.constexpr):
    """(labels, whether they are classes); none where targets are weights by class."""
    y = tl.full(rows.shape, 0, tl.int64) if DENSE else tl.load(y_ptr + rows, mask=live, other=0).to(tl.int64)
    return y, (y >= 0) & (y < k)


@triton.jit
def _weights(y, rows, live, weight_ptr, divisor_ptr, scale, ignored, WEIGHTED: tl.constexpr, DIVIDED: tl.constexpr,
             IGNORES: tl.constexpr):  # fmt: skip
    """(what each sample's loss is multiplied by, whether it counts for nothing)."""
    weight = tl.full(rows.shape, 1.0, tl.float32)
    if WEIGHTED:
        weight = tl.load(weight_ptr + rows, mask=live, other=0.0).to(tl.float32)
    nothing = weight == 0.0
    if IGNORES:
        nothing = nothing | (y == ignored)
    if DIVIDED:
        divisor = tl.load(divisor_ptr + rows * 0, mask=live, other=1.0).to(tl.float32)
        # a mean of nothing is 0, whatever stands in the logits
        nothing = nothing | (divisor == 0.0)
        weight = weight / divisor
    return weight * scale, nothing


@triton.jit
def _class_weight(class_ptr, c, k, BALANCED: tl.constexpr):
    if BALANCED:
        return tl.load(class_ptr + c, mask=c < k, other=0.0).to(tl.float32)
    return tl.where(c < k, 1.0, 0.0)


@triton.jit
def _own_weight(class_ptr, y, valid, BALANCED: tl.constexpr):
    """The class weight of each label, 1 of one that is no class."""
    if BALANCED:
        return tl.load(class_ptr + y, mask=valid, other=1.0).to(tl.float32)
    return tl.full(y.shape, 1.0, tl.float32)


@triton.jit
def _target(q_ptr, at, mask, c, y, balance, size, smoothing, k, DENSE: tl.constexpr):
    """The weights by class that a loss is taken with."""
    if DENSE:
        q = tl.load(q_ptr + at, mask=mask, other=0.0).to(tl.float32)
    else:
        q = tl.where(c[None, :] == y[:, None], 1.0, 0.0)
    return tl.where(mask, ((1.0 - smoothing) * q + (size * (smoothing / k))[:, None]) * balance[None, :], 0.0)


@triton.jit
def _finite_times(weight, loss):
    """Their product; 0 where the weight is, though the loss be infinite."""
    return tl.where((weight == 0.0) & (tl.abs(loss) == float("inf")), 0.0, loss * weight)


@triton.jit
def _index_loss(others, gap):
    return log1p(others + (exp(gap) - 1.0)) - gap


@triton.jit
def _costs(d, v, log_s):
    """Each class's part of the loss."""
    cost = log_s[:, None] - d
    return tl.sum(tl.where((v == 0.0) & (cost == float("inf")), 0.0, v * cost), 1)


@triton.jit
def _soft_slope(d, v, T, rest):
    e = exp(d)
    s = (1.0 + rest)[:, None]
    return (e * (T[:, None] - v) - v * tl.where(d == 0.0, rest[:, None], s - e)) / s


@triton.jit
def loss_tile(x_ptr, y_ptr, class_ptr, weight_ptr, divisor_ptr, value_ptr, grad_ptr, n, k, inner, x_outer, x_inner,
              x_class, y_outer, y_inner, y_class, g_outer, g_inner, g_class, scale, ignored, smoothing, z,
              VALUE: tl.constexpr, GRAD: tl.constexpr, SOFT: tl.constexpr, DENSE: tl.constexpr, WEIGHTED: tl.constexpr,
              BALANCED: tl.constexpr, DIVIDED: tl.constexpr, IGNORES: tl.constexpr, Z: tl.constexpr,
              ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The loss (VALUE) and gradient (GRAD) of rows in registers; SOFT: with weights by class, DENSE: given as such."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK).to(tl.int64)
    live = rows < n
    mask = live[:, None] & (c < k)[None, :]
    start = starts(rows, inner, x_outer, x_inner)
    x = tl.load(x_ptr + start[:, None] + c[None, :] * x_class, mask=mask, other=float("-inf")).to(tl.float32)
    y, valid = _labels(y_ptr, rows, live, k, DENSE)
    weight, nothing = _weights(y, rows, live, weight_ptr, divisor_ptr, scale, ignored, WEIGHTED, DIVIDED, IGNORES)
    own = _own_weight(class_ptr, y, valid & live, BALANCED)
    weight = tl.where(valid, weight, float("nan"))
    m = tl.max(x, 1)
    d = x - m[:, None]
    e = exp(d)
    if SOFT:
        balance = _class_weight(class_ptr, c, k, BALANCED)
        at = starts(rows, inner, y_outer, y_inner)[:, None] + c[None, :] * y_class
        size = tl.full((ROWS,), 1.0, tl.float32)
        if DENSE:
            q = tl.load(y_ptr + at, mask=mask, other=0.0).to(tl.float32)
            size = tl.sum(q, 1)
            own = tl.sum(q * balance[None, :], 1)
        v = _target(y_ptr, at, mask, c, y, balance, size, smoothing, k, DENSE)
        T = tl.sum(v, 1)
        top = d == 0.0
        rest = tl.sum(tl.where(top, 0.0, e), 1) + (tl.sum(tl.where(top, 1.0, 0.0), 1) - 1.0)
        log_s = log1p(rest)
    else:
        others = tl.sum(tl.where(c[None, :] == y[:, None], 0.0, e), 1)
        gap = tl.sum(tl.where(c[None, :] == y[:, None], d, 0.0), 1)
        rest = others + (exp(gap) - 1.0)
        log_s = log1p(rest)
    lse = m + log_s
    if VALUE:
        loss = _costs(d, v, log_s) if SOFT else _finite_times(own, log_s - gap)
        if Z:
            loss += z * lse * lse * own
        loss = tl.where(nothing, 0.0, loss * weight)
        tl.store(value_ptr + rows, loss.to(value_ptr.dtype.element_ty), mask=live)
    if GRAD:
        if SOFT:
            g = _soft_slope(d, v, T, rest)
        else:
            g = tl.where(c[None, :] == y[:, None], -others[:, None], e) * (own / (1.0 + rest))[:, None]
        if Z:
            g += e * (2.0 * z * lse * own / (1.0 + rest))[:, None]
        g = tl.where(nothing[:, None], 0.0, g * weight[:, None])
        to = starts(rows, inner, g_outer, g_inner)[:, None] + c[None, :] * g_class
        tl.store(grad_ptr + to, g.to(grad_ptr.dtype.element_ty), mask=mask)


@triton.jit
def loss_parts(x_ptr, y_ptr, parts_ptr, k, inner, x_outer, x_inner, x_class, BLOCK: tl.constexpr):
    """What a chunk of a row adds, and the label's logit, where a row's chunks go to programs of their own."""
    rows = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    start = starts(rows, inner, x_outer, x_inner)
    y = tl.load(y_ptr + rows).to(tl.int64)
    x = tl.load(x_ptr + start[:, None] + c[None, :] * x_class, mask=(c < k)[None, :], other=float("-inf"))
    m, others = part_beside(x.to(tl.float32), c, y)
    own = tl.load(x_ptr + start + y * x_class, mask=(y >= 0) & (y < k), other=0.0).to(tl.float32)
    to = parts_ptr + (rows * tl.num_programs(1) + tl.program_id(1)) * 4
    tl.store(to, m)
    tl.store(to + 1, others)
    tl.store(to + 2, own)


@triton.jit
def loss_loop(x_ptr, y_ptr, class_ptr, weight_ptr, divisor_ptr, parts_ptr, value_ptr, grad_ptr, n, k, inner, x_outer,
              x_inner, x_class, y_outer, y_inner, y_class, g_outer, g_inner, g_class, scale, ignored, smoothing, z,
              VALUE: tl.constexpr, GRAD: tl.constexpr, SOFT: tl.constexpr, DENSE: tl.constexpr, WEIGHTED: tl.constexpr,
              BALANCED: tl.constexpr, DIVIDED: tl.constexpr, IGNORES: tl.constexpr, Z: tl.constexpr,
              SPLIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The same of rows that do not fit; SPLIT: of one chunk of a row, from what ``loss_parts`` found in all."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < n
    start = starts(rows, inner, x_outer, x_inner)[:, None]
    y, valid = _labels(y_ptr, rows, live, k, DENSE)
    weight, nothing = _weights(y, rows, live, weight_ptr, divisor_ptr, scale, ignored, WEIGHTED, DIVIDED, IGNORES)
    own = _own_weight(class_ptr, y, valid & live, BALANCED)
    weight = tl.where(valid, weight, float("nan"))
    q_start = starts(rows, inner, y_outer, y_inner)[:, None]
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    others = tl.zeros((ROWS,), tl.float32)
    ties = tl.zeros((ROWS,), tl.float32)
    size = tl.zeros((ROWS,), tl.float32)
    weighed = tl.zeros((ROWS,), tl.float32)
    balances = tl.zeros((ROWS,), tl.float32)
    for first in range(0, k, BLOCK):
        ties2 = tl.zeros((ROWS,), tl.float32)
        if SPLIT:
            at = parts_ptr + (rows * tl.cdiv(k, BLOCK) + first // BLOCK) * 4
            here, others2 = tl.load(at), tl.load(at + 1)
        else:
            c = first + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < k)[None, :]
            x = tl.load(x_ptr + start + c[None, :] * x_class, mask=mask, other=float("-inf")).to(tl.float32)
            if SOFT:
                here, others2, ties2 = part(x)
                balance = _class_weight(class_ptr, c, k, BALANCED)
                balances += tl.sum(balance, 0)
                if DENSE:
                    q = tl.load(y_ptr + q_start + c[None, :] * y_class, mask=mask, other=0.0).to(tl.float32)
                    size += tl.sum(q, 1)
                    weighed += tl.sum(q * balance[None, :], 1)
            else:
                here, others2 = part_beside(x, c, y)
        m, others, ties = merge(m, others, ties, here, others2, ties2)
    if SOFT:
        rest = others + (ties - 1.0)
        if DENSE:
            own = weighed
        else:
            size += 1.0
            weighed = own
        T = (1.0 - smoothing) * weighed + size * (smoothing / k) * balances
        log_s = log1p(rest)
    else:
        if SPLIT:
            # the gradient may be written where the logits are, by another program
            label = tl.load(parts_ptr + rows * tl.cdiv(k, BLOCK) * 4 + 2)
        else:
            label = tl.load(x_ptr + starts(rows, inner, x_outer, x_inner) + y * x_class, mask=valid & live, other=0.0)
        gap = label.to(tl.float32) - m
        rest = others + (exp(gap) - 1.0)
        log_s = log1p(rest)
    lse = m + log_s
    loss = tl.zeros((ROWS,), tl.float32)
    to = starts(rows, inner, g_outer, g_inner)[:, None]
    if GRAD:
        # the gradient may be written where the logits are: every warp has read the label's by then
        tl.debug_barrier()
    mine = tl.program_id(1) * BLOCK
    if GRAD or SOFT:
        for first in range(mine, mine + BLOCK if SPLIT else k, BLOCK):
            c = first + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < k)[None, :]
            d = (
                tl.load(x_ptr + start + c[None, :] * x_class, mask=mask, other=float("-inf")).to(tl.float32)
                - m[:, None]
            )
            if SOFT:
                balance = _class_weight(class_ptr, c, k, BALANCED)
                v = _target(y_ptr, q_start + c[None, :] * y_class, mask, c, y, balance, size, smoothing, k, DENSE)
                if VALUE:
                    loss += _costs(d, v, log_s)
            if GRAD:
                if SOFT:
                    g = _soft_slope(d, v, T, rest)
                else:
                    e = exp(d)
                    g = tl.where(c[None, :] == y[:, None], -others[:, None], e) * (own / (1.0 + rest))[:, None]
                if Z:
                    g += exp(d) * (2.0 * z * lse * own / (1.0 + rest))[:, None]
                g = tl.where(nothing[:, None], 0.0, g * weight[:, None])
                tl.store(grad_ptr + to + c[None, :] * g_class, g.to(grad_ptr.dtype.element_ty), mask=mask)
    if VALUE:
        if not SOFT:
            loss = _finite_times(own, log_s - gap)
        if Z:
            loss += z * lse * lse * own
        loss = tl.where(nothing, 0.0, loss * weight)
        tl.store(value_ptr + rows, loss.to(value_ptr.dtype.element_ty), mask=live & (rows * 0 + mine == 0))


@triton.jit
def weights(y_ptr, class_ptr, weight_ptr, out_ptr, n, k, ignored, WEIGHTED: tl.constexpr,
            BALANCED: tl.constexpr, IGNORES: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """What each sample adds to the divisor of a mean over class indices."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < n
    y, valid = _labels(y_ptr, rows, live, k, False)
    weight = _own_weight(class_ptr, y, valid & live, BALANCED)
    if WEIGHTED:
        own = tl.load(weight_ptr + rows, mask=live, other=0.0).to(tl.float32)
        weight = tl.where(own == 0.0, 0.0, weight * own)
    if IGNORES:
        weight = tl.where(y == ignored, 0.0, weight)
    tl.store(out_ptr + rows, weight, mask=live)
