"""Derivatives of the softmax and of its logarithm on NumPy arrays: differences from the class with most of the sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._kernels import dense as dense_kernels
from .blocks import Floats, row_dots
from .dense_blocks import working


def _by_rows(function: Callable[[Floats, Floats], Floats], a: Floats, t: Floats, axis: int) -> Floats:
    """``function`` of the two in the dtype to compute in, as rows; the result as ``a`` is."""
    dtype, last = a.dtype, a.ndim - 1
    if axis != last:
        a, t = a.swapaxes(axis, last), t.swapaxes(axis, last)
    shape = a.shape
    if a.ndim != 2:
        rows = math.prod(shape[:last])
        a, t = a.reshape(rows, shape[last]), t.reshape(rows, shape[last])
    # NumPy's functions of numbers that are apart in memory may differ in the last bit
    out = function(*(np.ascontiguousarray(each, working(each.dtype, None)) for each in (a, t)))
    out = out.astype(dtype, copy=False).reshape(shape)
    return out if axis == last else out.swapaxes(axis, last)


def _dot(a: Floats, b: Floats) -> Floats:
    return row_dots(a, b)[:, None]


def _sure(p: Floats) -> tuple[Floats, Floats]:
    """Flat indices of the sure probabilities, one a row at most, and their rows."""
    at = (p > dense_kernels.SURE).ravel().nonzero()[0]
    return at, at // p.shape[1]


def _centred(p: Floats, t: Floats) -> Floats:
    """``t - sum(p t)``."""
    at, rows = _sure(p)
    if at.size:
        own = np.zeros((len(p), 1), t.dtype)
        own[rows, 0] = t.ravel()[at]
        t = t - own
        return np.subtract(t, _dot(p, t), t)
    return t - _dot(p, t)


def _softmax(p: Floats, c: Floats) -> Floats:
    out = _centred(p, c)
    return np.multiply(out, p, out)


def _log_softmax_jvp(log_p: Floats, t: Floats) -> Floats:
    return _centred(np.exp(log_p), t)


def _log_softmax_vjp(log_p: Floats, c: Floats) -> Floats:
    p = np.exp(log_p, order="C")
    at, rows = _sure(p)
    ones = np.ones(c.shape[1], c.dtype)
    if not at.size:
        p *= _dot(c, ones)
        return np.subtract(c, p, p)
    flat, own, others = p.reshape(-1), c.ravel()[at], c.copy()
    others.reshape(-1)[at] = 0
    total = _dot(others, ones)
    rest = total[rows, 0]
    total[rows, 0] += own
    # of a class with most of the sum c (1 - p) - p (the sum of the others' c)
    closed = -(own * np.expm1(log_p.ravel()[at])) - flat[at] * rest
    p *= total
    np.subtract(c, p, p)
    flat[at] = closed
    return p


def softmax_vjp(xp: Any, probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """``p (c - sum(p c))``."""
    return _by_rows(_softmax, probs, cotangent, axis)


def log_softmax_vjp(xp: Any, log_probs: Floats, cotangent: Floats, axis: int) -> Floats:
    """``c - p sum(c)``."""
    return _by_rows(_log_softmax_vjp, log_probs, cotangent, axis)


def log_softmax_jvp(xp: Any, log_probs: Floats, tangent: Floats, axis: int) -> Floats:
    """``t - sum(p t)``."""
    return _by_rows(_log_softmax_jvp, log_probs, tangent, axis)


#: The Jacobian diag(p) - p pT is symmetric.
softmax_jvp = softmax_vjp
