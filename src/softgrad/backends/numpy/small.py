"""Softmax, its logarithm, log-sum-exp and losses of small NumPy arrays, along the last axis: as few calls as can be.

``np.errstate`` is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from .blocks import LIMITS, Floats

#: Elements of an array that is worked on whole: BLAS keeps products of these to the calling thread.
SMALL = 1 << 13
#: Numbers of which Python finds the largest sooner than NumPy does.
FEW = 32

_exp, _divide, _subtract = np.exp, np.divide, np.subtract
#: Given their arguments by position, which halves the cost of a call.
_Reduce: TypeAlias = Callable[..., Any]
_sum: _Reduce = np.add.reduce
_max: _Reduce = np.maximum.reduce
_min: _Reduce = np.minimum.reduce
_TINY = {"f": float(np.finfo(np.float32).tiny), "d": float(np.finfo(np.float64).tiny)}


@lru_cache(64)
def _ones(k: int, char: str) -> Floats:
    return np.ones(k, char)


def softmax(x: Floats) -> Floats:
    """Exponentials over their sum."""
    e = _exp(x)
    char = x.dtype.char
    most = LIMITS[char].most
    if x.ndim == 1:
        s = _sum(e)
        if s < most and (s >= 1.0 or (s > 0.0 and _min(e) >= _TINY[char])):
            return _divide(e, s, e)
    elif x.ndim == 2:
        sums = e.dot(_ones(x.shape[1], char))
        if len(sums) <= FEW:
            few = sums.tolist()
            high, low = max(few), min(few)  # a NaN that they pass over makes its own row NaN, as it should
        else:
            high, low = _max(sums), _min(sums)
        if high < most and (low >= 1.0 or (low > 0.0 and _min(e, None) >= _TINY[char])):
            return _divide(e, sums[:, None], e)
    _subtract(x, _max(x, -1, None, None, True), e)
    _exp(e, e)
    return _divide(e, _sum(e, -1, None, None, True), e)


def _parts(x: Floats) -> tuple[Floats, Floats, Floats]:
    """(maximum, x - maximum, the others' sum) along the last axis, kept."""
    if x.ndim == 1:
        i = int(x.argmax())
        m = x[i : i + 1]
        d = x - m
        e = _exp(d)
        e[i] = 0.0
        return m, d, _sum(e, -1, None, None, True)
    k = x.shape[-1]
    rows = x.reshape(-1, k)
    top = rows.argmax(1)
    top += np.arange(0, rows.size, k)
    m = rows.reshape(-1)[top].reshape(*x.shape[:-1], 1)
    d = x - m
    e = np.ascontiguousarray(_exp(d))
    e.reshape(-1)[top] = 0.0
    return m, d, _sum(e, -1, None, None, True)


def logsumexp(x: Floats) -> Floats:
    """Logarithm of the sum of exponentials."""
    char = x.dtype.char
    limits = LIMITS[char]
    s = _exp(x).dot(_ones(x.shape[1], char)) if x.ndim == 2 else _sum(_exp(x), -1)
    if x.ndim == 1:
        if limits.least < s < limits.most and not 1 / math.e < s < math.e:
            return np.asarray(np.log(s))
    else:
        low, high = _min(s, None), _max(s, None)
        if limits.least < low and high < limits.most and (low >= math.e or high <= 1 / math.e):
            return np.log(s, s)
    m, _, rest = _parts(x)
    r = m + np.log1p(rest)
    if not math.isfinite(_sum(m, None)):
        bad = ~np.isfinite(m)
        r[bad] = m[bad]
    return r[..., 0]


def log_softmax(x: Floats) -> Floats:
    """Logarithm of the softmax."""
    m, d, rest = _parts(x)
    if not math.isfinite(_sum(m, None)):
        rest[~np.isfinite(m)] = np.nan
    return _subtract(d, np.log1p(rest), d)


def cross_entropy(x: Floats, labels: Floats, reduction: str, value: bool, grad: bool) -> tuple[Any, Any] | None:
    """(loss, gradient) with class indices, each None where not asked for; None where a shift or a check is needed."""
    k, n = x.shape[-1], labels.size
    char = x.dtype.char
    limits = LIMITS[char]
    if n <= FEW:
        some = labels.reshape(-1).tolist()
        if min(some) < 0 or max(some) >= k:
            return None
    elif _min(labels, None) < 0 or _max(labels, None) >= k:
        return None
    at = labels.reshape(-1) + _starts(n, k)
    e = _exp(x).reshape(n, k)
    own = e.take(at)
    # without the label's own term, so that nothing cancels where the loss is small
    e.put(at, 0.0)
    others = e.dot(_ones(k, char))
    if n <= FEW:
        both = own.tolist() + others.tolist()
        low, high = min(both), max(both)
    else:
        low, high = min(_min(own), _min(others)), max(_max(own), _max(others))
    if not (limits.least < low and high < limits.most):
        return None
    loss = slopes = None
    if value:
        each = np.log1p(others / own)
        if reduction == "none":
            loss = each.reshape(labels.shape)
        else:
            total = _sum(each, None, np.float64)
            loss = np.asarray(total / n if reduction == "mean" else total).astype(x.dtype)
    if grad:
        share = (1.0 / n if reduction == "mean" else 1.0) / (others + own)
        slopes = np.multiply(e, share[:, None], e)
        others *= share
        slopes.put(at, np.negative(others, others))
        slopes = slopes.reshape(x.shape)
    return loss, slopes


@lru_cache(64)
def _starts(n: int, k: int) -> Floats:
    """Where rows begin in flat memory."""
    return np.arange(0, n * k, k)
