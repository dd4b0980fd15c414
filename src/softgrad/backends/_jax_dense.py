"""Softmax, its logarithm and log-sum-exp as JAX functions with closed forms for their derivatives.

Each carries a rule for forward mode, linear in the tangent and written so that its transpose, which is reverse mode,
subtracts no two numbers that are close either. The rules are made of the same functions: any order follows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import _kernels
from .._typing import Array

#: Classes up to which a plain sum is exact enough.
PLAIN_SUM = 1024
#: Classes up to which XLA makes two sums faster in one pass.
ONE_PASS = 8


def total(a: Array, axis: int) -> Array:
    """The sum over ``axis``, which is kept."""
    if a.shape[axis] <= PLAIN_SUM:
        return jnp.sum(a, axis=axis, keepdims=True)
    return _kernels.total(jnp, a, axis)


def rest_of(e: Array, axis: int) -> Array:
    """sum(e) - 1 for exponentials whose largest is 1, without the cancellation; the axis kept."""
    fraction = e - jnp.floor(e)
    if e.shape[axis] <= ONE_PASS:
        zero = jnp.zeros((), e.dtype)
        both = jax.lax.reduce((fraction, e), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (axis,))
        others, s = (jnp.expand_dims(a, axis) for a in both)
    else:
        others, s = total(fraction, axis), total(e, axis)
    # the fraction of the largest is 0; what is missing then are its ties, a whole number
    return others + jnp.round(s - 1 - others)


def wide(x: Array, precision: str | None) -> Array:
    """``x`` in the dtype to compute in."""
    return _kernels.widen(jnp, x, precision)[0]


def carries(x: Array, precision: str | None) -> bool:
    """Whether the rounding of x - max is to be carried: the generic kernel does that."""
    return _kernels.widen(jnp, x, precision)[1]


def top(p: Array, axis: int) -> Array:
    """Where the largest of a row stands, the first of its ties."""
    index = jnp.arange(p.shape[axis]).reshape((-1,) + (1,) * (p.ndim - 1 - axis))
    return index == jnp.argmax(p, axis=axis, keepdims=True)


def seen(a: Array, where: Array | None) -> Array:
    """``a`` with 0 where classes are hidden."""
    return a if where is None else jnp.where(where, a, jnp.zeros((), a.dtype))


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def softmax(x: Array, where: Array | None, axis: int, precision: str | None) -> Array:
    """exp(x) / sum(exp(x))."""
    if carries(x, precision):
        return _kernels.softmax(jnp, x, axis, where, precision)
    y = wide(x, precision)
    shown = None
    if where is not None:
        y, shown, _ = _kernels.hide(jnp, y, axis, where)
    e = jnp.exp(y - jnp.max(y, axis=axis, keepdims=True))
    return seen(e / total(e, axis), shown).astype(x.dtype)


@softmax.defjvp
def _softmax_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, where = primals
    p = softmax(x, where, axis, precision)
    q, t = wide(p, None), wide(seen(tangents[0], where), None)
    # differences from the top: its own is 0, and the transpose gives it the sum of the others
    high = top(q, axis)
    apart = jnp.where(high, 0, t - jnp.sum(jnp.where(high, t, 0), axis=axis, keepdims=True))
    return p, (q * (apart - total(q * apart, axis))).astype(p.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def log_softmax(x: Array, where: Array | None, axis: int, precision: str | None) -> Array:
    """X - logsumexp(x)."""
    if carries(x, precision):
        return _kernels.log_softmax(jnp, x, axis, where, precision)
    y = wide(x, precision)
    shown = None
    if where is not None:
        y, shown, _ = _kernels.hide(jnp, y, axis, where)
    d = y - jnp.max(y, axis=axis, keepdims=True)
    r = d - jnp.log1p(rest_of(jnp.exp(d), axis))
    return (r if shown is None else jnp.where(shown, r, -jnp.inf)).astype(x.dtype)


@log_softmax.defjvp
def _log_softmax_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, where = primals
    r = log_softmax(x, where, axis, precision)
    log_p, t = wide(r, None), wide(seen(tangents[0], where), None)
    high = top(log_p, axis)
    pull = jnp.exp(log_p) * t
    others = total(jnp.where(high, 0, pull), axis)
    own = -jnp.expm1(log_p) * t
    mean = others + jnp.sum(jnp.where(high, pull, 0), axis=axis, keepdims=True)
    return r, seen(jnp.where(high, own - others, t - mean), where).astype(r.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def logsumexp(x: Array, where: Array | None, axis: int, precision: str | None) -> Array:
    """Max + log1p(the others), without ``axis``."""
    if carries(x, precision):
        return _kernels.logsumexp(jnp, x, axis, where, precision)
    y = wide(x, precision)
    rows = None
    if where is not None:
        y, _, rows = _kernels.hide(jnp, y, axis, where)
    m = jnp.max(y, axis=axis, keepdims=True)
    r = m + jnp.log1p(rest_of(jnp.exp(y - m), axis))
    # a maximum may pass over a NaN (XLA's does on a CPU), which an infinite one would then hide
    r = jax.lax.cond(jnp.any(jnp.isinf(m)), partial(_infinite, axis), lambda y, m, r: r, y, m, r)
    if rows is not None:
        r = jnp.where(rows, r, -jnp.inf)
    return jnp.squeeze(r, axis=axis).astype(x.dtype)


def _infinite(axis: int, y: Array, m: Array, r: Array) -> Array:
    lost = jnp.any(jnp.isnan(y), axis=axis, keepdims=True)
    return jnp.where(jnp.isinf(m), jnp.where(lost, jnp.nan, m), r)


@logsumexp.defjvp
def _logsumexp_jvp(axis: int, precision: str | None, primals: Any, tangents: Any) -> Any:
    x, where = primals
    p, t = wide(softmax(x, where, axis, precision), None), wide(seen(tangents[0], where), None)
    r = logsumexp(x, where, axis, precision)
    return r, jnp.squeeze(total(p * t, axis), axis=axis).astype(r.dtype)
