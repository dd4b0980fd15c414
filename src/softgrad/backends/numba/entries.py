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
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from .. import _threads
from . import column_loops, column_vjps, few_classes, loops
from .column_loops import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from .compile import c_function, compiled

_WORD = ir.IntType(64)
#: The next piece, how many there are, what is cut into them; what a function takes besides, FACTOR being a double.
NEXT, PIECES, UNITS, K, INNER, SKIPPED, SKIPS, FACTOR = range(8)
#: Where the arrays begin, the address and the size of each; and how many a function may have.
ARRAYS, MAX_ARRAYS = 8, 5
#: Where a double for each piece begins.
TOTALS = ARRAYS + 2 * MAX_ARRAYS


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
def _dense_rows(function: int, table: Any) -> None:
    """Rows of x into rows of y, or into numbers, by a function that is a constant where this is called."""
    k, x, y = _word(table, K), _array(table, 0), _array(table, 1)
    step = 1 if function == LOGSUMEXP else k
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        loops.run(function, x[first * k : last * k], k, y[first * step : last * step])


@compiled
def _dense_few(function: int, table: Any) -> None:
    """The same for rows of few classes."""
    k, x, y = _word(table, K), _array(table, 0), _array(table, 1)
    step = 1 if function == LOGSUMEXP else k
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        few_classes.run(function, x[first * k : last * k], k, y[first * step : last * step])


@compiled
def _dense_columns(function: int, table: Any) -> None:
    """The same for columns."""
    k, inner, x, y = _word(table, K), _word(table, INNER), _array(table, 0), _array(table, 1)
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        column_loops.run(function, x, k, inner, first, last, y)


@compiled
def _vjp_rows(function: int, table: Any) -> None:
    """The vector-Jacobian product of (log-)probabilities and cotangents into y."""
    k, a, c, y = _word(table, K), _array(table, 0), _array(table, 1), _array(table, 2)
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        some = slice(first * k, last * k)
        loops.vjp(function, a[some], k, c[some], y[some])


@compiled
def _vjp_few(function: int, table: Any) -> None:
    """The same for rows of few classes."""
    k, a, c, y = _word(table, K), _array(table, 0), _array(table, 1), _array(table, 2)
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        some = slice(first * k, last * k)
        few_classes.vjp(function, a[some], k, c[some], y[some])


@compiled
def _vjp_columns(function: int, table: Any) -> None:
    """The same for columns."""
    k, inner = _word(table, K), _word(table, INNER)
    a, c, y = _array(table, 0), _array(table, 1), _array(table, 2)
    while True:
        _, first, last = _piece(table)
        if first == last:
            return
        column_vjps.run(function, a, c, k, inner, first, last, y)


@compiled
def _loss_numbers(table: Any) -> tuple[Any, Any]:
    """(The label to ignore or nothing, what gradients are multiplied by)."""
    factor = _array(table, 0).dtype.type(_double(table, FACTOR)[0])
    return carray(_whole(table, SKIPPED), _word(table, SKIPS)), factor


def _loss_rows(table: Any) -> None:
    """The sum of a piece's losses into a total, each loss and its gradient into arrays that may be empty."""
    k, x, labels, weights = _word(table, K), _array(table, 0), _labels(table, 1), _array(table, 2)
    losses, grad, totals = _array(table, 3), _array(table, 4), _double(table, TOTALS)
    skipped, factor = _loss_numbers(table)
    while True:
        i, first, last = _piece(table)
        if first == last:
            return
        some, own = slice(first * k, last * k), slice(first, last)
        totals[i] = loops.loss(x[some], k, labels[own], weights[own], skipped, factor, losses[own], grad[some])


def _loss_few(table: Any) -> None:
    """The same for rows of few classes."""
    k, x, labels, weights = _word(table, K), _array(table, 0), _labels(table, 1), _array(table, 2)
    losses, grad, totals = _array(table, 3), _array(table, 4), _double(table, TOTALS)
    skipped, factor = _loss_numbers(table)
    while True:
        i, first, last = _piece(table)
        if first == last:
            return
        some, own = slice(first * k, last * k), slice(first, last)
        totals[i] = few_classes.loss(x[some], k, labels[own], weights[own], skipped, factor, losses[own], grad[some])


