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
def quotient(a, by):
    """A / by, all but rounded once: a GPU's division is off by two units."""
    inverse = 1.0 / by
    q = a * inverse
    return tl.where(tl.abs(q) == float("inf"), q, tl.fma(tl.fma(-q, by, a), inverse, q))


@triton.jit
def power(q, by):
    """q**by for 0 <= q <= 1 and by > 0: the exponent of q, times ``by``, is kept apart from the logarithm."""
    tiny = q < 1e-30
    bits = tl.where(tiny, q * 18446744073709551616.0, q).to(tl.int32, bitcast=True)
    n = (bits - 0x3F3504F3) >> 23  # q is 2**n times a number from sqrt(1/2) to sqrt(2)
    near = (bits - (n << 23)).to(tl.float32, bitcast=True)
    n = tl.where(tiny, n - 64, n).to(tl.float32)
    whole = n * by
    part = tl.fma(n, by, -whole) + tl.log(near) * 1.4426950408889634 * by
    power_of_two = tl.floor(whole + part)
    y = tl.exp2(tl.maximum(power_of_two, -160.0)) * tl.exp2(tl.minimum((whole - power_of_two) + part, 1.0))
    return tl.where(q > 0.0, y, q)


@triton.jit
def tanh_apart(a, b, apart):
    """tanh(a) - tanh(b) with ``apart`` = a - b: sinh(a - b) / (cosh(a) cosh(b)), in what neither cancels nor overflows.

    With a the smaller that is 2 expm1(2 (a - b)) sigmoid(-2 a) sigmoid(2 b).
    """
    over = apart > 0.0
    of_a, of_b = exp(-2.0 * tl.abs(a)), exp(-2.0 * tl.abs(b))
    tails = tl.where((a > 0.0) == over, 1.0, of_a) * tl.where((b > 0.0) == over, of_b, 1.0)
    below = -2.0 * tl.abs(apart)
    size = 2.0 * tl.where(below > -0.5, expm1(below), exp(below) - 1.0) * tails
    return quotient(tl.where(over, -size, size), (1.0 + of_a) * (1.0 + of_b))


@triton.jit
def sech2(a):
    """1 - tanh(a)**2."""
    e = exp(-2.0 * tl.abs(a))
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


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
def merge(gap, others, ties, others2, ties2):
    """The classes so far and the next chunk's, whose largest is ``gap`` above theirs.

    No sum is left to a compiler to fuse: all kernels round alike.
    """
    scale = exp(-tl.abs(gap))
    below = tl.where(gap < 0.0, tl.fma(others2 + ties2, scale, others), others + others2)
    others = tl.where(gap > 0.0, tl.fma(others + ties, scale, others2), below)
    ties = tl.where(gap > 0.0, ties2, tl.where(gap < 0.0, ties, ties + ties2))
    return others, ties
