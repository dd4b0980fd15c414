"""Loops over the rows of contiguous arrays of single or double precision, compiled by numba.

Each takes a row's maximum first and its exponentials next; the logarithms are those of many rows together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import overload

from ._numba_vectors import apart, fraction, peak, powers, scale, sums

#: Terms that are added in the dtype itself before a sum goes up to double precision.
TERMS = 4096
#: Rows whose logarithms are taken together.
ROWS = 64
#: The fewest classes: a vector of the smaller type.
FEWEST = 16

#: log(2) in two parts, the first of few bits; and the coefficients of Q, the highest power first, of the Chebyshev fit
#: of log((1 + s) / (1 - s)) = 2 s + s z Q(z), z = s^2, within 4e-11 and 7e-20.
_F_ONE, _F_TWO, _F_HIGH, _F_LOW = map(np.float32, (1, 2, 0.693359375, -2.12194440e-4))
_D_HIGH, _D_LOW = 0.693145751953125, 1.42860682030941723212e-6
_F3, _F2, _F1, _F0 = map(
    np.float32, (0.23331614471843499, 0.28550778633191965, 0.40000122211810650, 0.66666666554042012)
)
_D7, _D6, _D5, _D4 = 0.13088034850927554, 0.13268638369266824, 0.15386244737621667, 0.18181795547521136
_D3, _D2, _D1, _D0 = 0.22222222392581045, 0.28571428570799785, 0.40000000000000883, 0.66666666666666663


def _log1p(r: Any) -> Any:
    """Logarithm of 1 + r, for r not below 0: log(u) of u = 1 + r, rounded, and of what was lost its share of u."""


@overload(_log1p)  # type: ignore[untyped-decorator]
def _log1p_of(r: Any) -> Callable[[Any], Any]:
    def single(r: Any) -> Any:
        u = _F_ONE + r
        lost = (_F_ONE - (u - r)) if r > _F_ONE else (r - (u - _F_ONE))
        n, f = fraction(u)
        f -= _F_ONE
        s = f / (_F_TWO + f)
        z = s * s
        q = (((_F3 * z + _F2) * z + _F1) * z + _F0) * z
        return n * _F_HIGH + (f - (s * (f - q) - (n * _F_LOW + lost / u)))

    def double(r: Any) -> Any:
        u = 1.0 + r
        lost = (1.0 - (u - r)) if r > 1.0 else (r - (u - 1.0))
        n, f = fraction(u)
        f -= 1.0
        s = f / (2.0 + f)
        z = s * s
        q = ((((_D7 * z + _D6) * z + _D5) * z + _D4) * z + _D3) * z
        q = (((q + _D2) * z + _D1) * z + _D0) * z
        return n * _D_HIGH + (f - (s * (f - q) - (n * _D_LOW + lost / u)))

    return single if r == types.float32 else double


def _compiled(function: Any) -> Any:
    return numba.njit(nogil=True, cache=True)(function)


def _logs_of(rests: Any, n: int) -> None:
    for i in range(n):
        rests[i] = _log1p(rests[i])


_logs = _compiled(_logs_of)


def _rest_of(x: Any, start: int, k: int, m: Any) -> Any:
    """Sum of a row's exponentials but one of a maximum's."""
    if k < 2 * TERMS:
        others, ones = sums(x, start, k, m)
        return x.dtype.type(ones - 1) + others
    rest = 0.0
    ties = -1
    for part in range(k // TERMS):
        # the last part takes what is left over
        n = TERMS + (k % TERMS if part == k // TERMS - 1 else 0)
        others, ones = sums(x, start + part * TERMS, n, m)
        rest += others
        ties += ones
    return x.dtype.type(rest + ties)


_rest = _compiled(_rest_of)


def _row_of(x: Any, start: int, k: int, m: Any, e: Any) -> Any:
    """The same, and the exponentials into ``e``."""
    if k < 2 * TERMS:
        others, ones = powers(x, start, k, m, e)
        return x.dtype.type(ones - 1) + others
    rest = 0.0
    ties = -1
    for part in range(k // TERMS):
        n = TERMS + (k % TERMS if part == k // TERMS - 1 else 0)
        others, ones = powers(x, start + part * TERMS, n, m, e)
        rest += others
        ties += ones
    return x.dtype.type(rest + ties)


_row = _compiled(_row_of)


def _softmax(x: Any, k: int, y: Any) -> None:
    one = x.dtype.type(1)
    for start in range(0, x.size, k):
        scale(y, start, k, one / (one + _row(x, start, k, peak(x, start, k), y)))


softmax = _compiled(_softmax)


def _tops(x: Any, k: int, row: int, tops: Any, logs: Any) -> int:
    """Maxima and logarithms of the sums of up to ``ROWS`` rows from ``row`` on; how many rows."""
    n = min(ROWS, x.size // k - row)
    for i in range(n):
        tops[i] = peak(x, (row + i) * k, k)
        logs[i] = _rest(x, (row + i) * k, k, tops[i])
    _logs(logs, n)
    return n


_tops_and_logs = _compiled(_tops)


def _log_softmax(x: Any, k: int, y: Any) -> None:
    tops, logs = np.empty(ROWS, x.dtype), np.empty(ROWS, x.dtype)
    for row in range(0, x.size // k, ROWS):
        for i in range(_tops_and_logs(x, k, row, tops, logs)):
            apart(x, (row + i) * k, k, tops[i], logs[i], y)


log_softmax = _compiled(_log_softmax)


def _endless(x: Any, start: int, k: int, m: Any) -> Any:
    """A maximum that is infinite, or NaN where the row holds one."""
    for j in range(k):
        if np.isnan(x[start + j]):
            return x[start + j]
    return m


_infinite = _compiled(_endless)


def _logsumexp(x: Any, k: int, out: Any) -> None:
    tops, logs = np.empty(ROWS, x.dtype), np.empty(ROWS, x.dtype)
    for row in range(0, out.size, ROWS):
        for i in range(_tops_and_logs(x, k, row, tops, logs)):
            m = tops[i]
            out[row + i] = _infinite(x, (row + i) * k, k, m) if np.isinf(m) else m + logs[i]


logsumexp = _compiled(_logsumexp)


def _loss(x: Any, k: int, labels: Any, weights: Any, skipped: Any, factor: float, losses: Any, grad: Any) -> float:
    """The sum of the losses; each into ``losses``, its gradient times ``factor`` into ``grad``, unless these are empty.

    ``weights`` may be empty; ``skipped`` holds the label to ignore or nothing.
    """
    zero, one = x.dtype.type(0), x.dtype.type(1)
    gaps, logs, shares = np.empty(ROWS, x.dtype), np.empty(ROWS, x.dtype), np.empty(ROWS, x.dtype)
    total = 0.0
    for first in range(0, labels.size, ROWS):
        n = min(ROWS, labels.size - first)
        for i in range(n):
            label, start = labels[first + i], (first + i) * k
            gaps[i], logs[i] = zero, zero
            shares[i] = weights[first + i] if weights.size else one
            out = shares[i] == zero or (skipped.size and label == skipped[0])
            if out or label < 0 or label >= k:
                if out:
                    shares[i] = zero
                else:
                    gaps[i] = x.dtype.type(np.nan)
                if grad.size:
                    grad[start : start + k] = gaps[i]
                continue
            m, own = peak(x, start, k), x[start + label]
            # at the maximum the loss is log(1 + rest): nothing is taken from anything of its size
            top = own == m
            if not top:
                gaps[i] = m - own
            if not grad.size:
                logs[i] = _rest(x, start, k, m)
                continue
            rest = _row(x, start, k, m, grad)
            logs[i] = rest
            share = factor * shares[i] / (one + rest)
            others = rest if top else (one + rest) - grad[start + label]
            scale(grad, start, k, share)
            grad[start + label] = -others * share
        _logs(logs, n)
        for i in range(n):
            loss = (gaps[i] + logs[i]) * shares[i]
            if losses.size:
                losses[first + i] = loss
            total += loss
    return total


loss = _compiled(_loss)
