"""The dense mathematics: pure array API functions, ``xp`` passed in, nothing checked, nothing converted.

Every sum is written so that it does not change, as a function, with the maximum that it is shifted by: automatic
differentiation is then right at ties too, to any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from .._array.typing import Array, Device, DType, Namespace

#: A probability above which no other can be, however they were rounded: at 1/2 two may be.
SURE = 0.625
#: Terms added one after the other before a sum goes up a level.
LEVEL = 64
#: By name of a namespace: whether a compiler may fuse a kernel with what made its input.
FUSES: dict[str, Callable[[], bool]] = {}
#: By name of a namespace: gives a new array the subclass of the array that it is combined with.
AS_LIKE: dict[str, Callable[[Array, Array], Array]] = {}
#: By name of a namespace: bytes of the device of an array, None where it is no accelerator.
MEMORY: dict[str, Callable[[Array], int | None]] = {}
#: Namespaces whose own product may round its operands, and the product that does not.
PRODUCTS: dict[str, Callable[..., Array]] = {}
#: By name of a namespace: a copy of an array with values at the entries that an index names along an axis.
SCATTERS: dict[str, Callable[[Array, Array, Array, int], Array]] = {}


class Shifted(NamedTuple):
    """A row less its maximum, and the sum of its exponentials less one."""

    m: Array
    d: Array
    #: What rounding took from ``d``, or None.
    lo: Array | None
    e: Array
    #: Where ``d`` is 0.
    top: Array
    #: sum(e) - 1, without the cancellation.
    sum_ex_max: Array
    x: Array


def device_of(x: Array) -> Device:
    """Where to make an array beside ``x``: None, the library's choice, where ``x`` is spread over several devices."""
    device = getattr(x, "device", None)
    return None if hasattr(device, "device_set") else device


def as_like(xp: Namespace, a: Array, x: Array) -> Array:
    """A new array as one of ``x``'s type, where that is a subclass that combines with no other."""
    name = xp.__name__
    return AS_LIKE[name](a, x) if type(x) is not type(a) and name in AS_LIKE else a


def along(xp: Namespace, a: Array, x: Array, axis: int) -> Array:
    """A vector as one along ``axis`` of ``x``, with all of its dimensions: some users have fewer refused."""
    return xp.reshape(a, (1,) * axis + (-1,) + (1,) * (x.ndim - 1 - axis))


def iota(xp: Namespace, x: Array, axis: int, dtype: DType = None) -> Array:
    """0, 1, ... along ``axis``, broadcasting to ``x``."""
    return along(xp, as_like(xp, xp.arange(x.shape[axis], dtype=dtype, device=device_of(x)), x), x, axis)


def has_float64(xp: Namespace, x: Array) -> bool:
    """Whether ``x``'s device can hold float64."""
    info = xp.__array_namespace_info__()
    return "float64" in info.dtypes(device=device_of(x), kind="real floating")


def held_dtype(xp: Namespace, dtype: DType) -> DType:
    """What weights and totals are held in beside logits of ``dtype``: half precision has neither range nor digits."""
    return xp.float32 if xp.finfo(dtype).bits < 32 else dtype


def wide_dtype(xp: Namespace, x: Array, precision: str | None) -> DType:
    """The dtype to compute in."""
    bits = xp.finfo(x.dtype).bits
    if precision == "high" and bits < 64 and has_float64(xp, x):
        return xp.float64
    return xp.float32 if bits < 32 else x.dtype


def widen(xp: Namespace, x: Array, precision: str | None) -> tuple[Array, bool]:
    """``x`` in the dtype to compute in, and whether the rounding of the shift is to be compensated."""
    dtype = wide_dtype(xp, x, precision)
    return (x, precision == "high") if x.dtype == dtype else (xp.astype(x, dtype), False)


def narrow(xp: Namespace, x: Array, dtype: DType) -> Array:
    """``x`` in ``dtype``."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def slice_axis(x: Array, axis: int, start: int | None, stop: int | None) -> Array:
    """``x[start:stop]`` along ``axis``."""
    index: list[slice] = [slice(None)] * x.ndim
    index[axis] = slice(start, stop)
    return x[tuple(index)]


def joined(xp: Namespace, parts: list[Array], axis: int = 0) -> Array:
    """The parts of an array in one."""
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=axis)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b``, and what its rounding lost (Knuth 1969)."""
    s = a + b
    z = s - a
    return s, (a - (s - z)) + (b - z)


def compensated_sum(xp: Namespace, v: Array, axis: int) -> Array:
    """The sum over ``axis`` (kept) by a tree of error-free additions."""
    lo = xp.zeros_like(v)
    while v.shape[axis] > 1:
        n = v.shape[axis]
        half = n // 2
        s, err = two_sum(slice_axis(v, axis, 0, half), slice_axis(v, axis, half, 2 * half))
        err = err + (slice_axis(lo, axis, 0, half) + slice_axis(lo, axis, half, 2 * half))
        if n % 2:
            s = xp.concat([s, slice_axis(v, axis, n - 1, n)], axis=axis)
            err = xp.concat([err, slice_axis(lo, axis, n - 1, n)], axis=axis)
        v, lo = s, err
    hi = v + lo
    return xp.where(xp.isfinite(v), hi, v)