def _loss_columns(table: Any) -> None:
    """The same for columns."""
    k, inner, x, labels = _word(table, K), _word(table, INNER), _array(table, 0), _labels(table, 1)
    weights, losses, grad, totals = _array(table, 2), _array(table, 3), _array(table, 4), _double(table, TOTALS)
    skipped, factor = _loss_numbers(table)
    while True:
        i, first, last = _piece(table)
        if first == last:
            return
        totals[i] = column_loops.loss(x, k, inner, first, last, labels, weights, skipped, factor, losses, grad)


def _ways(function: int, vjps: bool) -> tuple[Any, Any, Any]:
    """A function for each layout of the classes; numba's cache tells them apart by the number alone."""
    if vjps:
        return (
            lambda table: _vjp_rows(function, table),
            lambda table: _vjp_few(function, table),
            lambda table: _vjp_columns(function, table),
        )
    return (
        lambda table: _dense_rows(function, table),
        lambda table: _dense_few(function, table),
        lambda table: _dense_columns(function, table),
    )


#: Layouts of a sample's classes in memory: next to each other, many or few of them, or apart.
ROWS, FEW, COLUMNS = range(3)
#: The functions, by name and layout.
_CODES = {"softmax": SOFTMAX, "log_softmax": LOG_SOFTMAX, "logsumexp": LOGSUMEXP}
DENSE = {name: _ways(code, False) for name, code in _CODES.items()}
VJPS = {name: _ways(_CODES[name], True) for name in ("softmax", "log_softmax")}
LOSS = (_loss_rows, _loss_few, _loss_columns)


@cache
def _entry(function: Any, char: str) -> tuple[Any, Any]:
    """(what keeps a function's code, the function), for arrays of a dtype."""
    kind = types.float32 if char == "f" else types.float64
    code = c_function(function, types.CPointer(kind))
    return code, _threads.NATIVE(code.address)


#: A table of one piece: all its words but those of the totals, and one of these.
_ONE = struct.Struct(f"7qd{2 * MAX_ARRAYS}qd")
#: What fills up the words of fewer arrays.
_NOTHING = tuple((0,) * (2 * (MAX_ARRAYS - i)) for i in range(MAX_ARRAYS + 1))


def run(
    function: Any,
    char: str,
    n: int,
    parts: int,
    k: int,
    inner: int,
    arrays: Sequence[int],
    held: Any,
    skipped: int | None = None,
    factor: float = 1.0,
) -> float:
    """Call a function of this module for ``n`` units on ``parts`` threads at most; returns the sum of its totals.

    The numbers are of the dtype of a character. Of each array there is its address and its size, both 0 where the
    function is to do without; ``held`` lives as long as a thread may be at them.
    """
    pieces = min(n, _threads.PIECES * parts) if parts > 1 else 1
    fixed = 0, pieces, n, k, inner, skipped or 0, skipped is not None, factor
    table = array("q", _ONE.pack(*fixed, *arrays, *_NOTHING[len(arrays) // 2], 0.0))
    entry = _entry(function, char)[1]
    if parts == 1:
        entry(table.buffer_info()[0])
        total: float = _ONE.unpack_from(table)[-1]
        return total
    table.extend([0] * (pieces - 1))
    data = table.buffer_info()[0]
    openmp = _threads.region()
    if sys.platform == "linux":
        from . import pool

        if openmp is None:
            pool.share(entry, data, parts)
        else:
            pool.join(openmp, entry, data, parts)
    else:
        whole = table, held
        _threads.each(lambda: entry(whole[0].buffer_info()[0]), parts)
    return sum(memoryview(table).cast("B").cast("d")[TOTALS:].tolist())
