"""Softmax, its logarithm and log-sum-exp of a block, for NumPy's dense and loss kernels.

A block is first tried without a shift: where the sums of exp(x) stay in a safe range nothing is rounded before the
exponential, and no maximum is needed. The first block that fails sends the rest of its piece of the call the usual way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import pairs
from .blocks import LIMITS, Floats, Memory, column_rests, column_sums

#: Classes from which a row is worked on as a row, with a shift; below, class first.
ROWS = {"f": 48, "d": 32}
#: The same without a shift, for what the row becomes.
SOFTMAX_ROWS, LOG_SOFTMAX_ROWS, LOGSUMEXP_ROWS = 8, 16, 8
#: Classes from which sums of a class-first block are tried without a shift.
COLUMNS_FREE = 8
#: Share of dominated samples up to which log-probabilities of a class-first block are mended sample by sample, and
#: classes from which they are mended where there are more.
CALM, MENDED = 1 / 16, 64
#: Bound on the sums (either way) where log-probabilities are x - log(sum) with x as it is.
LOG_BOUND = math.exp(16.0)
#: Above this a log-probability is computed again from the other classes; no two of a row are.
NEAR = -0.69
#: Classes from which the largest of each row is looked for, rather than any of the block that is near 0.
ARGMAX = 256
#: Share of a block's sums so near 1 that their logarithm is computed again, above which none is tried without a shift.
WEAK = 0.25
#: Classes up to which the sum without the largest is formed for all samples at once.
APART = 64
#: Below this, log1p of the others is more exact than log of the sum.
DOMINATED = 1.5

_exp, _log, _divide, _subtract, _multiply = np.exp, np.log, np.divide, np.subtract, np.multiply
_max: Callable[..., Any] = np.maximum.reduce


def working(dtype: np.dtype[Any], precision: str | None) -> np.dtype[Any]:
    """Return the dtype to compute in."""
    if dtype.char == "e" or (dtype.char == "f" and precision == "high"):
        return np.dtype(np.float64 if precision == "high" else np.float32)
    return dtype


def as_rows(src: Floats, memory: Memory, free: int) -> tuple[bool, bool]:
    """Whether a block (outer, class, inner) is worked on as rows: without a shift, with one."""
    if src.shape[2] != 1:
        return False, False
    k = src.shape[1]
    return memory.free and k >= free, k >= ROWS[memory.dtype.char]


def shifted_rows(x: Floats, d: Floats, memory: Memory) -> tuple[Floats, Floats]:
    """Write x - maximum to ``d``; return (maximum, where it stands in flat ``d``)."""
    top = x.argmax(1)
    top += memory.starts(*x.shape)
    m = x.reshape(-1).take(top) if x.flags.c_contiguous else x[np.arange(len(x)), top - memory.starts(*x.shape)]
    _subtract(x, m[:, None], out=d)
    return m, top


def columns_of(src: Floats) -> tuple[Floats, bool]:
    """A block class first, and whether reading it that way is cheap."""
    z = src.transpose(1, 0, 2)
    return z, src.shape[2] > 8 and src.strides[2] == src.itemsize


def shifted_columns(src: Floats, memory: Memory) -> tuple[Floats, Floats]:
    """(maximum, x - maximum) of a block, class first in scratch array 0."""
    x, cheap = columns_of(src)
    k, n = x.shape[0], x.shape[1] * x.shape[2]
    z = memory(0, x.shape)
    m = memory(1, x.shape[1:])
    if cheap:
        _max(x, 0, None, m)
        _subtract(x, m, out=z)
    else:
        np.copyto(z, x)
        _max(z, 0, None, m)
        _subtract(z, m, out=z)
    return m.reshape(n), z.reshape(k, n)


def softmax(src: Floats, dst: Floats, memory: Memory) -> None:
    """Write exponentials over their sum to ``dst``."""
    limits = LIMITS[memory.dtype.char]
    free, rows = as_rows(src, memory, SOFTMAX_ROWS)
    if free or rows:
        x, e = src[:, :, 0], dst[:, :, 0]
        s = memory(1, (len(x),))
        if free:
            _exp(x, out=e)
            memory.row_sums(e, s)
            low = s.min()
            if s.max() < limits.most and (low >= 1.0 or (low > 0.0 and x.min() >= -limits.x)):
                _divide(1.0, s, out=s)
                _multiply(e, s[:, None], out=e)
                return
            memory.free = False
        if rows:
            shifted_rows(x, e, memory)
            _exp(e, out=e)
            _divide(1.0, memory.row_sums(e, s), out=s)
            _multiply(e, s[:, None], out=e)
            return
    x, cheap = columns_of(src)
    k, n = x.shape[0], x.shape[1] * x.shape[2]
    if k == 2 and pairs.softmax(src, dst, memory):
        return
    s = memory(2, (n,))
    if cheap and memory.free:
        z = memory(0, x.shape)
        _exp(x, out=z)
        column_sums(z.reshape(k, n), s)
        low = s.min()
        if s.max() < limits.most and (low >= 1.0 or (low > 0.0 and x.min() >= -limits.x)):
            _divide(1.0, s, out=s)
            _multiply(z, s.reshape(x.shape[1:]), out=dst.transpose(1, 0, 2))
            return
        memory.free = False
    _, z = shifted_columns(src, memory)
    _exp(z, out=z)
    _divide(1.0, column_sums(z, s), out=s)
    _multiply(z.reshape(x.shape), s.reshape(x.shape[1:]), out=dst.transpose(1, 0, 2))


def log_softmax(src: Floats, dst: Floats, memory: Memory) -> None:
    """Write the logarithm of the softmax to ``dst``."""
    free, rows = as_rows(src, memory, LOG_SOFTMAX_ROWS)
    if free or rows:
        x, y = src[:, :, 0], dst[:, :, 0]
        s = memory(1, (len(x),))
        if free:
            e = _exp(x, out=memory(0, x.shape))
            memory.row_sums(e, s)
            if s.max() < LOG_BOUND and s.min() > 1 / LOG_BOUND:
                _subtract(x, _log(s)[:, None], out=y)
                _mend(y, e, s, memory)
                return
            memory.free = False
        if rows:
            m, top = shifted_rows(x, y, memory)
            e = _exp(y, out=memory(0, x.shape))
            e.reshape(-1)[top] = 0.0
            np.log1p(memory.row_sums(e, s), out=s)
            _blank(s, m)
            _subtract(y, s[:, None], out=y)
            return
    x, cheap = columns_of(src)
    if cheap and memory.free and x.shape[1] == 1:
        if _calm_columns(x[:, 0], dst[0], memory):
            return
        memory.free = False
    m, z = shifted_columns(src, memory)
    k, n = z.shape
    s, e = memory(2, (n,)), memory(3, (k, n))
    _exp(z, out=e)
    _log_of_columns(e, s, memory)
    _blank(s, m)
    shape = (k, src.shape[0], src.shape[2])
    _subtract(z.reshape(shape), s.reshape(shape[1:]), out=dst.transpose(1, 0, 2))


def _mend(y: Floats, e: Floats, s: Floats, memory: Memory) -> None:
    """Compute the log-probabilities near 0 again, from the other classes' exponentials; ``e`` and ``s`` are lost."""
    k = y.shape[1]
    flat, terms = y.reshape(-1), e.reshape(-1)
    if k >= ARGMAX:
        near = y.argmax(1)
        near += memory.starts(*y.shape)
    else:
        near = np.flatnonzero(flat > NEAR)
    own = terms.take(near)
    terms[near] = 0.0
    rest = memory.row_sums(e, s)
    if len(near) < len(rest):
        rest = rest.take(near // k)
    rest /= own
    flat[near] = -np.log1p(rest)


def _calm_columns(x: Floats, y: Floats, memory: Memory) -> bool:
    """Write log-probabilities class first without a shift; False where sums are extreme or many rows dominated."""
    k, n = x.shape
    e, most, s = memory(0, (k, n)), memory(1, (n,)), memory(2, (n,))
    _exp(x, out=e)
    _max(e, 0, None, most)
    column_sums(e, s)
    if not (s.max() < LOG_BOUND and s.min() > 1 / LOG_BOUND):
        return False
    few = np.flatnonzero(most > 0.5 * s)
    calm = few.size <= CALM * n
    if not calm and k < MENDED:
        return False
    _subtract(x, _log(s, out=s), out=y)
    if not calm:
        near = np.flatnonzero(y > NEAR)
        terms, row, column = e.reshape(-1), near // n, near % n
        own = terms.take(near)
        terms[near] = 0.0
        y[row, column] = -np.log1p(column_sums(e, s).take(column) / own)
    elif few.size:
        some, column = e.take(few, axis=1), np.arange(few.size)
        top = some.argmax(0)
        own = some[top, column]
        some[top, column] = 0.0
        y[top, few] = -np.log1p(column_sums(some, np.empty_like(own)) / own)
    return True


def _log_of_columns(e: Floats, s: Floats, memory: Memory) -> None:
    """Write the logarithm of the sum of shifted exponentials to ``s``; ``e`` is lost."""
    k, n = e.shape
    if k > APART:
        few = np.flatnonzero(~(column_sums(e, s) >= DOMINATED))
        if few.size < n // 2:
            _log(s, out=s)
            if few.size:
                some = e.take(few, axis=1)
                s[few] = np.log1p(column_rests(some, np.empty_like(some), np.empty(few.size, e.dtype)))
            return
    np.log1p(column_rests(e, memory(6, (k, n)), s), out=s)


def _blank(s: Floats, m: Floats) -> None:
    """NaN where a row's maximum is not finite."""
    finite = np.isfinite(m)
    if not finite.all():
        s[~finite] = np.nan


def logsumexp(src: Floats, memory: Memory) -> tuple[Floats, Floats | None]:
    """Log-sum-exps of a block, and the samples that have yet to be computed with a shift."""
    free, rows = as_rows(src, memory, LOGSUMEXP_ROWS)
    x, cheap = columns_of(src)
    k, n = x.shape[0], x.shape[1] * x.shape[2]
    if free or (cheap and memory.free and k >= COLUMNS_FREE and len(src) == 1):
        limits = LIMITS[memory.dtype.char]
        s = memory(2, (n,))
        if free:
            memory.row_sums(_exp(src[:, :, 0], out=memory(0, (n, k))), s)
        else:
            column_sums(_exp(x[:, 0], out=memory(0, (k, n))), s)
        low, high = s.min(), s.max()
        if high < limits.most and low > limits.least:
            weak = None
            if low < math.e and high > 1 / math.e:
                weak = np.flatnonzero((s < math.e) & (s > 1 / math.e))
            if weak is None or weak.size <= WEAK * n:
                return _log(s, out=s), weak
        memory.free = False
    if rows:
        return logsumexp_of_rows(src[:, :, 0], memory), None
    return _logsumexp_of_columns(src, memory), None


def logsumexp_of_rows(x: Floats, memory: Memory) -> Floats:
    """Log-sum-exps of rows, with a shift."""
    if x.shape[1] < ROWS[memory.dtype.char]:
        return _logsumexp_of_columns(x[:, :, None], memory)
    e = memory(0, x.shape)
    m, top = shifted_rows(x, e, memory)
    _exp(e, out=e)
    e.reshape(-1)[top] = 0.0
    rest = memory.row_sums(e, memory(2, (len(x),)))
    return _infinite(m + np.log1p(rest), m)


def _logsumexp_of_columns(src: Floats, memory: Memory) -> Floats:
    m, z = shifted_columns(src, memory)
    s = memory(2, m.shape)
    _log_of_columns(_exp(z, out=z), s, memory)
    return _infinite(s + m, m)


def _infinite(r: Floats, m: Floats) -> Floats:
    """``r``, or a row's maximum where that is not finite."""
    finite = np.isfinite(m)
    if not finite.all():
        r[~finite] = m[~finite]
    return r
