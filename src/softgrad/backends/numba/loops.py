"""Loops over the rows of contiguous arrays of single or double precision, compiled by numba.

Some rows at a time: all their maxima, all their sums, all their logarithms. A processor that waits for the end of one
row has then the next one to go on with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .column_loops import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from .columns import TERMS
from .compile import compiled, copy
from .intrinsics import (
    apart,
    dot,
    log1p,
    peak,
    powers,
    scale,
    sum_but,
    sum_of,
    sums,
    write_log_softmax_vjp,
    write_softmax_vjp,
    write_unsure_vjp,
)
from .vectors import NEAR

#: Rows that are worked on together: whole vectors of them, and elements that stay in the innermost caches.
ROWS, ELEMENTS = 64, 1 << 13


def _block_of(k: int) -> int:
    return max(1, min(ROWS, ELEMENTS // k))


_block = compiled(_block_of)


def _peaks_of(x: Any, k: int, first: int, n: int, tops: Any) -> None:
    for i in range(n):
        tops[i] = peak(x, (first + i) * k, k)


_peaks = compiled(_peaks_of)


def _long_of(x: Any, start: int, k: int, m: Any, e: Any) -> float:
    """Sum of a long row's exponentials but one of a maximum's; the exponentials into ``e``, if it is not empty."""
    rest, ones = 0.0, -1
    for part in range(k // TERMS):
        # the last part takes what is left over
        n = TERMS + (k % TERMS if part == k // TERMS - 1 else 0)
        if e.size:
            others, equal = powers(x, start + part * TERMS, n, m, e)
        else:
            others, equal = sums(x, start + part * TERMS, n, m)
        rest += others
        ones += equal
    return rest + ones


_long = compiled(_long_of)


def _rests_of(x: Any, k: int, first: int, n: int, tops: Any, rests: Any, e: Any) -> None:
    """The same of rows."""
    if k >= 2 * TERMS:
        for i in range(n):
            rests[i] = _long(x, (first + i) * k, k, tops[i], e)
    elif e.size:
        for i in range(n):
            others, ones = powers(x, (first + i) * k, k, tops[i], e)
            rests[i] = x.dtype.type(ones - 1) + others
    else:
        for i in range(n):
            others, ones = sums(x, (first + i) * k, k, tops[i])
            rests[i] = x.dtype.type(ones - 1) + others


_rests = compiled(_rests_of)


def _softmax(x: Any, k: int, y: Any) -> None:
    tops, rests = np.empty(ROWS, x.dtype), np.zeros(ROWS, x.dtype)
    one = x.dtype.type(1)
    rows, step = x.size // k, _block(k)
    for first in range(0, rows, step):
        n = min(step, rows - first)
        _peaks(x, k, first, n, tops)
        _rests(x, k, first, n, tops, rests, y)
        for i in range(n):
            scale(y, (first + i) * k, k, one / (one + rests[i]))


softmax = compiled(_softmax)


def _log_softmax(x: Any, k: int, y: Any) -> None:
    tops, logs = np.empty(ROWS, x.dtype), np.zeros(ROWS, x.dtype)
    nothing = tops[:0]
    rows, step = x.size // k, _block(k)
    for first in range(0, rows, step):
        n = min(step, rows - first)
        _peaks(x, k, first, n, tops)
        _rests(x, k, first, n, tops, logs, nothing)
        log1p(logs)
        for i in range(n):
            apart(x, (first + i) * k, k, tops[i], logs[i], y)


log_softmax = compiled(_log_softmax)


def _endless(x: Any, start: int, k: int, m: Any) -> Any:
    """A maximum that is infinite, or NaN where the row holds one."""
    for j in range(k):
        if np.isnan(x[start + j]):
            return x[start + j]
    return m


_infinite = compiled(_endless)


def _logsumexp(x: Any, k: int, out: Any) -> None:
    tops, logs = np.empty(ROWS, x.dtype), np.zeros(ROWS, x.dtype)
    nothing = tops[:0]
    step = _block(k)
    for first in range(0, out.size, step):
        n = min(step, out.size - first)
        _peaks(x, k, first, n, tops)
        _rests(x, k, first, n, tops, logs, nothing)
        log1p(logs)
        for i in range(n):
            m = tops[i]
            out[first + i] = _infinite(x, (first + i) * k, k, m) if np.isinf(m) else m + logs[i]


logsumexp = compiled(_logsumexp)


def _loss(x: Any, k: int, labels: Any, weights: Any, skipped: Any, factor: float, losses: Any, grad: Any) -> float:
    """The sum of the losses; each into ``losses``, its gradient times ``factor`` into ``grad``, unless these are empty.

    ``weights`` may be empty; ``skipped`` holds the label to ignore or nothing.
    """
    zero, one = x.dtype.type(0), x.dtype.type(1)
    tops, rests, logs = np.empty(ROWS, x.dtype), np.zeros(ROWS, x.dtype), np.empty(ROWS, x.dtype)
    total = 0.0
    step = _block(k)
    for first in range(0, labels.size, step):
        n = min(step, labels.size - first)
        _peaks(x, k, first, n, tops)
        _rests(x, k, first, n, tops, rests, grad)
        copy(rests, 0, ROWS, logs, 0)
        log1p(logs)
        for i in range(n):
            label, start = labels[first + i], (first + i) * k
            weight = weights[first + i] if weights.size else one
            value = zero
            if weight == zero or (skipped.size and label == skipped[0]):
                if grad.size:
                    grad[start : start + k] = zero
            elif label < 0 or label >= k:
                value = x.dtype.type(np.nan)
                if grad.size:
                    grad[start : start + k] = value
            else:
                # at the maximum the loss is log(1 + rest): nothing is taken from anything of its size
                own = x[start + label]
                top = own == tops[i]
                value = (logs[i] if top else (tops[i] - own) + logs[i]) * weight
                if grad.size:
                    share = factor * weight / (one + rests[i])
                    others = rests[i] if top else (one + rests[i]) - grad[start + label]
                    scale(grad, start, k, share)
                    grad[start + label] = -others * share
            if losses.size:
                losses[first + i] = value
            total += value
    return total


loss = compiled(_loss)


def _softmax_vjp(p: Any, k: int, c: Any, out: Any) -> None:
    for start in range(0, p.size, k):
        less = p.dtype.type(0)
        if peak(p, start, k) > 0.5:
            # the cotangent less its value at the largest: the sum of the others, and no more, is what that one gets
            less = c[start + np.argmax(p[start : start + k])]
        write_softmax_vjp(p, start, k, c, less, dot(p, start, k, c, less), out)


softmax_vjp = compiled(_softmax_vjp)


def _log_softmax_vjp(p: Any, k: int, c: Any, out: Any) -> None:
    for start in range(0, p.size, k):
        most = peak(p, start, k)
        if most > -NEAR:
            own, others = c[start + np.argmax(p[start : start + k])], sum_but(p, start, k, c, most)
            write_log_softmax_vjp(p, start, k, c, most, others, others + own, out)
        else:
            write_unsure_vjp(p, start, k, c, sum_of(c, start, k), out)


log_softmax_vjp = compiled(_log_softmax_vjp)


def run(function: int, x: Any, k: int, y: Any) -> None:
    """Rows of ``x`` into ``y``, by the function of a number that is a constant where this is called."""
    raise NotImplementedError("for compiled functions alone")


@overload(run, prefer_literal=True, strict=False)  # type: ignore[untyped-decorator]
def _run(function: Any, x: Any, k: Any, y: Any) -> Any:
    if not isinstance(function, types.IntegerLiteral):
        return None
    loop = {SOFTMAX: softmax, LOG_SOFTMAX: log_softmax, LOGSUMEXP: logsumexp}[function.literal_value]
    return lambda function, x, k, y: loop(x, k, y)


def vjp(function: int, a: Any, k: int, c: Any, out: Any) -> None:
    """The vector-Jacobian product of (log-)probabilities ``a`` and cotangents ``c``, likewise."""
    raise NotImplementedError("for compiled functions alone")


@overload(vjp, prefer_literal=True, strict=False)  # type: ignore[untyped-decorator]
def _vjp(function: Any, a: Any, k: Any, c: Any, out: Any) -> Any:
    if not isinstance(function, types.IntegerLiteral):
        return None
    loop = {SOFTMAX: softmax_vjp, LOG_SOFTMAX: log_softmax_vjp}[function.literal_value]
    return lambda function, a, k, c, out: loop(a, k, c, out)
