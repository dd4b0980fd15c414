"""How Triton's kernels scale logits and hide classes: by softcap, temperature and shift, as the generic kernels do.

Differences to the largest are taken before scaling, where they have all their digits. ``HOW`` says what is done, as the
sum of the constants below; what is not leaves no instruction.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .mathematics import quotient, sech2, tanh_apart

CAPPED = tl.constexpr(1)
TEMPERED = tl.constexpr(2)
SHIFTED = tl.constexpr(4)
#: Some classes are hidden.
MASKED = tl.constexpr(8)
SCALED = tl.constexpr(7)  # by any of the first three


@triton.jit
def load(x_ptr, at, where_ptr, where_at, mask, HOW: tl.constexpr):
    """(logits, where there is a class that is not hidden); elsewhere they are -inf."""
    x = tl.load(x_ptr + at, mask=mask, other=float("-inf")).to(tl.float32)
    shown = mask
    if CAPPED & HOW:
        # the tanh of an infinity is that of the largest number
        largest = 3.4028234663852886e38
        x = tl.where(x == float("inf"), largest, tl.where((x == float("-inf")) & mask, -largest, x))
    if MASKED & HOW:
        shown = mask & tl.load(where_ptr + where_at, mask=mask, other=0).to(tl.int1)
        x = tl.where(shown, x, float("-inf"))
    return x, shown


@triton.jit
def shifts(shift_ptr, c, inside, HOW: tl.constexpr):
    """What is added to the scaled logits of some classes."""
    if SHIFTED & HOW:
        return tl.load(shift_ptr + c, mask=inside, other=0.0).to(tl.float32)
    return tl.zeros(c.shape, tl.float32)


@triton.jit
def apart(x, m, added, most_added, cap, temperature, HOW: tl.constexpr):
    """How far the scaled logit of ``x`` is above that of ``m``; above 0 it is the scaled logit itself."""
    d = x - m
    if CAPPED & HOW:
        capped = cap * tanh_apart(quotient(x, cap), quotient(m, cap), quotient(d, cap))
        d = tl.where(x == float("-inf"), x, capped)
    if TEMPERED & HOW:
        d = quotient(d, temperature)
    if SHIFTED & HOW:
        d += added - most_added
    return d


@triton.jit
def top(x, added, cap, temperature, HOW: tl.constexpr):
    """(The logit that is the largest of a row when scaled, its shift)."""
    if SHIFTED & HOW:
        z = apart(x, 0.0, added[None, :], 0.0, cap, temperature, HOW)
        c = tl.arange(0, x.shape[1])[None, :]
        # of NaN alone none; not argmax, which spills on compute capability 10.0
        first = c == tl.min(tl.where(z == tl.max(z, 1)[:, None], c, x.shape[1]), 1)[:, None]
        return tl.sum(tl.where(first, x, 0.0), 1), tl.sum(tl.where(first, added[None, :], 0.0), 1)
    m = tl.max(x, 1)
    return m, tl.zeros(m.shape, tl.float32)


@triton.jit
def chunk(x, added, cap, temperature, HOW: tl.constexpr):
    """(``top`` of some of a row's classes, -inf and 0 where there is none; how far the others are below it)."""
    m, most_added = top(x, added, cap, temperature, HOW)
    none = m == float("-inf")
    if SHIFTED & HOW:
        none = none | (most_added == float("-inf"))
        m = tl.where(none, float("-inf"), m)
        most_added = tl.where(none, 0.0, most_added)
    at = tl.where(none, 0.0, m)[:, None]
    return m, most_added, apart(x, at, added[None, :], most_added[:, None], cap, temperature, HOW)


@triton.jit
def gap(m2, added2, m, added, cap, temperature, HOW: tl.constexpr):
    """How far the largest of one chunk is above another's; either may have none."""
    g = apart(m2, m, added2, added, cap, temperature, HOW)
    if CAPPED & HOW:
        g = tl.where((m == float("-inf")) & (m2 != float("-inf")), float("inf"), g)
    return g


@triton.jit
def slope(x, cap):
    """What a softcap multiplies derivatives by."""
    return sech2(quotient(x, cap))