def total(xp: Namespace, v: Array, axis: int, compensated: bool = False) -> Array:
    """The sum over ``axis`` (kept), in levels: an axis with a stride is added one term after the other."""
    if compensated:
        return compensated_sum(xp, v, axis)
    while v.shape[axis] > 2 * LEVEL:
        n = v.shape[axis]
        whole = n // LEVEL
        shape = (*v.shape[:axis], whole, LEVEL, *v.shape[axis + 1 :])
        sums = xp.sum(xp.reshape(slice_axis(v, axis, 0, whole * LEVEL), shape), axis=axis + 1, dtype=v.dtype)
        if whole * LEVEL < n:
            tail = xp.sum(slice_axis(v, axis, whole * LEVEL, n), axis=axis, keepdims=True, dtype=v.dtype)
            sums = xp.concat([sums, tail], axis=axis)
        v = sums
    return xp.sum(v, axis=axis, keepdims=True, dtype=v.dtype)


def fuses(xp: Namespace) -> bool:
    """Whether a compiler may fuse the call with what made its input."""
    name = xp.__name__
    return name in FUSES and FUSES[name]()


def product(xp: Namespace, a: Array, b: Array) -> Array:
    """The matrix product, in the precision of its operands unless the user has asked the library for less."""
    return PRODUCTS.get(xp.__name__, xp.matmul)(a, b)


def difference(xp: Namespace, x: Array, m: Array) -> Array:
    """``x - m``, exactly 0 where they are equal and ``m`` is finite, whatever is fused with it.

    A compiler may contract the product that made ``x`` with what it is added to: with a 0 that it does not know, which
    rounds the product, instead of with the difference.
    """
    return (x + m * 0) - m if fuses(xp) else x - m


def mask_logits(xp: Namespace, x: Array, axis: int, where: Array | None) -> tuple[Array, Array | None, Array | None]:
    """``x`` with -inf where hidden (0 in a row with nothing to see), the full mask, the rows that show something.

    Without a mask ``x``, None and None.
    """
    if where is None:
        return x, None, None
    visible = xp.broadcast_to(where, x.shape)
    rows = xp.any(visible, axis=axis, keepdims=True)
    nothing = xp.zeros_like(x)
    return xp.where(visible, x, xp.where(rows, nothing - math.inf, nothing)), visible, rows


def rounding_error(xp: Namespace, x: Array, m: Array, d: Array) -> Array:
    """What rounding took from ``d = x - m``; 0 where that is not finite."""
    # of finite numbers only: for others a lazy library warns later, outside any errstate
    finite, nothing = xp.isfinite(d), xp.zeros_like(d)
    a, gap, most = xp.where(finite, x, nothing), xp.where(finite, d, nothing), xp.where(finite, m, nothing)
    z = gap - a
    lo = (a - (gap - z)) - (most + z)
    return xp.where(xp.isfinite(lo), lo, nothing)


def exponential(xp: Namespace, d: Array, lo: Array | None) -> Array:
    """``exp(d + lo)``; ``lo`` may be None."""
    e = xp.exp(d)
    return e if lo is None else e + e * lo


def shift(xp: Namespace, x: Array, axis: int, compensated: bool) -> Shifted:
    """The pieces that every function of a row is made of."""
    m = xp.max(x, axis=axis, keepdims=True)
    d = difference(xp, x, m)
    return shifted(xp, x, m, d, rounding_error(xp, x, m, d) if compensated else None, axis, compensated)


def shifted(xp: Namespace, x: Array, m: Array, d: Array, lo: Array | None, axis: int, compensated: bool) -> Shifted:
    """The pieces of a row from its maximum and the differences ``d + lo`` to it; ``lo`` may be None."""
    e = exponential(xp, d, lo)
    top = d == 0
    zero = xp.zeros_like(m)
    others = total(xp, xp.where(top, zero, e), axis, compensated)
    return Shifted(m, d, lo, e, top, others + (total(xp, xp.where(top, e, zero), axis) - 1), x)


def without_each(xp: Namespace, row: Shifted, s: Array) -> Array:
    """The sum ``s`` of a row's exponentials without each one, with no cancellation at the maximum.

    There 1 - e is 0, and its derivative is not where several classes are the largest.
    """
    return xp.where(row.top, row.sum_ex_max + (1 - row.e), s - row.e)


def softmax(xp: Namespace, x: Array, axis: int, where: Array | None = None, precision: str | None = None) -> Array:
    """``exp(x) / sum(exp(x))``."""
    y, compensated = widen(xp, x, precision)
    y, visible, _ = mask_logits(xp, y, axis, where)
    row = shift(xp, y, axis, compensated)
    p = row.e / (1 + row.sum_ex_max)
    if visible is not None:
        p = xp.where(visible, p, xp.zeros_like(p))
    return narrow(xp, p, x.dtype)


