"""Softmax, its logarithm and log-sum-exp as JAX functions with closed forms for their derivatives.

Each carries a rule for forward mode, linear in the tangent and written so that its transpose, which is reverse mode,
subtracts no two numbers that are close either. The rules are made of the same functions: any order follows.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from ..._array.memory import jax_memory
from ..._array.typing import AnyArray
from ..._kernels import dense as dense_kernels

#: Classes up to which a plain sum is exact enough.
PLAIN_SUM = 1024
#: Classes of a row up to which XLA on a CPU makes two float32 sums faster in one pass, and those kept in memory.
ONE_PASS, HELD = 16, 64
#: Probability from which a class is kept out of the mean of a row.
DOMINANT = 0.75


def total(a: AnyArray, axis: int) -> AnyArray:
    """The sum over ``axis``, which goes."""
    if a.shape[axis] <= PLAIN_SUM:
        return jnp.sum(a, axis=axis)
    return jnp.squeeze(dense_kernels.total(jnp, a, axis), axis=axis)


def _one_pass(e: AnyArray, axis: int) -> bool:
    """Whether XLA makes two sums faster in one pass: over columns, and rows that are a few whole vectors or pairs."""
    k = e.shape[axis]
    if k > PLAIN_SUM:
        return False
    return axis < e.ndim - 1 or (e.dtype == jnp.float32 and k <= ONE_PASS and k & (k - 1) == 0)


@cache
def _has_barrier() -> bool:
    """Whether a barrier can be differentiated, as it cannot in the oldest versions of JAX."""
    try:
        jax.eval_shape(lambda a: jax.jvp(jax.lax.optimization_barrier, (a,), (a,)), 0.0)
    except NotImplementedError:
        return False
    return True


def _held(e: AnyArray, axis: int) -> AnyArray:
    """Exponentials as an array in memory, on a CPU with few classes: each sum would else take them again."""
    if e.shape[axis] > HELD or axis < e.ndim - 1 or not _has_barrier():
        return e
    held: AnyArray = jax.lax.platform_dependent(e, cpu=jax.lax.optimization_barrier, default=lambda a: a)
    return held


def _pair(a: tuple[AnyArray, AnyArray], b: tuple[AnyArray, AnyArray]) -> tuple[AnyArray, AnyArray]:
    return a[0] + b[0], a[1] + b[1]


def _both(a: AnyArray, b: AnyArray, axis: int) -> tuple[AnyArray, AnyArray]:
    """Two sums over ``axis``, which goes, in levels, each level in one pass over both.

    Of two reductions XLA on a GPU would keep what both read, the exponentials, in memory.
    """
    zero, level = jnp.zeros((), a.dtype), dense_kernels.LEVEL
    while a.shape[axis] > 2 * level:
        pad = [(0, 0, 0)] * a.ndim
        pad[axis] = (0, -a.shape[axis] % level, 0)
        shape = (*a.shape[:axis], -1, level, *a.shape[axis + 1 :])
        a, b = (jax.lax.pad(each, zero, pad).reshape(shape) for each in (a, b))
        a, b = jax.lax.reduce((a, b), (zero, zero), _pair, (axis + 1,))
    first, second = jax.lax.reduce((a, b), (zero, zero), _pair, (axis,))
    return first, second


def sums(e: AnyArray, axis: int) -> tuple[AnyArray, AnyArray]:
    """(sum(e) - 1 without the cancellation, sum(e)) for exponentials whose largest is 1; without ``axis``."""
    # XLA vectorises what follows a reduction only where no axis of length 1 is left
    if _one_pass(e, axis):
        zero = jnp.zeros((), e.dtype)
        others, s = jax.lax.reduce((e - jnp.floor(e), e), (zero, zero), _pair, (axis,))
    elif jax_memory(e) is not None:
        others, s = _both(e - jnp.floor(e), e, axis)
    else:
        e = _held(e, axis)
        others, s = total(e - jnp.floor(e), axis), total(e, axis)
    # the fraction of the largest is 0; what is missing then are its ties, a whole number
    return others + jnp.round(s - 1 - others), s


def narrowed(a: AnyArray, dtype: Any) -> AnyArray:
    """``a`` in ``dtype``, rounded once: XLA goes from float64 to bfloat16 by way of float32."""
    if dtype == jnp.bfloat16 and a.dtype == jnp.float64:
        a = jax.lax.reduce_precision(a, 8, 7)
    return a.astype(dtype)


#: Binary digits after the point of what float64 is rounded to.
DIGITS = {"float32": 23, "float16": 10, "bfloat16": 7}


def less(a: AnyArray, b: AnyArray, dtype: Any, more: AnyArray | float = 0.0) -> AnyArray:
    """``a - b`` in float64, which is then rounded to ``dtype``: a tie moved to the side that the difference is on.

    ``more`` has the sign of what ``a`` has lost already.
    """
    digits = DIGITS.get(str(jnp.dtype(dtype)))
    if digits is None or a.dtype != jnp.float64:
        return a - b
    s, low = dense_kernels.two_sum(a, -b)
    near = jax.lax.reduce_precision(s, 11, digits)
    other = near + 2 * (s - near)
    tie = (other != near) & (jax.lax.reduce_precision(other, 11, digits) == other)
    low = jnp.where(low == 0, more, low)
    return jnp.where(tie, s + jnp.sign(low) * jnp.abs(s) * 2.0**-52, s)


def wide(x: AnyArray, precision: str | None = None) -> AnyArray:
    """``x`` in the dtype to compute in."""
    return dense_kernels.widen(jnp, x, precision)[0]


def is_compensated(x: AnyArray, precision: str | None) -> bool:
    """Whether the rounding of ``x - max`` is compensated, which the generic kernel does."""
    return dense_kernels.widen(jnp, x, precision)[1]


def zero_hidden(a: AnyArray, where: AnyArray | None) -> AnyArray:
    """``a`` with 0 where classes are hidden."""
    return a if where is None else jnp.where(where, a, jnp.zeros((), a.dtype))


def hide_logits(x: AnyArray, where: AnyArray | None, axis: int) -> AnyArray:
    """``x`` with -inf where classes are hidden, 0 in a row that hides them all."""
    return x if where is None else dense_kernels.mask_logits(jnp, x, axis, where)[0]


def centred(p: AnyArray, t: AnyArray, axis: int) -> AnyArray:
    """``t - sum(p * t)``, taken relative to a dominant class so that nothing cancels."""
    # one class at most can be so likely; where none is, nothing cancels
    high = p > DOMINANT
    apart = jnp.where(high, 0, t - jnp.expand_dims(jnp.sum(jnp.where(high, t, 0), axis=axis), axis))
    return apart - jnp.expand_dims(total(p * apart, axis), axis)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def softmax(x: AnyArray, where: AnyArray | None, axis: int, precision: str | None) -> AnyArray:
    """``exp(x) / sum(exp(x))``."""
    if is_compensated(x, precision):
        return dense_kernels.softmax(jnp, x, axis, where, precision)
    y = hide_logits(wide(x, precision), where, axis)
    e = jnp.exp(dense_kernels.difference(jnp, y, jnp.max(y, axis=axis, keepdims=True)))
    return narrowed(zero_hidden(e / jnp.expand_dims(total(e, axis), axis), where), x.dtype)


def _softmax_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, where = primals
    p = softmax(x, where, axis, precision)
    q = wide(p)
    # what is hidden is masked on the way out too, where reverse mode comes in: 0 times a NaN is none
    return p, zero_hidden(q * centred(q, wide(zero_hidden(tangents[0], where)), axis), where).astype(p.dtype)


softmax.defjvp(_softmax_jvp)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def log_softmax(x: AnyArray, where: AnyArray | None, axis: int, precision: str | None) -> AnyArray:
    """``x - logsumexp(x)``."""
    if is_compensated(x, precision):
        return dense_kernels.log_softmax(jnp, x, axis, where, precision)
    y = hide_logits(wide(x, precision), where, axis)
    m = jnp.max(y, axis=axis, keepdims=True)
    d = dense_kernels.difference(jnp, y, m)
    # of one difference XLA on a GPU would keep, for the sum and the result, all in float32 in memory
    apart = d if jax_memory(y) is None else jnp.where(y == m, 0, y - m)
    r = less(d, jnp.expand_dims(jnp.log1p(sums(jnp.exp(apart), axis)[0]), axis), x.dtype)
    return narrowed(r if where is None else jnp.where(where, r, -math.inf), x.dtype)


def _log_softmax_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, where = primals
    r = log_softmax(x, where, axis, precision)
    return r, zero_hidden(centred(jnp.exp(wide(r)), wide(zero_hidden(tangents[0], where)), axis), where).astype(r.dtype)


log_softmax.defjvp(_log_softmax_jvp)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def logsumexp(x: AnyArray, where: AnyArray | None, axis: int, precision: str | None) -> AnyArray:
    """``max + log1p(sum of the other exponentials)``, without ``axis``."""
    if is_compensated(x, precision):
        return dense_kernels.logsumexp(jnp, x, axis, where, precision)
    y = wide(x, precision)
    rows = None
    if where is not None:
        y, _, rows = dense_kernels.mask_logits(jnp, y, axis, where)
    m = jnp.max(y, axis=axis)
    most = jnp.expand_dims(m, axis)
    # 0 at an infinite maximum too; a NaN beside it, which XLA's maximum passes over on a CPU, shows in the sum
    rest, _ = sums(jnp.exp(jnp.where(y == most, 0, y - most)), axis)
    r = m + jnp.log1p(rest)
    return narrowed(r if rows is None else jnp.where(jnp.squeeze(rows, axis=axis), r, -math.inf), x.dtype)


def _logsumexp_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, where = primals
    r = logsumexp(x, where, axis, precision)
    p = wide(softmax(x, where, axis, precision))
    return r, total(p * wide(zero_hidden(tangents[0], where)), axis).astype(r.dtype)


logsumexp.defjvp(_logsumexp_jvp)
