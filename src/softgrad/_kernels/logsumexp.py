"""The log-sum-exp of real terms with factors of either sign, and of complex ones."""

from __future__ import annotations

import math

from .._array.typing import Array, Namespace
from .dense import first_largest, nan_where, narrow, total, widen


def _sign(xp: Namespace, x: Array) -> Array:
    # array-api-compat's sign writes through a mask, for which CuPy waits for the device
    zero = xp.zeros_like(x)
    return xp.where(x > 0, zero + 1, xp.where(x < 0, zero - 1, x))


def signed_logsumexp(
    xp: Namespace, x: Array, b: Array, axis: int, where: Array | None = None, precision: str | None = None
) -> tuple[Array, Array]:
    """log|sum(b exp(x))| and the sum's sign, both without ``axis``; for real ``x`` and ``b``.

    The term largest in magnitude is kept out of the sum: log|b_t| + x_t + log1p(sum of b_j exp(x_j - x_t) / b_t).
    """
    y, compensated = widen(xp, x, precision)
    b = narrow(xp, xp.broadcast_to(b, x.shape), y.dtype)
    zero = xp.zeros_like(y)
    if where is not None:
        y, b = xp.where(where, y, zero - math.inf), xp.where(where, b, zero)
    counts = b != 0
    rows = xp.any(counts, axis=axis, keepdims=True)
    # with a factor of 0 an exponential is no term, and yet the derivative by its factor
    a, factor = xp.where(counts, y, zero - math.inf), xp.where(counts, b, zero + 1)
    size = a + xp.log(xp.abs(factor))
    first = first_largest(xp, size, axis)
    blank = xp.zeros_like(xp.max(a, axis=axis, keepdims=True))
    top = xp.sum(xp.where(first, a, blank), axis=axis, keepdims=True, dtype=y.dtype)
    weight = xp.sum(xp.where(first, factor, blank), axis=axis, keepdims=True, dtype=y.dtype)
    d = y - xp.where(xp.isfinite(top), top, blank)
    most = math.log(xp.finfo(y.dtype).max) - 1  # 0 times its exponential is 0
    d = xp.where(xp.logical_or(counts, d < most), d, zero + most)
    terms = xp.where(xp.logical_and(first, counts), zero, (b / weight) * xp.exp(d))
    rest = total(xp, terms, axis, compensated)
    # below -1/4 the sum itself is exact enough, and log1p refuses a negative one (XLA's loses seven bits from -0.29)
    near = rest > -0.25
    log_sum = xp.where(near, xp.log1p(xp.where(near, rest, blank)), xp.log(xp.abs(1 + xp.where(near, blank, rest))))
    r = xp.where(xp.isinf(top), top, (top + xp.log(xp.abs(weight))) + log_sum)
    sign = _sign(xp, weight) * _sign(xp, 1 + rest)
    # infinities of both signs have no sum
    opposed = xp.any(xp.logical_and(a == math.inf, _sign(xp, factor) != _sign(xp, weight)), axis=axis, keepdims=True)
    r = nan_where(xp, xp.logical_and(top == math.inf, opposed), r)
    sign = xp.where(xp.isinf(top), _sign(xp, weight), sign)
    sign = xp.where(r == -math.inf, blank, xp.where(xp.isnan(r), r, sign))
    r = xp.where(rows, r, blank - math.inf)
    sign = xp.where(rows, sign, blank)
    r, sign = (narrow(xp, xp.squeeze(a, axis=axis), x.dtype) for a in (r, sign))
    return r, sign


def complex_logsumexp(
    xp: Namespace, x: Array, b: Array | None, axis: int, where: Array | None = None
) -> tuple[Array, Array]:
    """log(sum(b exp(x))) and the sum's phase, both complex and without ``axis``.

    As for real numbers the largest term is kept out of the sum for the real part, log|1 + r| of the others' sum r over
    it: half the log1p of u (2 + u) + v**2, with r = u + iv.
    """
    zero = xp.zeros_like(x)
    plain, b = b is None, zero + 1 if b is None else b
    if where is not None:
        x, b = xp.where(where, x, zero), xp.where(where, b, zero)
    counts = b != 0
    factor = xp.where(counts, b, zero + 1)
    size = xp.where(counts, xp.real(x) + xp.log(xp.abs(factor)), xp.real(zero) - math.inf)
    first = first_largest(xp, size, axis)
    top = xp.real(xp.sum(xp.where(first, x, zero), axis=axis, keepdims=True, dtype=x.dtype))
    fine = xp.logical_and(xp.isfinite(top), xp.any(counts, axis=axis, keepdims=True))
    m = xp.where(fine, top, xp.zeros_like(top))
    d, most = x - xp.astype(m, x.dtype), math.log(xp.finfo(m.dtype).max) - 1
    terms = xp.exp(xp.where(xp.logical_or(counts, xp.real(d) < most), d, zero + most))
    # infinities times a complex 1 are NaN
    terms = xp.where(counts, terms, zero) if plain else b * terms
    s = total(xp, terms, axis)
    size = xp.abs(s)
    ones = xp.ones_like(size)
    angle = xp.atan2(xp.imag(s), xp.real(s))
    phase = xp.where(size == 0, xp.zeros_like(s), s / xp.astype(xp.where(size == 0, ones, size), x.dtype))
    # an infinite sum has the phase that C99 gives its logarithm
    phase = xp.where(xp.isinf(size), xp.exp(1j * xp.astype(angle, x.dtype)), phase)
    own = xp.sum(xp.where(first, terms, zero), axis=axis, keepdims=True, dtype=x.dtype)
    own = xp.where(fine, own, xp.ones_like(own))
    rest = xp.where(fine, total(xp, xp.where(first, zero, terms), axis) / own, xp.zeros_like(own))
    u, v = xp.real(rest), xp.imag(rest)
    q = u * (2 + u) + v * v
    near = q > -0.5
    # of a sum that cancels its magnitude is exact enough
    far = xp.log(xp.abs(xp.where(near, xp.ones_like(rest), 1 + rest)))
    weight = xp.abs(xp.sum(xp.where(first, factor, zero), axis=axis, keepdims=True, dtype=x.dtype))
    log_size = m + xp.log(weight) + xp.where(near, xp.log1p(xp.where(near, q, xp.zeros_like(q))) / 2, far)
    # in this order: torch multiplies the second term by a complex 1, which makes NaN of an infinity
    exact = xp.astype(log_size, x.dtype) + 1j * xp.astype(angle, x.dtype)
    r = xp.where(fine, exact, xp.log(s) + xp.astype(m, x.dtype))
    return xp.squeeze(r, axis=axis), xp.squeeze(phase, axis=axis)
