"""The compiled loops as C functions: each thread calls one, without Python, which takes pieces until none is left.

A function is given a table of 64-bit words and reads its arrays from there; the type of the table's pointer is that of
their numbers.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .. import _threads
from . import column_loops, column_pulls, loops, short
from ._width import VECTOR_BYTES
from .column_loops import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from .compile import c_function, compiled

_WORD = ir.IntType(64)
#: The next piece, how many there are, what is cut into them; what a function takes besides, FACTOR being a double.
NEXT, PIECES, UNITS, K, INNER, SKIPPED, SKIPS, FACTOR = range(8)
#: Where the arrays begin, the address and the size of each; and how many a function may have.
ARRAYS, MOST = 8, 5
#: Where a double for each piece begins.
TOTALS = ARRAYS + 2 * MOST


def _word_at(builder: Any, table: Any, i: Any) -> Any:
    return builder.gep(builder.bitcast(table, _WORD.as_pointer()), [i])


@intrinsic  # type: ignore[untyped-decorator]
def _word(context: Any, table: Any, i: Any) -> Any:
    """A word of the table."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_word_at(builder, *arguments))

    return types.int64(table, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def _taken(context: Any, table: Any) -> Any:
    """The number of a piece that no other thread has."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _word_at(builder, arguments[0], _WORD(NEXT)), _WORD(1), "monotonic")

    return types.int64(table), generate


def _pointer(kind: Any, held: bool) -> Any:
    """What reads a word as the address of numbers of a type (None: of the table's), or gives a word's own."""

    def work(context: Any, table: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place, returned = _word_at(builder, *arguments), context.get_value_type(signature.return_type)
            return builder.inttoptr(builder.load(place), returned) if held else builder.bitcast(place, returned)

        return (table if kind is None else types.CPointer(kind))(table, types.intp), generate

    return intrinsic(work)


_numbers, _integers = _pointer(None, True), _pointer(types.int64, True)
_whole, _double = _pointer(types.int64, False), _pointer(types.float64, False)


@compiled
def _piece(table: Any) -> tuple[int, int, int]:
    """(a piece's number, its first unit, its end); nothing where all are taken."""
    i, pieces, n = _taken(table), _word(table, PIECES), _word(table, UNITS)
    return (i, n * i // pieces, n * (i + 1) // pieces) if i < pieces else (i, 0, 0)


@compiled
def _array(table: Any, i: int) -> Any:
    return carray(_numbers(table, ARRAYS + 2 * i), _word(table, ARRAYS + 2 * i + 1))


@compiled
def _labels(table: Any, i: int) -> Any:
    return carray(_integers(table, ARRAYS + 2 * i), _word(table, ARRAYS + 2 * i + 1))


@compiled
def _dense(function: int, table: Any) -> None:
    """Rows or columns of x into y, by a function that is a constant where this is called."""
    k, inner, x, y = _word(table, K), _word(table, INNER), _array(table, 0), _array(table, 1)
    step = 1 if function == LOGSUMEXP else k
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        some, into = slice(first * k, last * k), slice(first * step, last * step)
        if inner > 1:
            column_loops.run(function, x, k, inner, first, last, y)
        elif short.takes(k, x.itemsize):
            short.run(function, x[some], k, y[into])
        else:
            loops.run(function, x[some], k, y[into])


@compiled
def _pull(function: int, table: Any) -> None:
    """(Log-)probabilities and cotangents into y, likewise."""
    k, inner = _word(table, K), _word(table, INNER)
    a, c, y = _array(table, 0), _array(table, 1), _array(table, 2)
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        some = slice(first * k, last * k)
        if inner > 1:
            column_pulls.run(function, a, c, k, inner, first, last, y)
        # a row that fills a vector is no slower by itself: no exponential waits for its sum
        elif k * a.itemsize < VECTOR_BYTES:
            short.pull(function, a[some], k, c[some], y[some])
        else:
            loops.pull(function, a[some], k, c[some], y[some])


def softmax(table: Any) -> None:
    """Rows or columns of x into y."""
    _dense(SOFTMAX, table)


def log_softmax(table: Any) -> None:
    """The same of its logarithm."""
    _dense(LOG_SOFTMAX, table)


def logsumexp(table: Any) -> None:
    """The same of its normaliser."""
    _dense(LOGSUMEXP, table)


def softmax_pull(table: Any) -> None:
    """Probabilities and cotangents into y."""
    _pull(SOFTMAX, table)


def log_softmax_pull(table: Any) -> None:
    """Log-probabilities and cotangents into y."""
    _pull(LOG_SOFTMAX, table)


def loss(table: Any) -> None:
    """The sum of a piece's losses into a total, each loss and its gradient into arrays that may be empty."""
    k, inner, x = _word(table, K), _word(table, INNER), _array(table, 0)
    labels, weights, losses, grad = _labels(table, 1), _array(table, 2), _array(table, 3), _array(table, 4)
    skipped, factor = carray(_whole(table, SKIPPED), _word(table, SKIPS)), x.dtype.type(_double(table, FACTOR)[0])
    totals = _double(table, TOTALS)
    while True:
        i, first, last = _piece(table)
        if first == last:
            return
        if inner > 1:
            totals[i] = column_loops.loss(x, k, inner, first, last, labels, weights, skipped, factor, losses, grad)
            continue
        some, own = slice(first * k, last * k), slice(first, last)
        if short.takes(k, x.itemsize):
            totals[i] = short.loss(x[some], k, labels[own], weights[own], skipped, factor, losses[own], grad[some])
            continue
        totals[i] = loops.loss(x[some], k, labels[own], weights[own], skipped, factor, losses[own], grad[some])


DENSE = {"softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp}
PULLS = {"softmax": softmax_pull, "log_softmax": log_softmax_pull}


@cache
def _entry(function: Any, char: str) -> tuple[Any, Any]:
    """(what keeps a function's code, the function), for arrays of a dtype."""
    kind = types.float32 if char == "f" else types.float64
    code = c_function(function, types.CPointer(kind))
    return code, _threads.NATIVE(code.address)


class Place(NamedTuple):
    """The numbers of a contiguous array."""

    address: int
    size: int
    #: The array, which lives as long as a thread may be at it.
    held: Any = None


#: Of an array that a function is to do without.
NOWHERE = Place(0, 0)


def run(
    function: Any,
    char: str,
    n: int,
    parts: int,
    k: int,
    inner: int,
    places: Sequence[Place],
    skipped: int | None = None,
    factor: float = 1.0,
) -> float:
    """Call a function of this module for ``n`` units on ``parts`` threads at most; returns the sum of its totals.

    The numbers are of the dtype of a character.
    """
    pieces = min(n, _threads.PIECES * parts) if parts > 1 else 1
    bits: int = struct.unpack("q", struct.pack("d", factor))[0]
    held = [0, pieces, n, k, inner, skipped or 0, skipped is not None, bits]
    for place in places:
        held += place[:2]
    table = array("q", held + [0] * (TOTALS + pieces - len(held)))
    entry, data = _entry(function, char)[1], table.buffer_info()[0]
    openmp = _threads.region()
    if parts == 1:
        entry(data)
    elif sys.platform == "linux":
        from . import pool

        if openmp is None:
            pool.share(entry, data, parts)
        else:
            pool.join(openmp, entry, data, parts)
    else:
        whole = table, places
        _threads.each(lambda: entry(whole[0].buffer_info()[0]), parts)
    return sum(memoryview(table).cast("B").cast("d")[TOTALS:].tolist())
