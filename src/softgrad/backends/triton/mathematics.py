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
def merge(m, others, ties, x):
    """The running maximum, exponentials below it and ties at it, of rows and their next classes."""
    n = tl.maximum(m, tl.max(x, 1))
    up = n > m
    others = tl.where(up, (others + ties) * exp(m - n), others)
    ties = tl.where(up, 0.0, ties)
    # of classes that are all -inf so far: nothing
    d = x - tl.where(n == float("-inf"), 0.0, n)[:, None]
    top = d == 0.0
    others += tl.sum(tl.where(top, 0.0, exp(d)), 1)
    ties += tl.sum(tl.where(top, 1.0, 0.0), 1)
    return n, others, ties
