"""Arithmetic in two or three times the digits of float64, on any library's arrays.

A number is a tuple of arrays, the first its value rounded, each next one what is missing from those before (Dekker
1971; Priest 1991). Only additions, multiplications and divisions are made, and a library's own functions give no more
than a first guess: every library has the same digits. Nothing here is fast, nor for a compiler, which may contract a
product with a sum: it is for the few rows that need it.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from functools import cache, reduce

from .._array.typing import Array, DType, Namespace
from .dense import device_of, slice_axis, two_sum

Number = tuple[Array, ...]

#: Exponents between which exp is computed; 0 below, and infinite above.
LEAST, MOST = -708.0, 709.5
#: Entries of a table; two of them leave an argument below log(2) / 8192.
TABLE = 64
#: Terms of the exponential series, and from which on one and two arrays hold all of their digits, by arrays.
SERIES = {2: (8, 4, 1), 3: (11, 7, 4)}
#: Halves the digits of float64.
SPLITTER = 134217729.0
#: Below this, log1p and expm1 are series.
SMALL = 2.0**-20


def _parts(value: decimal.Decimal, count: int) -> tuple[float, ...]:
    out = []
    for _ in range(count):
        out.append(float(value))
        value -= decimal.Decimal(out[-1])
    return tuple(out)


Table = tuple[tuple[float, ...], ...]


@cache
def _constants() -> tuple[tuple[float, ...], Table, Table]:
    """(log(2) / 4096, the powers of 2**(1/64), those of 2**(1/4096)), in parts."""
    with decimal.localcontext(decimal.Context(prec=80)):
        step = decimal.Decimal(2).ln() / TABLE**2
        coarse = [_parts((step * TABLE * i).exp(), 3) for i in range(TABLE)]
        fine = [_parts((step * i).exp(), 3) for i in range(TABLE)]
        return _parts(step, 4), tuple(zip(*coarse, strict=True)), tuple(zip(*fine, strict=True))


@cache
def _inverse(n: int) -> tuple[float, ...]:
    with decimal.localcontext(decimal.Context(prec=80)):
        return _parts(1 / decimal.Decimal(n), 3)


@cache
def _powers_of_two() -> Table:
    return (tuple(math.ldexp(1.0, i) for i in range(-1022, 1024)),)


def _split(a: Array) -> tuple[Array, Array]:
    c = a * SPLITTER
    high = c - (c - a)
    return high, a - high


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """``a * b``, and what its rounding lost."""
    p = a * b
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _normal(high: Array, low: Array, lower: Array | None = None) -> tuple[Array, Array]:
    """``high + low + lower`` in two parts, the larger one first."""
    low = low if lower is None else low + lower
    s = high + low
    return s, low - (s - high)


def distilled(terms: Sequence[Array], count: int) -> Number:
    """The sum of ``terms``, of roughly falling size, in at most ``count`` arrays."""
    t = list(terms)
    count = min(count, len(t))
    for start in range(count):
        for i in range(len(t) - 1, start, -1):
            t[i - 1], t[i] = two_sum(t[i - 1], t[i])
    out = [*t[: count - 1], reduce(lambda a, b: b + a, reversed(t[count - 1 :]))]
    for i in range(count - 1, 0, -1):
        out[i - 1], out[i] = two_sum(out[i - 1], out[i])
    return tuple(out)


def finite(xp: Namespace, a: Number, plain: Array) -> Number:
    """``a``, or ``plain`` where that or ``a`` is not finite."""
    fine = xp.logical_and(xp.isfinite(a[0]), xp.isfinite(plain))
    zero = xp.zeros_like(plain)
    return xp.where(fine, a[0], plain), *(xp.where(fine, part, zero) for part in a[1:])


def add(a: Number, b: Number, count: int) -> Number:
    """``a + b`` of finite numbers."""
    if len(a) == len(b) == count == 2:
        s, low = two_sum(a[0], b[0])
        t, lower = two_sum(a[1], b[1])
        return _normal(*_normal(s, low + t), lower)
    pairs = [part for i in range(max(len(a), len(b))) for part in (*a[i : i + 1], *b[i : i + 1])]
    return distilled(pairs, count)


def negative(a: Number) -> Number:
    """``-a``."""
    return tuple(-part for part in a)


def multiply(xp: Namespace, a: Number, b: Number, count: int) -> Number:
    """``a * b`` of finite numbers."""
    if count == 2:
        p, low = two_product(a[0], b[0])
        for part in a[1:]:
            low = low + part * b[0]
        for part in b[1:]:
            low = low + a[0] * part
        return _normal(p, low)
    levels: list[list[Array]] = [[] for _ in range(count)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            if i + j < count - 1:
                product, error = two_product(x, y)
                levels[i + j].append(product)
                levels[i + j + 1].append(error)
            elif i + j == count - 1:
                levels[-1].append(x * y)
    last = [reduce(lambda p, q: p + q, levels[-1])] if levels[-1] else []
    return distilled([*(part for level in levels[:-1] for part in level), *last], count)


def divide(xp: Namespace, a: Number, b: Number, count: int) -> Number:
    """``a / b``, by long division."""
    digits = []
    for _ in range(count):
        digit = a[0] / b[0]
        digits.append(digit)
        a = add(a, negative(multiply(xp, b, (digit,), count + 1)), count + 1)
    return distilled(digits, count)


def _looked_up(xp: Namespace, table: Table, index: Array, count: int) -> Number:
    flat = xp.reshape(xp.astype(index, xp.int64), (-1,))
    device = device_of(index)
    columns = (xp.asarray(column, dtype=index.dtype, device=device) for column in table[:count])
    return tuple(xp.reshape(xp.take(column, flat, axis=0), index.shape) for column in columns)


def exponential(xp: Namespace, d: Number, count: int) -> Number:
    """``exp(d)``; 0 or infinity where it is no normal number."""
    lead, zero = d[0], xp.zeros_like(d[0])
    inside = xp.logical_and(lead > LEAST, lead < MOST)
    d = tuple(xp.where(inside, part, zero) for part in d)
    step, coarse, fine = _constants()
    n = xp.round(d[0] * (1 / step[0]))
    # what is left: d - n log(2) / 4096, the multiple in one part more than the result has
    terms: list[Array] = [d[0]]
    for i in range(count + 1):
        product, error = two_product(n, zero + step[i])
        terms += [-product, *d[i + 1 : i + 2], -error]
    r = distilled(terms, count)
    whole = xp.floor(n / TABLE**2)
    rest = n - whole * TABLE**2
    upper = xp.floor(rest / TABLE)
    order, one, two = SERIES[count]
    e: Number = (zero + _inverse(math.factorial(order))[0],)
    for i in range(order - 1, -1, -1):
        digits = 1 if i >= one else 2 if i >= two else count
        coefficient = tuple(zero + part for part in _inverse(math.factorial(i))[:digits])
        e = (e[0] * r[0] + coefficient[0],) if digits == 1 else _step(xp, e, r[:digits], coefficient, digits)
    for table, index in ((fine, rest - upper * TABLE), (coarse, upper)):
        e = multiply(xp, e, _looked_up(xp, table, index, count), count)
    (scale,) = _looked_up(xp, _powers_of_two(), whole + 1022, 1)
    outside = xp.where(lead > 0, lead + math.inf, xp.where(lead < 0, zero, lead))
    return xp.where(inside, e[0] * scale, outside), *(xp.where(inside, part * scale, zero) for part in e[1:])


def _step(xp: Namespace, e: Number, r: Number, coefficient: Number, count: int) -> Number:
    return add(coefficient, multiply(xp, e, r, count), count)


def logarithm(xp: Namespace, s: Number, count: int) -> Number:
    """``log(s)``, from float64's and one step of Newton's."""
    guess = xp.log(s[0])
    known = xp.logical_and(guess < -LEAST, guess > LEAST)
    zero = xp.zeros_like(guess)
    start = xp.where(known, guess, zero)
    s = (xp.where(known, s[0], zero + 1), *(xp.where(known, part, zero) for part in s[1:]))
    product = multiply(xp, s, exponential(xp, (-start,), count), count)
    off = add((zero - 1,), product, count)
    r = distilled([start, off[0], *off[1:], -(off[0] * off[0]) / 2], count)
    return xp.where(known, r[0], guess), *(xp.where(known, part, zero) for part in r[1:])


def series(xp: Namespace, a: Number, signs: int, divisors: Sequence[int], count: int) -> Number:
    """``a + signs a**2 / divisors[0] + a**3 / divisors[1] + ...`` of small ``a``."""
    zero = xp.zeros_like(a[0])
    e: Number = (zero,)
    for i in range(len(divisors) - 1, -1, -1):
        sign = signs if i % 2 == 0 else 1
        coefficient = tuple(zero + sign * part for part in _inverse(divisors[i]))
        e = add(coefficient, multiply(xp, a, e, count), count) if i < len(divisors) - 1 else coefficient[:count]
    return add(a, multiply(xp, multiply(xp, a, a, count), e, count), count)


def total(xp: Namespace, a: Number, axis: int, count: int) -> Number:
    """The sum over ``axis`` (kept)."""
    while a[0].shape[axis] > 1:
        n = a[0].shape[axis]
        half = n // 2
        some = add(
            tuple(slice_axis(p, axis, 0, half) for p in a), tuple(slice_axis(p, axis, half, 2 * half) for p in a), count
        )
        if n % 2:
            left = [slice_axis(p, axis, n - 1, n) for p in a]
            left += [xp.zeros_like(left[0])] * (len(some) - len(a))
            some = tuple(xp.concat([p, q], axis=axis) for p, q in zip(some, left, strict=True))
        a = some
    return a


def rounded(xp: Namespace, a: Number, dtype: DType) -> Array:
    """``a`` rounded once to a narrower dtype, ties to even."""
    if dtype == a[0].dtype:
        return a[0]
    if xp.finfo(dtype).bits < 32:
        return _half(xp, a, dtype)
    first, second = (*a, xp.zeros_like(a[0]))[:2]
    step = xp.abs(first) * 2.0**-52
    low, high = xp.astype(first - step, dtype), xp.astype(first + step, dtype)
    middle = (xp.astype(low, first.dtype) + xp.astype(high, first.dtype)) / 2
    side = (first - middle) + second
    near = xp.where(side == 0, xp.astype(middle, dtype), xp.where(side > 0, high, low))
    return xp.where(xp.logical_and(low != high, xp.isfinite(middle)), near, xp.astype(first, dtype))


def _half(xp: Namespace, a: Number, dtype: DType) -> Array:
    """``a`` in half precision by way of float32, as libraries go: what is a tie on the way is mended."""
    single = xp.astype(a[0], xp.float32)
    half = xp.astype(single, dtype)
    near = xp.astype(half, xp.float32)
    off = single - near
    other = single + off
    lost = a[0] - xp.astype(single, a[0].dtype)
    lost = lost if len(a) == 1 else lost + a[1]
    # the float32 that a tie is may have lost to its rounding what decides
    beyond = xp.logical_or(xp.logical_and(lost > 0, off > 0), xp.logical_and(lost < 0, off < 0))
    tied = xp.logical_and(xp.isfinite(near), xp.astype(xp.astype(other, dtype), xp.float32) == other)
    half = xp.where(xp.logical_and(beyond, tied), xp.astype(other, dtype), half)
    # so may the float32 at which infinity begins
    largest, eps = float(xp.finfo(dtype).max), float(xp.finfo(dtype).eps)
    limit = largest + largest / (2 - eps) * eps / 2
    sign = xp.sign(single)
    within = xp.logical_and(xp.astype(xp.abs(single), lost.dtype) == limit, xp.astype(sign, lost.dtype) * lost < 0)
    return xp.where(within, xp.astype(sign * largest, dtype), half)


def is_near_a_tie(xp: Namespace, r: Array, dtype: DType, step: Array) -> Array:
    """Where ``r``, off by ``step`` at most, may be rounded to either of two numbers of ``dtype``."""
    half = xp.finfo(dtype).bits < 32
    low, high = (rounded(xp, (a,), dtype) if half else xp.astype(a, dtype) for a in (r - step, r + step))
    return xp.logical_and(low != high, xp.isfinite(r))
