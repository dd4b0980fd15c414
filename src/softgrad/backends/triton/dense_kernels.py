"""Triton's kernels of softmax, its logarithm, log-sum-exp and their derivatives.

Each comes twice: where a row fits in registers, and in a loop over chunks of its classes, which reads it twice. Few
long rows are split: a program takes a chunk, and a second launch merges the chunks in the order of the loop, to the
same bits. An array is (outer, classes, inner), as its strides say; ``ROWS`` rows go to a program, however many there
are, so that a row's result depends on the row alone.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .mathematics import exp, expm1, log1p, merge, part, starts
from .scaling import MASKED, load


@triton.jit
def _element(d, normalizer, shown, MODE: tl.constexpr, HOW: tl.constexpr):
    y = exp(d) / normalizer[:, None] if MODE == 0 else d - normalizer[:, None]
    if MASKED & HOW:
        y = tl.where(shown, y, 0.0 if MODE == 0 else float("-inf"))
    return y


@triton.jit
def _normalizer(rest, MODE: tl.constexpr):
    return 1.0 + rest if MODE == 0 else log1p(rest)


@triton.jit
def _log_sum(m, rest, nan):
    return tl.where(nan > 0, float("nan"), tl.where(tl.abs(m) == float("inf"), m, m + log1p(rest)))


@triton.jit
def dense_tile(x_ptr, where_ptr, out_ptr, n, k, inner, x_outer, x_inner, x_class, w_outer, w_inner, w_class, out_outer,
               out_inner, out_class, MODE: tl.constexpr, HOW: tl.constexpr, ROWS: tl.constexpr,
               BLOCK: tl.constexpr):  # fmt: skip
    """Softmax (MODE 0), its logarithm (1) or log-sum-exp (2) of rows in registers."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK).to(tl.int64)
    live = rows < n
    mask = live[:, None] & (c < k)[None, :]
    at = starts(rows, inner, x_outer, x_inner)[:, None] + c[None, :] * x_class
    w_at = starts(rows, inner, w_outer, w_inner)[:, None] + c[None, :] * w_class
    x, shown = load(x_ptr, at, where_ptr, w_at, mask, HOW)
    m = tl.max(x, 1)
    d = x - m[:, None]
    top = d == 0.0
    others = tl.sum(tl.where(top, 0.0, exp(d)), 1)
    rest = others + (tl.sum(tl.where(top, 1.0, 0.0), 1) - 1.0)
    if MODE == 2:
        nan = tl.max((x != x).to(tl.int32), 1)
        tl.store(out_ptr + rows, _log_sum(m, rest, nan).to(out_ptr.dtype.element_ty), mask=live)
    else:
        at = starts(rows, inner, out_outer, out_inner)[:, None] + c[None, :] * out_class
        y = _element(d, _normalizer(rest, MODE), shown, MODE, HOW)
        tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def dense_parts(x_ptr, where_ptr, parts_ptr, k, inner, x_outer, x_inner, x_class, w_outer, w_inner, w_class,
                MODE: tl.constexpr, HOW: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """What a chunk of a row adds, four numbers for each, where a row's chunks go to programs of their own."""
    rows = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    at = starts(rows, inner, x_outer, x_inner)[:, None] + c[None, :] * x_class
    w_at = starts(rows, inner, w_outer, w_inner)[:, None] + c[None, :] * w_class
    x, _ = load(x_ptr, at, where_ptr, w_at, (c < k)[None, :], HOW)
    m, others, ties = part(x)
    to = parts_ptr + (rows * tl.num_programs(1) + tl.program_id(1)) * 4
    tl.store(to, m)
    tl.store(to + 1, others)
    tl.store(to + 2, ties)
    if MODE == 2:
        tl.store(to + 3, tl.max((x != x).to(tl.int32), 1).to(tl.float32))


@triton.jit
def dense_loop(x_ptr, where_ptr, parts_ptr, out_ptr, n, k, inner, x_outer, x_inner, x_class, w_outer, w_inner, w_class,
               out_outer, out_inner, out_class, MODE: tl.constexpr, HOW: tl.constexpr, SPLIT: tl.constexpr,
               ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The same of rows that do not fit; SPLIT: of one chunk of a row, from what ``dense_parts`` found in all."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < n
    start = starts(rows, inner, x_outer, x_inner)[:, None]
    w_start = starts(rows, inner, w_outer, w_inner)[:, None]
    m = tl.full((ROWS,), float("-inf"), tl.float32)
    others = tl.zeros((ROWS,), tl.float32)
    ties = tl.zeros((ROWS,), tl.float32)
    nan = tl.zeros((ROWS,), tl.int32)
    for first in range(0, k, BLOCK):
        if SPLIT:
            at = parts_ptr + (rows * tl.cdiv(k, BLOCK) + first // BLOCK) * 4
            here, others2, ties2 = tl.load(at), tl.load(at + 1), tl.load(at + 2)
            if MODE == 2:
                nan = tl.maximum(nan, tl.load(at + 3).to(tl.int32))
        else:
            c = first + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < k)[None, :]
            x, _ = load(x_ptr, start + c[None, :] * x_class, where_ptr, w_start + c[None, :] * w_class, mask, HOW)
            here, others2, ties2 = part(x)
            if MODE == 2:
                nan = tl.maximum(nan, tl.max((x != x).to(tl.int32), 1))
        others, ties = merge(here - m, others, ties, others2, ties2)
        m = tl.maximum(m, here)
    rest = others + (ties - 1.0)
    if MODE == 2:
        tl.store(out_ptr + rows, _log_sum(m, rest, nan).to(out_ptr.dtype.element_ty), mask=live)
    else:
        to = starts(rows, inner, out_outer, out_inner)
        normalizer = _normalizer(rest, MODE)
        own = tl.program_id(1) * BLOCK
        for first in range(own, own + BLOCK if SPLIT else k, BLOCK):
            c = first + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < k)[None, :]
            x, shown = load(x_ptr, start + c[None, :] * x_class, where_ptr, w_start + c[None, :] * w_class, mask, HOW)
            y = _element(x - m[:, None], normalizer, shown, MODE, HOW)
            tl.store(out_ptr + to[:, None] + c[None, :] * out_class, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _log_pulled(a, cotangent, total, others):
    """C - p sum(c), at a probability near 1 c (1 - p) - p (the sum of the others' c)."""
    p = exp(a)
    own = -cotangent * expm1(a) - p * others[:, None]
    return tl.where(a > -0.5, own, cotangent - p * total[:, None])


@triton.jit
def vjp_tile(a_ptr, c_ptr, out_ptr, n, k, inner, a_outer, a_inner, a_class, c_outer, c_inner, c_class, out_outer,
             out_inner, out_class, LOG: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """A cotangent pulled back through a softmax, or its logarithm, of values ``a`` in registers."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK).to(tl.int64)
    mask = (rows < n)[:, None] & (c < k)[None, :]
    at = starts(rows, inner, a_outer, a_inner)[:, None] + c[None, :] * a_class
    a = tl.load(a_ptr + at, mask=mask, other=float("-inf") if LOG else 0.0).to(tl.float32)
    at = starts(rows, inner, c_outer, c_inner)[:, None] + c[None, :] * c_class
    cotangent = tl.load(c_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if LOG:
        others = tl.sum(tl.where(a > -0.5, 0.0, cotangent), 1)
        y = _log_pulled(a, cotangent, tl.sum(cotangent, 1), others)
    else:
        top = c[None, :] == tl.argmax(a, 1)[:, None]
        apart = tl.where(mask, cotangent - tl.sum(tl.where(top, cotangent, 0.0), 1)[:, None], 0.0)
        y = a * (apart - tl.sum(a * apart, 1)[:, None])
    at = starts(rows, inner, out_outer, out_inner)[:, None] + c[None, :] * out_class
    tl.store(out_ptr + at, y.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _pulled_part(a, cotangent, mask, LOG: tl.constexpr):
    """What a chunk adds: (largest p, its cotangent, sum of p, sum of p (c - that)), or two sums of cotangents."""
    if LOG:
        total, others = tl.sum(cotangent, 1), tl.sum(tl.where(a > -0.5, 0.0, cotangent), 1)
        return total, others, total, others
    most = tl.max(a, 1)
    top = tl.arange(0, a.shape[1])[None, :] == tl.argmax(a, 1)[:, None]
    centre = tl.sum(tl.where(top, cotangent, 0.0), 1)
    apart = tl.where(mask, cotangent - centre[:, None], 0.0)
    # a product that no sum can be fused with
    return most, centre, tl.sum(a, 1), tl.sum(tl.fma(a, apart, 0.0), 1)


@triton.jit
def vjp_parts(a_ptr, c_ptr, parts_ptr, k, inner, a_outer, a_inner, a_class, c_outer, c_inner, c_class,
              LOG: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """The same four numbers of each chunk, where a row's chunks go to programs of their own."""
    rows = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    mask = (c < k)[None, :]
    at = starts(rows, inner, a_outer, a_inner)[:, None] + c[None, :] * a_class
    a = tl.load(a_ptr + at, mask=mask, other=float("-inf") if LOG else 0.0).to(tl.float32)
    at = starts(rows, inner, c_outer, c_inner)[:, None] + c[None, :] * c_class
    cotangent = tl.load(c_ptr + at, mask=mask, other=0.0).to(tl.float32)
    most, centre, size, total = _pulled_part(a, cotangent, mask, LOG)
    to = parts_ptr + (rows * tl.num_programs(1) + tl.program_id(1)) * 4
    tl.store(to, most)
    tl.store(to + 1, centre)
    if not LOG:
        tl.store(to + 2, size)
        tl.store(to + 3, total)


@triton.jit
def vjp_loop(a_ptr, c_ptr, parts_ptr, out_ptr, n, k, inner, a_outer, a_inner, a_class, c_outer, c_inner, c_class,
             out_outer, out_inner, out_class, LOG: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
    """The same of rows that do not fit; SPLIT: of one chunk of a row, from what ``vjp_parts`` found in all."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live = rows < n
    a_start = starts(rows, inner, a_outer, a_inner)[:, None]
    c_start = starts(rows, inner, c_outer, c_inner)[:, None]
    most = tl.full((ROWS,), float("-inf"), tl.float32)
    centre = tl.zeros((ROWS,), tl.float32)
    size = tl.zeros((ROWS,), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    others = tl.zeros((ROWS,), tl.float32)
    for first in range(0, k, BLOCK):
        if SPLIT:
            at = parts_ptr + (rows * tl.cdiv(k, BLOCK) + first // BLOCK) * 4
            most2, centre2 = tl.load(at), tl.load(at + 1)
            if not LOG:
                size2, total2 = tl.load(at + 2), tl.load(at + 3)
        else:
            c = first + tl.arange(0, BLOCK).to(tl.int64)
            mask = live[:, None] & (c < k)[None, :]
            a = tl.load(a_ptr + a_start + c[None, :] * a_class, mask=mask, other=float("-inf") if LOG else 0.0)
            cotangent = tl.load(c_ptr + c_start + c[None, :] * c_class, mask=mask, other=0.0).to(tl.float32)
            most2, centre2, size2, total2 = _pulled_part(a.to(tl.float32), cotangent, mask, LOG)
        if LOG:
            total += most2
            others += centre2
        else:
            # the sum of p (c - centre), which moves with the centre to the largest p so far
            found = tl.where(most2 > most, centre2, centre)
            total = tl.fma(size, centre - found, total) + tl.fma(size2, centre2 - found, total2)
            most = tl.maximum(most, most2)
            # not a plain +=, on which a pass of Triton's compiler stops where the sum is not read after the loop
            size = tl.where(live, size + size2, 0.0)
            centre = found
    out_start = starts(rows, inner, out_outer, out_inner)[:, None]
    own = tl.program_id(1) * BLOCK
    for first in range(own, own + BLOCK if SPLIT else k, BLOCK):
        c = first + tl.arange(0, BLOCK).to(tl.int64)
        mask = live[:, None] & (c < k)[None, :]
        a = tl.load(a_ptr + a_start + c[None, :] * a_class, mask=mask, other=0.0).to(tl.float32)
        cotangent = tl.load(c_ptr + c_start + c[None, :] * c_class, mask=mask, other=0.0).to(tl.float32)
        y = _log_pulled(a, cotangent, total, others) if LOG else a * ((cotangent - centre[:, None]) - total[:, None])
        tl.store(out_ptr + out_start + c[None, :] * out_class, y.to(out_ptr.dtype.element_ty), mask=mask)
