"""Triton's kernels of the cross-entropy and its gradient, of rows in registers and of rows in a loop.

The formulas are those of the generic kernel: of class indices the exponentials of all classes but the label's, of
targets by class e (T - v) - v (the exponentials of the others), so that nothing near 0 comes from a difference. The
loss by targets is T log(s) - sum(v d), two terms of one sign, whose sum is found with that of the exponentials.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .loss_rows import (
    class_sum,
    class_weights,
    evenly,
    factors,
    finite_times,
    found_in,
    joined,
    label_logit,
    label_weight,
    labels,
    loss_of,
    sample_weights,
    slope_of,
    smoothed,
    targets,
)
from .mathematics import exp, log1p, merge, starts
from .scaling import MASKED, SCALED, SHIFTED, TEMPERED, apart, gap, load, shifts, top


@triton.jit
def loss_tile(x_ptr, y_ptr, class_ptr, shift_ptr, where_ptr, weight_ptr, divisor_ptr, value_ptr, grad_ptr, n, k, inner,
              x_outer, x_inner, x_class, y_outer, y_inner, y_class, w_outer, w_inner, w_class, g_outer, g_inner,
              g_class, scale, ignored, smoothing, z, cap, temperature, focal,
              VALUE: tl.constexpr, GRAD: tl.constexpr, SOFT: tl.constexpr, DENSE: tl.constexpr, SMOOTH: tl.constexpr,
              WEIGHTED: tl.constexpr, BALANCED: tl.constexpr, DIVIDED: tl.constexpr, IGNORES: tl.constexpr,
              Z: tl.constexpr, FOCAL: tl.constexpr, HOW: tl.constexpr, ROWS: tl.constexpr,
              BLOCK: tl.constexpr):  # fmt: skip
    """The loss (VALUE) and gradient (GRAD) of rows in registers; SOFT: with weights by class, DENSE: given as such."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK).to(tl.int64)
    live = rows < n
    mask = live[:, None] & (c < k)[None, :]
    start = starts(rows, inner, x_outer, x_inner)
    w_at = starts(rows, inner, w_outer, w_inner)[:, None] + c[None, :] * w_class
    x, shown = load(x_ptr, start[:, None] + c[None, :] * x_class, where_ptr, w_at, mask, HOW)
    y, valid = labels(y_ptr, rows, live, k, DENSE)
    weight, nothing = sample_weights(y, rows, live, weight_ptr, divisor_ptr, scale, ignored, WEIGHTED, DIVIDED, IGNORES)
    own = label_weight(class_ptr, y, valid & live, BALANCED)
    weight = tl.where(valid, weight, float("nan"))
    added = shifts(shift_ptr, c, c < k, HOW)
    m, most_added = top(x, added, cap, temperature, HOW)
    d = apart(
        x, m[:, None], added[None, :], most_added[:, None], cap, temperature, HOW
    )  # fmt: skip
    e = exp(d)
    v, T = d, own
    if SOFT:
        balance = class_weights(class_ptr, c, k, BALANCED)
        at = starts(rows, inner, y_outer, y_inner)[:, None] + c[None, :] * y_class
        size = tl.full((ROWS,), 1.0, tl.float32)
        q = targets(y_ptr, at, mask, c, y, DENSE)
        if DENSE:
            size = tl.sum(q, 1)
            own = tl.sum(q * balance[None, :], 1)
        count = tl.sum(shown.to(tl.float32), 1) if MASKED & HOW else size
        uniform = evenly(size, smoothing, k, count, HOW)
        v = smoothed(q, mask, shown, balance, uniform, smoothing, SMOOTH, HOW)
        T, below = own, own
        if SMOOTH:
            T = (1.0 - smoothing) * own + uniform * class_sum(balance, shown, m, HOW)
        is_top = d == 0.0
        others = tl.sum(tl.where(is_top, 0.0, e), 1)
        rest = others + (tl.sum(tl.where(is_top, 1.0, 0.0), 1) - 1.0)
    else:
        others = tl.sum(tl.where(c[None, :] == y[:, None], 0.0, e), 1)
        below = tl.sum(tl.where(c[None, :] == y[:, None], d, 0.0), 1)
        rest = others + (exp(below) - 1.0)
    log_s = log1p(rest)
    lse = m + log_s
    if SCALED & HOW:
        lse = apart(m, 0.0, most_added, 0.0, cap, temperature, HOW) + log_s
    factor, steep = factors(below, log_s, others, rest, focal, FOCAL)
    if VALUE:
        if SOFT:
            below = tl.sum(finite_times(v, d), 1)
        loss = loss_of(below, log_s, lse, own, T, factor, z, weight, nothing, SOFT, FOCAL, Z)
        tl.store(value_ptr + rows, loss.to(value_ptr.dtype.element_ty), mask=live)
    if GRAD:
        if TEMPERED & HOW:
            weight = weight / temperature
        g = slope_of(
            x, shown, d, c, y, v, T, rest, others, lse, own, steep, z, weight, nothing, cap, SOFT, FOCAL, Z, HOW
        )  # fmt: skip
        to = starts(rows, inner, g_outer, g_inner)[:, None] + c[None, :] * g_class
        tl.store(grad_ptr + to, g.to(grad_ptr.dtype.element_ty), mask=mask)


