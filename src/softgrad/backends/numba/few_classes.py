"""Rows of few classes: transposed, a block at a time, into columns in cache, which the loops over columns work on.

A vector loaded from such a row would run into the next rows. Squares of two, four or eight classes are transposed in
registers; where the classes do not fill whole squares, the last square overlaps the one before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import column_loops, column_vjps
from ._width import VECTOR_BYTES
from .column_loops import LOGSUMEXP
from .compile import compiled, copy
from .transpose import to_columns, to_rows

#: Bytes of the rows that are worked on together.
BYTES = 1 << 12
#: The first of all columns, of a type that the loops are compiled for as well; a plain 0 has a type of its own.
NONE = np.int64(0)

_to_columns_2, _to_columns_4, _to_columns_8 = (to_columns(side) for side in (2, 4, 8))
_to_rows_2, _to_rows_4, _to_rows_8 = (to_rows(side) for side in (2, 4, 8))


def _reach_of(k: int, lanes: int) -> int:
    """How many numbers are read or written for a vector of rows; three classes take a square of four."""
    return lanes * k + (1 if k == 3 else 0)


_reach = compiled(_reach_of)


def _columns_of_rows_of(x: Any, k: Any, first: int, n: int, z: Any, stride: int, spare: Any) -> None:
    """Transpose rows of ``x`` into the columns of ``z``."""
    lanes = VECTOR_BYTES // x.itemsize
    for i in range(0, n, lanes):
        rows, start = x, (first + i) * k
        if start + _reach(k, lanes) > x.size:
            left = min(lanes * k, x.size - start)
            copy(x, start, left, spare, 0)
            rows, start = spare, 0
        if k == 2:
            _to_columns_2(rows, start, k, z, i, stride)
        elif k <= 4:
            _to_columns_4(rows, start, k, z, i, stride)
        elif k < 8:
            _to_columns_4(rows, start, k, z, i, stride)
            _to_columns_4(rows, start + k - 4, k, z, i + (k - 4) * stride, stride)
        else:
            _to_columns_8(rows, start, k, z, i, stride)
            if k > 8:
                _to_columns_8(rows, start + k - 8, k, z, i + (k - 8) * stride, stride)


_columns_of_rows = compiled(_columns_of_rows_of)


def _rows_of_columns_of(z: Any, stride: int, k: int, first: int, n: int, y: Any, spare: Any) -> None:
    """Transpose columns of ``z`` into rows of ``y``."""
    lanes = VECTOR_BYTES // y.itemsize
    for i in range(0, n, lanes):
        start = (first + i) * k
        aside = start + _reach(k, lanes) > y.size
        rows, to = (spare, 0) if aside else (y, start)
        if k == 2:
            _to_rows_2(z, i, stride, k, rows, to)
        elif k <= 4:
            _to_rows_4(z, i, stride, k, rows, to)
        elif k < 8:
            _to_rows_4(z, i, stride, k, rows, to)
            _to_rows_4(z, i + (k - 4) * stride, stride, k, rows, to + k - 4)
        else:
            _to_rows_8(z, i, stride, k, rows, to)
            if k > 8:
                _to_rows_8(z, i + (k - 8) * stride, stride, k, rows, to + k - 8)
        if aside:
            left = min(lanes * k, y.size - start)
            copy(spare, 0, left, y, start)


_rows_of_columns = compiled(_rows_of_columns_of)


def _block_of(k: int, itemsize: int) -> int:
    """Rows of a block: whole groups of the vectors that the loops over columns work on at once."""
    least = column_loops.WIDTH * VECTOR_BYTES // itemsize
    return max(1, BYTES // (itemsize * k * least)) * least


_block = compiled(_block_of)


def _run(function: int, x: Any, k: int, y: Any) -> None:
    """Rows of ``x`` into ``y``, by the function of a number that is a constant where this is called."""
    lanes, step = VECTOR_BYTES // x.itemsize, _block(k, x.itemsize)
    stride = step + lanes
    z, spare = np.zeros((k + 1) * stride, x.dtype), np.zeros(_reach(k, lanes), x.dtype)
    values = np.empty(stride, x.dtype)
    rows = x.size // k
    for first in range(0, rows, step):
        n = min(step, rows - first)
        units = -(-n // lanes)
        _columns_of_rows(x, k, first, n, z, stride, spare)
        if function == LOGSUMEXP:
            column_loops.run(function, z, k, stride, NONE, units, values)
            copy(values, 0, n, y, first)
        else:
            column_loops.run(function, z, k, stride, NONE, units, z)
            _rows_of_columns(z, stride, k, first, n, y, spare)


run = compiled(_run)


def _loss(x: Any, k: int, labels: Any, weights: Any, skipped: Any, factor: float, losses: Any, grad: Any) -> float:
    """The sum of the losses; each into ``losses``, its gradient times ``factor`` into ``grad``, unless these are empty.

    ``weights`` may be empty; ``skipped`` holds the label to ignore or nothing.
    """
    lanes, step = VECTOR_BYTES // x.itemsize, _block(k, x.itemsize)
    stride = step + lanes
    z, spare = np.zeros((k + 1) * stride, x.dtype), np.zeros(_reach(k, lanes), x.dtype)
    slopes = z if grad.size else z[:0]
    values = np.empty(stride if losses.size else 0, x.dtype)
    total = 0.0
    rows = labels.size
    for first in range(0, rows, step):
        n = min(step, rows - first)
        units = -(-n // lanes)
        _columns_of_rows(x, k, first, n, z, stride, spare)
        ys, ws = labels[first : first + n], weights[first : first + n]
        if n < units * lanes:
            # what fills the last vector does not count
            ys, ws = np.zeros(units * lanes, np.int64), np.zeros(units * lanes, x.dtype)
            copy(labels, first, n, ys, 0)
            ws[:n] = 1
            if weights.size:
                copy(weights, first, n, ws, 0)
        total += column_loops.loss(z, k, stride, NONE, units, ys, ws, skipped, factor, values, slopes)
        if losses.size:
            copy(values, 0, n, losses, first)
        if grad.size:
            _rows_of_columns(z, stride, k, first, n, grad, spare)
    return total


loss = compiled(_loss)


def _vjp(function: int, a: Any, k: int, c: Any, y: Any) -> None:
    """The vector-Jacobian product of (log-)probabilities ``a`` and cotangents ``c`` into ``y``, likewise."""
    lanes, step = VECTOR_BYTES // a.itemsize, _block(k, a.itemsize)
    stride = step + lanes
    z, cotangents = np.zeros((k + 1) * stride, a.dtype), np.zeros((k + 1) * stride, a.dtype)
    spare = np.zeros(_reach(k, lanes), a.dtype)
    rows = a.size // k
    for first in range(0, rows, step):
        n = min(step, rows - first)
        _columns_of_rows(a, k, first, n, z, stride, spare)
        _columns_of_rows(c, k, first, n, cotangents, stride, spare)
        # no vector is read twice, so the result may overwrite the probabilities
        column_vjps.run(function, z, cotangents, k, stride, NONE, -(-n // lanes), z)
        _rows_of_columns(z, stride, k, first, n, y, spare)


vjp = compiled(_vjp)
