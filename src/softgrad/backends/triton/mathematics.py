"""What Triton's kernels compute with: an exponential and logarithms that keep their digits, and where rows lie.

Triton's ``exp`` rounds the product with log2(e), which costs 16 to 64 units in the last place where logits are 10 to 87
below the maximum.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exp(d):
    """exp(d) for d <= 0 or NaN: the power of two of the rounded product, times what its rounding lost."""
    d = tl.where(d < -150.0, -150.0, d)  # of -inf the second term would be NaN; a comparison lets NaN through
    p = d * 1.4426950408889634
    lost = tl.fma(d, 1.9259629911266175e-08, tl.fma(d, 1.4426950216293335, -p))
    e = tl.exp2(p)
    return tl.fma(e, lost * 0.6931471805599453, e)


@triton.jit
def log1p(a):
    """log(1 + a) for a >= 0: the logarithm of the rounded sum, corrected for its rounding."""
    u = 1.0 + a
    d = u - 1.0
    return tl.where(d == 0.0, a, tl.where(u == float("inf"), u, tl.log(u) * (a / d)))


@triton.jit
def expm1(a):
    """exp(a) - 1 for -0.5 < a <= 0, by its series."""
    series = tl.fma(a, 1.0 / 362880, 1.0 / 40320)
    series = tl.fma(a, series, 1.0 / 5040)
    series = tl.fma(a, series, 1.0 / 720)
    series = tl.fma(a, series, 1.0 / 120)
    series = tl.fma(a, series, 1.0 / 24)
    series = tl.fma(a, series, 1.0 / 6)
    series = tl.fma(a, series, 0.5)
    return tl.fma(a * a, series, a)


@triton.jit
def starts(rows, inner, by_outer, by_inner):
    """Where rows start, of an array (outer, classes, inner): the elements before each."""
    return (rows // inner) * by_outer + (rows % inner) * by_inner


@triton.jit
def part(x):
    """(maximum, exponentials below it, ties at it) of a chunk of classes, whatever came before it."""
    m = tl.max(x, 1)
    # of classes that are all -inf: nothing
    d = x - tl.where(m == float("-inf"), 0.0, m)[:, None]
    top = d == 0.0
    return m, tl.sum(tl.where(top, 0.0, exp(d)), 1), tl.sum(tl.where(top, 1.0, 0.0), 1)


@triton.jit
def part_beside(x, c, y):
    """(maximum, exponentials of all classes but the label's) of a chunk of classes ``c``."""
    m = tl.max(x, 1)
    at = tl.where(m == float("-inf"), 0.0, m)[:, None]
    return m, tl.sum(tl.where(c[None, :] == y[:, None], 0.0, exp(x - at)), 1)


@triton.jit
def merge(m, others, ties, m2, others2, ties2):
    """The classes so far and the next chunk's; no sum is left to a compiler to fuse: all kernels round alike."""
    n = tl.maximum(m, m2)
    scale = exp(tl.minimum(m, m2) - n)
    up, down = m2 > m, m2 < m
    below = tl.where(down, tl.fma(others2 + ties2, scale, others), others + others2)
    others = tl.where(up, tl.fma(others + ties, scale, others2), below)
    ties = tl.where(up, ties2, tl.where(down, ties, ties + ties2))
    return n, others, ties