@triton.jit
def loss_parts(x_ptr, y_ptr, class_ptr, shift_ptr, where_ptr, parts_ptr, k, inner, x_outer, x_inner, x_class, y_outer,
               y_inner, y_class, w_outer, w_inner, w_class, cap, temperature, SOFT: tl.constexpr, DENSE: tl.constexpr,
               SMOOTH: tl.constexpr, BALANCED: tl.constexpr, HOW: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """What a chunk of a row adds, and the label's logit, where a row's chunks go to programs of their own."""
    rows = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    mask = (rows >= 0)[:, None] & (c < k)[None, :]
    start = starts(rows, inner, x_outer, x_inner)
    w_start = starts(rows, inner, w_outer, w_inner)
    q_at = starts(rows, inner, y_outer, y_inner)[:, None] + c[None, :] * y_class
    y, valid = labels(y_ptr, rows, rows >= 0, k, DENSE)
    x, shown = load(
        x_ptr, start[:, None] + c[None, :] * x_class, where_ptr, w_start[:, None] + c[None, :] * w_class, mask, HOW,
    )  # fmt: skip
    found = found_in(
        x, shown, c, y, y_ptr, q_at, mask, class_ptr, shift_ptr, k, cap, temperature, SOFT, DENSE, SMOOTH, BALANCED,
        HOW,
    )  # fmt: skip
    m, most_added, others, ties, size, weighed, balances, count, costs, spread = found
    to = parts_ptr + (rows * tl.num_programs(1) + tl.program_id(1)) * (12 if SOFT else 4)
    tl.store(to, m)
    tl.store(to + 1, others)
    if not DENSE:
        label = label_logit(
            x_ptr, start, where_ptr, w_start, y, x_class, w_class, valid, HOW
        )  # fmt: skip
        tl.store(to + 2, label)
    if SHIFTED & HOW:
        tl.store(to + 3, most_added)
    if SOFT:
        tl.store(to + 4, ties)
        tl.store(to + 5, size)
        tl.store(to + 6, weighed)
        tl.store(to + 7, balances)
        tl.store(to + 8, count)
        tl.store(to + 9, costs)
        tl.store(to + 10, spread)


@triton.jit
def loss_loop(x_ptr, y_ptr, class_ptr, shift_ptr, where_ptr, weight_ptr, divisor_ptr, parts_ptr, value_ptr, grad_ptr,
              n, k, inner, x_outer, x_inner, x_class, y_outer, y_inner, y_class, w_outer, w_inner, w_class, g_outer,
              g_inner, g_class, scale, ignored, smoothing, z, cap, temperature, focal,
              VALUE: tl.constexpr, GRAD: tl.constexpr, SOFT: tl.constexpr, DENSE: tl.constexpr, SMOOTH: tl.constexpr,
              WEIGHTED: tl.constexpr, BALANCED: tl.constexpr, DIVIDED: tl.constexpr, IGNORES: tl.constexpr,
              Z: tl.constexpr, FOCAL: tl.constexpr, HOW: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr,
              BLOCK: tl.constexpr):  # fmt: skip
    """The same of rows that do not fit; SPLIT: of one chunk of a row, from what ``loss_parts`` found in all."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < n
    start = starts(rows, inner, x_outer, x_inner)[:, None]
    w_start = starts(rows, inner, w_outer, w_inner)[:, None]
    y, valid = labels(y_ptr, rows, live, k, DENSE)
    weight, nothing = sample_weights(y, rows, live, weight_ptr, divisor_ptr, scale, ignored, WEIGHTED, DIVIDED, IGNORES)
    own = label_weight(class_ptr, y, valid & live, BALANCED)
    weight = tl.where(valid, weight, float("nan"))
    q_start = starts(rows, inner, y_outer, y_inner)[:, None]
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    most_added = tl.zeros((ROWS,), tl.float32)
    others = tl.zeros((ROWS,), tl.float32)
    ties = tl.zeros((ROWS,), tl.float32)
    size = tl.zeros((ROWS,), tl.float32)
    weighed = tl.zeros((ROWS,), tl.float32)
    balances = tl.zeros((ROWS,), tl.float32)
    count = tl.zeros((ROWS,), tl.float32)
    costs = tl.zeros((ROWS,), tl.float32)
    spread = tl.zeros((ROWS,), tl.float32)
    for first in range(0, k, BLOCK):
        if SPLIT:
            at = parts_ptr + (rows * tl.cdiv(k, BLOCK) + first // BLOCK) * (12 if SOFT else 4)
            here, others2 = tl.load(at), tl.load(at + 1)
            added2 = tl.load(at + 3) if SHIFTED & HOW else most_added
            ties2 = tl.zeros((ROWS,), tl.float32)
            if SOFT:
                ties2, size2, weighed2 = tl.load(at + 4), tl.load(at + 5), tl.load(at + 6)
                balances2, count2 = tl.load(at + 7), tl.load(at + 8)
                costs2, spread2 = tl.load(at + 9), tl.load(at + 10)
        else:
            c = first + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < k)[None, :]
            x, shown = load(
                x_ptr, start + c[None, :] * x_class, where_ptr, w_start + c[None, :] * w_class, mask, HOW
            )  # fmt: skip
            found = found_in(
                x, shown, c, y, y_ptr, q_start + c[None, :] * y_class, mask, class_ptr, shift_ptr, k, cap, temperature,
                SOFT, DENSE, SMOOTH, BALANCED, HOW,
            )  # fmt: skip
            here, added2, others2, ties2, size2, weighed2, balances2, count2, costs2, spread2 = found
        g = gap(here, added2, m, most_added, cap, temperature, HOW)
        others, ties = merge(g, others, ties, others2, ties2)
        if DENSE:
            costs = joined(g, costs, weighed, costs2, weighed2)
            weighed += weighed2
            if SMOOTH:
                size += size2
        if SMOOTH:
            spread = joined(g, spread, balances, spread2, balances2)
            balances += balances2
            if MASKED & HOW:
                count += count2
        m = tl.where(g > 0.0, here, m)
        if SHIFTED & HOW:
            most_added = tl.where(g > 0.0, added2, most_added)
    T, below = own, own
    if not DENSE:
        if SPLIT:
            # the gradient may be written where the logits are, by another program
            label = tl.load(parts_ptr + rows * tl.cdiv(k, BLOCK) * (12 if SOFT else 4) + 2)
        else:
            label = label_logit(
                x_ptr, starts(rows, inner, x_outer, x_inner), where_ptr, starts(rows, inner, w_outer, w_inner), y,
                x_class, w_class, valid & live, HOW,
            )  # fmt: skip
        below = apart(
            label, m, shifts(shift_ptr, y, valid & live, HOW), most_added, cap, temperature, HOW,
        )  # fmt: skip
    if SOFT:
        rest = others + (ties - 1.0)
        if not DENSE:
            size += 1.0
            weighed = own
            costs = finite_times(own, below)
        own = weighed
        T = weighed
        uniform = size
        if SMOOTH:
            uniform = evenly(size, smoothing, k, count, HOW)
            T = (1.0 - smoothing) * weighed + uniform * balances
            costs = finite_times(1.0 - smoothing, costs) + finite_times(uniform, spread)
    else:
        rest = others + (exp(below) - 1.0)
    log_s = log1p(rest)
    lse = m + log_s
    if SCALED & HOW:
        lse = apart(m, 0.0, most_added, 0.0, cap, temperature, HOW) + log_s
    factor, steep = factors(below, log_s, others, rest, focal, FOCAL)
    to = starts(rows, inner, g_outer, g_inner)[:, None]
    mine = tl.program_id(1) * BLOCK
    if VALUE:
        loss = loss_of(costs if SOFT else below, log_s, lse, own, T, factor, z, weight, nothing, SOFT, FOCAL, Z)
        tl.store(value_ptr + rows, loss.to(value_ptr.dtype.element_ty), mask=live & (rows * 0 + mine == 0))
    if GRAD:
        # the gradient may be written where the logits are: every warp has read the label's by then
        tl.debug_barrier()
        if TEMPERED & HOW:
            weight = weight / temperature
        for first in range(mine, mine + BLOCK if SPLIT else k, BLOCK):
            c = first + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < k)[None, :]
            x, shown = load(
                x_ptr, start + c[None, :] * x_class, where_ptr, w_start + c[None, :] * w_class, mask, HOW
            )  # fmt: skip
            added = shifts(shift_ptr, c, c < k, HOW)
            d = apart(
                x, m[:, None], added[None, :], most_added[:, None], cap, temperature, HOW
            )  # fmt: skip
            v = d
            if SOFT:
                balance = class_weights(class_ptr, c, k, BALANCED)
                q = targets(y_ptr, q_start + c[None, :] * y_class, mask, c, y, DENSE)
                v = smoothed(q, mask, shown, balance, uniform, smoothing, SMOOTH, HOW)
            g = slope_of(
                x, shown, d, c, y, v, T, rest, others, lse, own, steep, z, weight, nothing, cap, SOFT, FOCAL, Z, HOW
            )  # fmt: skip
            tl.store(grad_ptr + to + c[None, :] * g_class, g.to(grad_ptr.dtype.element_ty), mask=mask)


@triton.jit
def weights(y_ptr, class_ptr, weight_ptr, out_ptr, n, k, ignored, WEIGHTED: tl.constexpr,
            BALANCED: tl.constexpr, IGNORES: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """What each sample adds to the divisor of a mean over class indices."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < n
    y, valid = labels(y_ptr, rows, live, k, False)
    weight = label_weight(class_ptr, y, valid & live, BALANCED)
    if WEIGHTED:
        own = tl.load(weight_ptr + rows, mask=live, other=0.0).to(tl.float32)
        weight = tl.where(own == 0.0, 0.0, weight * own)
    if IGNORES:
        weight = tl.where(y == ignored, 0.0, weight)
    tl.store(out_ptr + rows, weight, mask=live)
