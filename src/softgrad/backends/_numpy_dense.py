"""Softmax, its logarithm and log-sum-exp of NumPy arrays, in blocks.

A block is first tried without a shift: where the sums of exp(x) stay in a safe range nothing is rounded before the
exponential, and no maximum is needed. The first block that fails sends the rest of its piece of the call the usual way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import _kernels
from . import _numpy_pairs
from . import _numpy_small as small
from ._numpy_blocks import (
    LIMITS,
    Block,
    Floats,
    Memory,
    column_rests,
    column_sums,
    over_blocks,
    view,
)

#: Classes from which a row is worked on as a row, with a shift; below, class first.
ROWS = {"f": 48, "d": 32}
#: The same without a shift, for what the row becomes.
SOFTMAX_ROWS, LOG_SOFTMAX_ROWS, LOGSUMEXP_ROWS = 8, 16, 8
#: Classes from which a class-first block is tried without a shift: for sums, for log-probabilities.
COLUMNS_FREE, LOG_COLUMNS_FREE = 8, 64
#: Elements of an array that is worked on whole, without a block's bookkeeping.
SMALL = 4096
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
_FLOATS = "fd"


def working(dtype: np.dtype[Any], precision: str | None) -> np.dtype[Any]:
    """Return the dtype to compute in."""
    if dtype.char == "e" or (dtype.char == "f" and precision == "high"):
        return np.dtype(np.float64 if precision == "high" else np.float32)
    return dtype


def softmax(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Exponentials over their sum."""
    if x.size <= SMALL and precision is None and x.dtype.char in _FLOATS and axis == x.ndim - 1:
        return small.softmax(x)
    return _whole(x, axis, precision, _softmax)


def log_softmax(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Logarithm of the softmax."""
    if x.size <= SMALL and precision is None and x.dtype.char in _FLOATS and axis == x.ndim - 1 and x.size:
        return small.log_softmax(x)
    return _whole(x, axis, precision, _log_softmax)


def logsumexp(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Logarithm of the sum of exponentials."""
    if x.size <= SMALL and precision is None and x.dtype.char in _FLOATS and axis == x.ndim - 1 and x.size:
        return small.logsumexp(x)
    if precision == "high" and x.dtype.char == "d":
        return _by_generic(_kernels.logsumexp, xp, x, axis, precision)
    seen = view(x, axis)
    work = working(x.dtype, precision)
    out, out3 = seen.empty_samples(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)
    if not x.size:
        return out
    inner = out3.shape[1]

    def make(memory: Memory) -> Callable[[Block], Floats | None]:
        def block(at: Block) -> Floats | None:
            o0, o1, i0, i1 = at
            values, weak = _logsumexp(_cast(seen.x[o0:o1, :, i0:i1], memory, 4), memory)
            out3[o0:o1, i0:i1] = values.reshape(o1 - o0, i1 - i0)
            return None if weak is None else weak + (o0 * inner + i0)

        return block

    weak = [a for a in over_blocks(seen.x.shape, work, make) if a is not None]
    if weak:
        _again(seen.x, out3, np.concatenate(weak), work)
    return out


def _again(x3: Floats, out3: Floats, weak: Floats, work: np.dtype[Any]) -> None:
    """Compute weak samples (by their flat number) with a shift."""

    def make(memory: Memory) -> Callable[[Block], None]:
        def block(at: Block) -> None:
            outer, inner = divmod(weak[at[0] : at[1]], out3.shape[1])
            rows = x3[outer, :, inner] if out3.shape[1] > 1 else x3[:, :, 0].take(outer, axis=0)
            out3[outer, inner] = _logsumexp_of_rows(rows.astype(work, copy=False), memory)

        return block

    over_blocks((len(weak), x3.shape[1], 1), work, make)


def _whole(x: Floats, axis: int, precision: str | None, work_on: Callable[[Floats, Floats, Memory], None]) -> Floats:
    """An array of ``x``'s shape, block by block."""
    if precision == "high" and x.dtype.char == "d":
        generic = _kernels.softmax if work_on is _softmax else _kernels.log_softmax
        return _by_generic(generic, np, x, axis, precision)
    seen = view(x, axis)
    work = working(x.dtype, precision)
    out, out3 = seen.empty(x.shape, x.dtype)

    def make(memory: Memory) -> Callable[[Block], None]:
        def block(at: Block) -> None:
            o0, o1, i0, i1 = at
            src = _cast(seen.x[o0:o1, :, i0:i1], memory, 4)
            dst = out3[o0:o1, :, i0:i1]
            if work == x.dtype:
                work_on(src, dst, memory)
            else:
                wide = memory(5, src.shape)
                work_on(src, wide, memory)
                np.copyto(dst, wide, casting="same_kind")

        return block

    if x.size:
        over_blocks(seen.x.shape, work, make)
    return out


def _by_generic(kernel: Callable[..., Floats], xp: Any, x: Floats, axis: int, precision: str | None) -> Floats:
    """The generic kernel, block by block."""
    seen = view(x, axis)
    whole = kernel is not _kernels.logsumexp
    if whole:
        out, out3 = seen.empty(x.shape, x.dtype)
    else:
        out, out3 = seen.empty_samples(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)

    def block(at: Block) -> None:
        o0, o1, i0, i1 = at
        part = kernel(xp, seen.x[o0:o1, :, i0:i1], 1, None, precision)
        if whole:
            out3[o0:o1, :, i0:i1] = part
        else:
            out3[o0:o1, i0:i1] = part

    if x.size:
        over_blocks(seen.x.shape, x.dtype, lambda memory: block)
    return out


def _cast(src: Floats, memory: Memory, number: int) -> Floats:
    """``src`` in the memory's dtype."""
    if src.dtype == memory.dtype:
        return src
    wide = memory(number, src.shape)
    np.copyto(wide, src)
    return wide


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


def _softmax(src: Floats, dst: Floats, memory: Memory) -> None:
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
    if k == 2 and _numpy_pairs.softmax(src, dst, memory):
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


def _log_softmax(src: Floats, dst: Floats, memory: Memory) -> None:
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
    if cheap and memory.free and len(x) >= LOG_COLUMNS_FREE and x.shape[1] == 1:
        e, s = memory(0, (len(x), x.shape[2])), memory(2, x.shape[2:])
        column_sums(_exp(x[:, 0], out=e), s)
        if s.max() < LOG_BOUND and s.min() > 1 / LOG_BOUND:
            y = dst[0]
            _subtract(x[:, 0], _log(s), out=y)
            _mend_columns(y, e, s)
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


def _mend_columns(y: Floats, e: Floats, s: Floats) -> None:
    """The same, class first."""
    near = np.flatnonzero(y > NEAR)
    if not near.size:
        return
    terms, column = e.reshape(-1), near % y.shape[1]
    own = terms.take(near)
    terms[near] = 0.0
    rest = column_sums(e, s).take(column)
    rest /= own
    y[near // y.shape[1], column] = -np.log1p(rest)


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


def _logsumexp(src: Floats, memory: Memory) -> tuple[Floats, Floats | None]:
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
        return _logsumexp_of_rows(src[:, :, 0], memory), None
    return _logsumexp_of_columns(src, memory), None


def _logsumexp_of_rows(x: Floats, memory: Memory) -> Floats:
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
