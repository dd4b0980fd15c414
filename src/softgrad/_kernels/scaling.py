"""Scaled logits, ``z = softcap * tanh(x / softcap) / temperature + logit_shift``, as differences taken before scaling.

``z - max(z)`` of rounded ``z`` has lost digits that matter where the temperature is low or the shift is large; and
where the softcap saturates, all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .._array.typing import Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from .dense import (
    Shifted,
    along,
    difference,
    first_largest,
    mask_logits,
    narrow,
    rounding_error,
    shift,
    shifted,
    two_sum,
)


class Scaling(NamedTuple):
    """How logits are scaled before their softmax: the softcap first, then the temperature, then the shift."""

    temperature: float = 1.0
    softcap: float | None = None
    #: One number a class, with the dimensions and the dtype of the logits, or None.
    logit_shift: Array | None = None

    @property
    def identity(self) -> bool:
        """Whether the logits stay as they are."""
        return self.temperature == 1.0 and self.softcap is None and self.logit_shift is None


def scaling_of(xp: Namespace, x: Array, args: LossArgs) -> Scaling:
    """How a loss scales the logits ``x``."""
    shift = None if args.logit_shift is None else along(xp, narrow(xp, args.logit_shift, x.dtype), x, args.axis)
    return Scaling(args.temperature, args.softcap, shift)


def scaled(xp: Namespace, x: Array, scaling: Scaling) -> Array:
    """The scaled logits, rounded."""
    if scaling.softcap is not None:
        x = scaling.softcap * xp.tanh(x / scaling.softcap)
    if scaling.temperature != 1.0:
        x = x / scaling.temperature
    return x if scaling.logit_shift is None else x + scaling.logit_shift


def scaled_shift(
    xp: Namespace, x: Array, axis: int, compensated: bool, scaling: Scaling, where: Array | None = None
) -> Shifted:
    """``shift`` of the scaled logits; ``x`` is as ``mask_logits`` gives it where there is a mask ``where``.

    ``m`` is the scaled logit of a class where that is largest, ``d`` the differences to it and ``x`` the logits as
    they came. With a softcap the rounding of ``d`` is not compensated.
    """
    if scaling.identity:
        return shift(xp, x, axis, compensated)
    c, added = scaling.softcap, scaling.logit_shift
    y = x if c is None else finite(xp, x)
    if added is None:
        most, most_added = xp.max(y, axis=axis, keepdims=True), None
    else:
        z = scaled(xp, y, scaling)
        first = first_largest(xp, z if c is None else mask_logits(xp, z, axis, where)[0], axis)
        zero = xp.zeros_like(z)
        most, most_added = (
            xp.sum(xp.where(first, a, zero), axis=axis, keepdims=True, dtype=x.dtype) for a in (y, added)
        )
    d, lo = apart(xp, y, most, compensated, scaling, most_added)
    if c is not None:
        d = mask_logits(xp, d, axis, where)[0]
    return shifted(xp, x, scaled(xp, most, scaling._replace(logit_shift=most_added)), d, lo, axis, compensated)


def apart(
    xp: Namespace, x: Array, most: Array, compensated: bool, scaling: Scaling, most_added: ArrayIfAsked = None
) -> tuple[Array, Array | None]:
    """(How far scaled logits are above that of a class with ``most`` and the shift ``most_added``, what was rounded).

    The latter is None with a softcap, or unless ``compensated``; with one no logit may be infinite.
    """
    c, added = scaling.softcap, scaling.logit_shift
    d = difference(xp, x, most)
    lo = rounding_error(xp, x, most, d) if compensated and c is None else None
    if c is not None:
        d = c * _tanh_apart(xp, x / c, most / c, d / c)
    if scaling.temperature != 1.0:
        d, lo = _divided(xp, d, lo, scaling.temperature)
    if added is None:
        return d, lo
    step = difference(xp, added, most_added)
    if lo is None:
        return d + step, None
    whole, error = two_sum(d, step)
    error = error + (lo + rounding_error(xp, added, most_added, step))
    return whole, xp.where(xp.isfinite(error), error, xp.zeros_like(error))


def slope(xp: Namespace, x: Array, scaling: Scaling) -> Array | float:
    """``dz / dx``: an array with a softcap, else a number."""
    if scaling.softcap is None:
        return 1 / scaling.temperature
    return _sech2(xp, x / scaling.softcap) / scaling.temperature


def bend(xp: Namespace, x: Array, scaling: Scaling) -> Array | None:
    """``d2z / dx2``: an array with a softcap, else None for 0."""
    if scaling.softcap is None:
        return None
    a = x / scaling.softcap
    return xp.tanh(a) * _sech2(xp, a) * (-2 / scaling.softcap / scaling.temperature)


def finite(xp: Namespace, x: Array) -> Array:
    """``x`` with the largest finite numbers in place of infinities; their tanh is the same."""
    largest = xp.zeros_like(x) + xp.finfo(x.dtype).max
    return xp.where(x == math.inf, largest, xp.where(x == -math.inf, -largest, x))


def _sigmoid(xp: Namespace, t: Array) -> Array:
    # each branch is the function itself, to any derivative
    up = t >= 0
    e = xp.exp(xp.where(up, -t, t))
    return xp.where(up, xp.ones_like(e), e) / (1 + e)


def _sech2(xp: Namespace, a: Array) -> Array:
    """``1 - tanh(a)**2``, without the cancellation."""
    return 4 * (_sigmoid(xp, 2 * a) * _sigmoid(xp, -2 * a))


def _tanh_apart(xp: Namespace, a: Array, b: Array, apart: Array) -> Array:
    """``tanh(a) - tanh(b)`` with ``apart = a - b``, without the cancellation.

    It is ``sinh(a - b) / (cosh(a) cosh(b))``; in exponentials that do not overflow, with a the smaller of the two,
    ``2 expm1(2 (a - b)) sigmoid(-2 a) sigmoid(2 b)``.
    """
    over = apart > 0
    low, high = xp.where(over, b, a), xp.where(over, a, b)
    size = 2 * xp.expm1(2 * xp.where(over, -apart, apart)) * (_sigmoid(xp, -2 * low) * _sigmoid(xp, 2 * high))
    return xp.where(over, -size, size)


def _divided(xp: Namespace, d: Array, lo: Array | None, by: float) -> tuple[Array, Array | None]:
    """``(d + lo) / by`` as a number and what rounding took from it; ``lo`` may be None."""
    q = d / by
    if lo is None:
        return q, None
    # the product q * by in pieces that are exact (Dekker 1971)
    bits = 26 if xp.finfo(d.dtype).bits == 64 else 12
    fraction, exponent = math.frexp(by)
    high = math.ldexp(round(math.ldexp(fraction, bits)), exponent - bits)
    safe = xp.where(xp.isfinite(q), q, xp.zeros_like(q))
    wide = safe * (2.0 ** (bits + 1) + 1)
    head = wide - (wide - safe)
    tail = safe - head
    off = ((xp.where(xp.isfinite(q), d, xp.zeros_like(d)) - head * high) - tail * high) - safe * (by - high)
    lo = (off + lo) / by
    return q, xp.where(xp.isfinite(lo), lo, xp.zeros_like(lo))
