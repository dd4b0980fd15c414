"""The linear softmax model with few classes, compiled by numba: a block of samples is read once for both products."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._width import VECTOR_BYTES
from .compile import compiled, copy
from .intrinsics import sum_of
from .tiles import TILES, logits, losses_of

_losses = losses_of(1, True)
_4x4, _4x3, _4x2, _4x1 = (TILES[4, f] for f in (4, 3, 2, 1))
_2x4, _2x3, _2x2, _2x1 = (TILES[2, f] for f in (4, 3, 2, 1))


def _gradient_of(
    x: Any, start: int, m: int, n: int, g: Any, stride: int, k: int, lanes: int, total: Any, row: int
) -> None:
    """Add the products of ``n`` samples from ``x[start]`` on with their slopes, class first in ``g``."""
    vectors = row // lanes
    for c in range(0, k, 4):
        four = k - c > 2
        for f in range(0, vectors, 4):
            left = vectors - f
            a, s, t = start + f * lanes, c * stride, c * row + f * lanes
            if four:
                if left >= 4:
                    _4x4(x, a, m, n, g, s, stride, total, t, row)
                elif left == 3:
                    _4x3(x, a, m, n, g, s, stride, total, t, row)
                elif left == 2:
                    _4x2(x, a, m, n, g, s, stride, total, t, row)
                else:
                    _4x1(x, a, m, n, g, s, stride, total, t, row)
            elif left >= 4:
                _2x4(x, a, m, n, g, s, stride, total, t, row)
            elif left == 3:
                _2x3(x, a, m, n, g, s, stride, total, t, row)
            elif left == 2:
                _2x2(x, a, m, n, g, s, stride, total, t, row)
            else:
                _2x1(x, a, m, n, g, s, stride, total, t, row)


_gradient = compiled(_gradient_of)


def _run(
    x: Any,
    m: int,
    first: int,
    last: int,
    w: Any,
    bias: Any,
    k: int,
    labels: Any,
    weights: Any,
    skipped: Any,
    factor: float,
    block: int,
    total: Any,
    row: int,
    slopes: Any,
    out: Any,
) -> float:
    """The sum of the losses of the samples from ``first`` to ``last``; each into ``out``, unless that is empty.

    ``w`` holds a vector of classes for each feature, and again for the next classes. ``total``, with rows of ``row``
    features, and ``slopes`` are the sums that weights' and biases' gradients add to, unless ``total`` is empty.
    """
    lanes = VECTOR_BYTES // x.itemsize
    groups = w.size // (m * lanes)
    stride = block + lanes
    z = np.zeros(groups * lanes * stride, x.dtype)
    values = np.empty(block, x.dtype)
    ys = np.empty(block, np.int64)
    ws = np.ones(block, x.dtype)
    spare = np.zeros(block * m + lanes, x.dtype)
    ignored, ignores = (skipped[0], True) if skipped.size else (0, False)
    result = 0.0
    for begin in range(first, last, block):
        n = min(block, last - begin)
        whole = -(-n // lanes) * lanes
        copy(labels, begin, n, ys, 0)
        if weights.size:
            copy(weights, begin, n, ws, 0)
        odd = False
        # a vector may reach into the next sample; after the last one there is none
        aside = whole > n or (begin + n) * m + lanes > x.size
        if aside:
            copy(x, begin * m, n * m, spare, 0)
            spare[n * m :] = 0
            ys[n:], ws[n:] = 0, 0
        data, start = (spare, 0) if aside else (x, begin * m)
        for group in range(groups):
            weights_at, bias_at = group * m * lanes, group * lanes
            for i in range(0, whole, lanes):
                logits(data, start + i * m, m, w, weights_at, bias, bias_at, z, bias_at * stride + i, stride)
        for i in range(0, whole, lanes):
            some, strange = _losses(z, i, stride, k, ys, i, ws, i, ignored, ignores, factor, values, i, z, i, 0)
            odd |= strange
            result += some
        if out.size:
            copy(values, 0, n, out, begin)
        if total.size:
            if odd:
                # 0 times a number of a sample that does not count may be NaN
                if not aside:
                    copy(x, begin * m, n * m, spare, 0)
                for i in range(n):
                    if ws[i] == 0 or (ignores and ys[i] == ignored):
                        spare[i * m : (i + 1) * m] = 0
                data, start = spare, 0
            _gradient(data, start, m, n, z, stride, k, lanes, total, row)
            for c in range(k):
                slopes[c] += sum_of(z, c * stride, whole)
    return result


run = compiled(_run)
