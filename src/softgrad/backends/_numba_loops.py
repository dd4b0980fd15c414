"""Loops over the rows of contiguous arrays of single or double precision, compiled by numba.

Each takes a row's maximum first and its exponentials next; the logarithms are those of many rows together.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ._numba_vectors import apart, log1p, peak, powers, scale, sums

#: Terms that are added in the dtype itself before a sum goes up to double precision.
TERMS = 4096
#: Rows whose logarithms are taken together, whole vectors of them.
ROWS = 64
#: The fewest classes: a vector of the smaller type.
FEWEST = 16


def _compiled(function: Any) -> Any:
    return numba.njit(nogil=True, cache=True)(function)


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
    log1p(logs)
    return n


_tops_and_logs = _compiled(_tops)


def _log_softmax(x: Any, k: int, y: Any) -> None:
    tops, logs = np.empty(ROWS, x.dtype), np.zeros(ROWS, x.dtype)
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
    tops, logs = np.empty(ROWS, x.dtype), np.zeros(ROWS, x.dtype)
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
    gaps, logs, shares = np.empty(ROWS, x.dtype), np.zeros(ROWS, x.dtype), np.empty(ROWS, x.dtype)
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
        log1p(logs)
        for i in range(n):
            loss = (gaps[i] + logs[i]) * shares[i]
            if losses.size:
                losses[first + i] = loss
            total += loss
    return total


loss = _compiled(_loss)