def log_softmax(xp: Namespace, x: Array, axis: int, where: Array | None = None, precision: str | None = None) -> Array:
    """``x - logsumexp(x)``; at the maximum ``-log1p`` of the sum of the other exponentials."""
    y, compensated = widen(xp, x, precision)
    y, visible, _ = mask_logits(xp, y, axis, where)
    row = shift(xp, y, axis, compensated)
    # torch's log1p of the smallest number is 0, and loses the sign of the result
    normalizer = xp.where(row.sum_ex_max < 2.0**-60, row.sum_ex_max, xp.log1p(row.sum_ex_max))
    return narrow(xp, log_of(xp, row, normalizer, visible), x.dtype)


def log_of(xp: Namespace, row: Shifted, normalizer: Array, visible: Array | None = None) -> Array:
    """The logarithms of the probabilities, by ``log1p(row.sum_ex_max)``; -inf where a class is hidden."""
    r = row.d - (normalizer if row.lo is None else normalizer - row.lo)
    return r if visible is None else xp.where(visible, r, xp.zeros_like(r) - math.inf)


def logsumexp(xp: Namespace, x: Array, axis: int, where: Array | None = None, precision: str | None = None) -> Array:
    """``max + log1p(sum of the other exponentials)`` (Blanchard, Higham and Higham 2021), without ``axis``."""
    y, compensated = widen(xp, x, precision)
    y, _, rows = mask_logits(xp, y, axis, where)
    row = shift(xp, y, axis, compensated)
    r = log_normalizer(xp, row, axis)
    if rows is not None:
        r = xp.where(rows, r, xp.zeros_like(r) - math.inf)
    return narrow(xp, xp.squeeze(r, axis=axis), x.dtype)


def log_normalizer(xp: Namespace, row: Shifted, axis: int) -> Array:
    """``log(sum(exp(x)))`` of shifted rows, the axis kept."""
    # a maximum may pass over a NaN (XLA's does on a CPU), which an infinite one would then hide
    nans = xp.sum(xp.where(xp.isnan(row.x), row.x, xp.zeros_like(row.m)), axis=axis, keepdims=True, dtype=row.x.dtype)
    return xp.where(xp.isinf(row.m), row.m + nans, row.m + xp.log1p(row.sum_ex_max))


def first_largest(xp: Namespace, size: Array, axis: int) -> Array:
    """Where the first of the largest numbers along ``axis`` is."""
    return iota(xp, size, axis) == xp.argmax(size, axis=axis, keepdims=True)


def nan_unless(xp: Namespace, defined: Array, like: Array) -> Array:
    """NaN where the result is undefined: computed there only under a compiler, which may check; else a constant.

    NumPy would warn of a computed one, in a task of Dask too.
    """
    zero = xp.zeros_like(like)
    return xp.where(defined, zero, zero + math.inf) * 0 if fuses(xp) else zero + math.nan


def nan_where(xp: Namespace, undefined: Array, x: Array) -> Array:
    """``x``, NaN where it is undefined."""
    return xp.where(undefined, nan_unless(xp, xp.logical_not(undefined), x), x)


def centred(xp: Namespace, p: Array, t: Array, axis: int) -> Array:
    """``t - sum(p t)`` where ``p`` sums to 1; by differences from ``t`` at a class that has most of ``p``."""
    sure, zero = p > SURE, xp.zeros_like(t)
    at_sure = xp.sum(xp.where(sure, t, zero), axis=axis, keepdims=True, dtype=t.dtype)
    deviation = xp.where(sure, zero, t - at_sure)
    return deviation - total(xp, p * deviation, axis)


def softmax_vjp(xp: Namespace, probs: Array, cotangent: Array, axis: int) -> Array:
    """``p (c - sum(p c))``."""
    p, _ = widen(xp, probs, None)
    c, _ = widen(xp, cotangent, None)
    return narrow(xp, p * centred(xp, p, c, axis), probs.dtype)


def log_softmax_vjp(xp: Namespace, log_probs: Array, cotangent: Array, axis: int) -> Array:
    """``c - p sum(c)``; near p = 1 from ``1 - p`` and the sum of the other cotangents."""
    log_p, _ = widen(xp, log_probs, None)
    c, _ = widen(xp, cotangent, None)
    p, sure, zero = xp.exp(log_p), log_p > -0.5, xp.zeros_like(c)
    others = total(xp, xp.where(sure, zero, c), axis)
    at_sure = xp.sum(xp.where(sure, c, zero), axis=axis, keepdims=True, dtype=c.dtype)
    grad = xp.where(sure, -(c * xp.expm1(log_p)) - p * others, c - p * (others + at_sure))
    return narrow(xp, grad, log_probs.dtype)


def log_softmax_jvp(xp: Namespace, log_probs: Array, tangent: Array, axis: int) -> Array:
    """``t - sum(p t)``."""
    log_p, _ = widen(xp, log_probs, None)
    t, _ = widen(xp, tangent, None)
    return narrow(xp, centred(xp, xp.exp(log_p), t, axis), log_probs.dtype)


#: The Jacobian diag(p) - p pT is symmetric.
softmax_jvp = softmax_vjp
