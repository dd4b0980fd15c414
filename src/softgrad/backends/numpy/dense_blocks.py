"""Softmax, its logarithm and log-sum-exp of a block, for NumPy's dense and loss kernels.

A result depends on its sample alone: what is done to it is chosen by the number of classes and by its own numbers,
never by those of the other samples of a block. Few classes stand class first, with a shift. Rows of more are shifted
where their maximum is out of a range in which no exponential loses anything; mostly a block's sums tell that none is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .blocks import Floats, Memory, all_finite, column_rests, column_sums

#: Classes up to which samples are worked on class first.
FEW = 16
#: Above this a log-probability is computed again from the other classes; no two of a row are.
NEAR = -0.69
#: Classes from which the largest of each row is looked for, rather than any of the block that is near 0.
ARGMAX = 256
#: Classes up to which NumPy finds the maxima sooner of a copy class first.
TURNED = 256

_exp, _log, _divide, _subtract, _multiply = np.exp, np.log, np.divide, np.subtract, np.multiply
_max: Callable[..., Any] = np.maximum.reduce
_min: Callable[..., Any] = np.minimum.reduce


class Range(NamedTuple):
    """Maxima of rows that need no shift."""

    least: float
    most: float


#: For exponentials, of which the smallest are to keep their digits; for a logarithm of their sum, near the result.
SAFE = {"f": Range(-1.0, 30.0), "d": Range(-1.0, 300.0)}
NEAR_0 = Range(-16.0, 16.0)


def working(dtype: np.dtype[Any], precision: str | None) -> np.dtype[Any]:
    """Return the dtype to compute in."""
    if dtype.char == "e" or (dtype.char == "f" and precision == "high"):
        return np.dtype(np.float64 if precision == "high" else np.float32)
    return dtype


def are_in(limits: Range, s: Floats, k: int) -> bool:
    """Whether sums of ``k`` exponentials tell that all maxima are in a range."""
    return bool(_max(s) < 0.99 * math.exp(limits.most) and _min(s) > 1.01 * k * math.exp(limits.least))


def row_max(x: Floats, memory: Memory) -> Floats:
    """The maximum of each row."""
    n, k = x.shape
    if k > TURNED or n < 8:
        return np.asarray(_max(x, 1))
    z = memory(7, (k, n))
    np.copyto(z, x.T)
    return np.asarray(_max(z, 0))


def shifts(limits: Range, x: Floats, memory: Memory) -> Floats | None:
    """What is taken from each row: 0 if its maximum is in a range, else that; None where it is 0 for all."""
    m = row_max(x, memory)
    c = np.where((m >= limits.least) & (m <= limits.most), 0, m).astype(m.dtype, copy=False)
    return c if c.any() else None


def exponentials(limits: Range, x: Floats, e: Floats, s: Floats, memory: Memory) -> Floats | None:
    """Write exp(x - c) of rows to ``e`` and its sums to ``s``; returns c, None where it is 0."""
    if memory.free:
        memory.row_sums(_exp(x, out=e), s)
        if are_in(limits, s, x.shape[1]):
            return None
        memory.free = False
    c = shifts(limits, x, memory)
    if c is not None:
        _subtract(x, c[:, None], out=e)
        x = e
    memory.row_sums(_exp(x, out=e), s)
    return c


def shifted_rows(x: Floats, d: Floats, memory: Memory) -> tuple[Floats, Floats]:
    """Write x - maximum to ``d``; return (maximum, its index in flat ``d``)."""
    top = x.argmax(1)
    top += memory.starts(*x.shape)
    m = x.reshape(-1).take(top) if x.flags.c_contiguous else x[np.arange(len(x)), top - memory.starts(*x.shape)]
    _subtract(x, m[:, None], out=d)
    return m, top


def rows_of(src: Floats, memory: Memory) -> Floats:
    """A block (outer, class, inner) as contiguous rows, a copy unless it is that."""
    o, k, i = src.shape
    if i == 1 and src.dtype == memory.dtype and src.flags.c_contiguous:
        return src[:, :, 0]
    x = memory(4, (o * i, k))
    np.copyto(x.reshape(o, i, k), src.transpose(0, 2, 1))
    return x


def rows_into(dst: Floats, memory: Memory) -> tuple[Floats, bool]:
    """Where rows of a block are written, and whether that is ``dst`` itself."""
    o, k, i = dst.shape
    if i == 1 and dst.dtype == memory.dtype and dst.flags.c_contiguous:
        return dst[:, :, 0], True
    return memory(5, (o * i, k)), False


def shifted_columns(src: Floats, memory: Memory) -> tuple[Floats, Floats]:
    """(maximum, x - maximum) of a block, class first in scratch array 0."""
    o, k, i = src.shape
    z = memory(0, (k, o * i))
    np.copyto(z.reshape(k, o, i), src.transpose(1, 0, 2))
    m = _max(z, 0, None, memory(1, (o * i,)))
    _subtract(z, m, out=z)
    return m, z


def softmax(x: Floats, y: Floats, memory: Memory) -> None:
    """Write exponentials over their sum to ``y``, of rows."""
    s = memory(2, (len(x),))
    exponentials(SAFE[memory.dtype.char], x, y, s, memory)
    _divide(1.0, s, out=s)
    _multiply(y, s[:, None], out=y)


def log_softmax(x: Floats, y: Floats, memory: Memory) -> None:
    """Write the logarithm of the softmax to ``y``, of rows."""
    e, s = memory(0, x.shape), memory(2, (len(x),))
    c = exponentials(NEAR_0, x, e, s, memory)
    if c is not None:
        x = _subtract(x, c[:, None], out=y)
    _subtract(x, _log(s)[:, None], out=y)
    # those near 0 again, from the other classes' exponentials
    k, flat, terms = y.shape[1], y.reshape(-1), e.reshape(-1)
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
    # not negated: what is sure has the logarithm 0, not -0
    flat[near] = 0.0 - np.log1p(rest / own)


def logsumexp(x: Floats, memory: Memory) -> Floats:
    """Log-sum-exps of rows."""
    e, s = memory(0, x.shape), memory(2, (len(x),))
    c = exponentials(SAFE[memory.dtype.char], x, e, s, memory)
    r = _log(s)
    if c is not None:
        r += c
        _finite(r, c)
    weak = np.flatnonzero((s < math.e) & (s > 1 / math.e) & (r > -1) & (r < 1))
    if weak.size:
        # near 0 the logarithm of the sum of the others beside the largest
        some = x.take(weak, axis=0)
        m, top = shifted_rows(some, some, memory)
        _exp(some, out=some)
        some.reshape(-1)[top] = 0.0
        r[weak] = m + np.log1p(memory.row_sums(some, np.empty_like(m)))
    return r


def softmax_columns(m: Floats, z: Floats, memory: Memory) -> Floats:
    """Exponentials over their sum in ``z``, class first."""
    s = column_sums(_exp(z, out=z), memory(2, m.shape))
    _divide(1.0, s, out=s)
    return _multiply(z, s, out=z)


def log_softmax_columns(m: Floats, z: Floats, memory: Memory) -> Floats:
    """The logarithm of the softmax in ``z``, class first."""
    s = _log_of_columns(_exp(z, out=memory(3, z.shape)), memory)
    return _subtract(z, s, out=z)


def logsumexp_columns(m: Floats, z: Floats, memory: Memory) -> Floats:
    """Log-sum-exps, class first."""
    return _finite(_log_of_columns(_exp(z, out=z), memory) + m, m)


def _log_of_columns(e: Floats, memory: Memory) -> Floats:
    """The logarithm of the sum of shifted exponentials; ``e`` is lost."""
    s = memory(2, e.shape[1:])
    return np.log1p(column_rests(e, memory(6, e.shape), s), out=s)


def _finite(r: Floats, m: Floats) -> Floats:
    """``r``, or a row's maximum where that is not finite."""
    if not all_finite(m):
        finite = np.isfinite(m)
        r[~finite] = m[~finite]
    return r
