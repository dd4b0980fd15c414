"""Transposition of rows and columns in registers, in LLVM's instructions."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vectors import Vectors


def transpose_blocks(v: Vectors, rows: list[Any]) -> list[Any]:
    """Transpose squares next to each other, a vector for each of their rows, by exchanging ever smaller blocks."""
    size = len(rows) // 2
    while size:
        out = list(rows)
        for i in range(len(rows)):
            if i & size:
                continue
            a, b = rows[i], rows[i + size]
            # numbers from the lanes on are those of the second vector
            first = [lane if not lane & size else v.lanes + lane - size for lane in range(v.lanes)]
            second = [lane + size if not lane & size else v.lanes + lane for lane in range(v.lanes)]
            out[i], out[i + size] = (_picked(v, a, b, lanes) for lanes in (first, second))
        rows, size = out, size // 2
    return rows


def _picked(v: Vectors, a: Any, b: Any, lanes: list[int]) -> Any:
    return v.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _joined(v: Vectors, parts: list[Any]) -> Any:
    """One vector of some."""
    while len(parts) > 1:
        both = list(range(2 * parts[0].type.count))
        parts = [_picked(v, a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def to_columns(side: int) -> Any:
    """The code that transposes ``side`` numbers of each row, of as many rows as a vector has lanes, into columns."""

    def work(context: Any, x: Any, start: Any, k: Any, z: Any, into: Any, stride: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, builder, x.dtype)
            array, start, k, out, into, stride = arguments
            # rows of two classes fill vectors
            at, to = v.pointer(x, array, start, v.lanes if side == 2 else side), v.pointer(z, out, into)
            if side == 2:
                a, b = (v.load(at(k.type(half * v.lanes))) for half in range(2))
                squares = [_picked(v, a, b, list(range(c, 2 * v.lanes, 2))) for c in range(2)]
            else:
                rows = [v.load(at(builder.mul(k, k.type(row)))) for row in range(v.lanes)]
                squares = transpose_blocks(v, [_joined(v, rows[i::side]) for i in range(side)])
            for c, vector in enumerate(squares):
                v.store(vector, to(builder.mul(stride, stride.type(c))))
            return context.get_dummy_value()

        n = types.intp
        return types.void(x, n, n, z, n, n), generate

    return intrinsic(work)


def to_rows(side: int) -> Any:
    """The code that transposes ``side`` columns back into rows."""

    def work(context: Any, z: Any, at: Any, stride: Any, k: Any, y: Any, start: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, builder, z.dtype)
            array, at, stride, k, out, start = arguments
            column, to = v.pointer(z, array, at), v.pointer(y, out, start, v.lanes if side == 2 else side)
            columns = [v.load(column(builder.mul(stride, stride.type(c)))) for c in range(side)]
            if side == 2:
                for half in range(2):
                    lanes = [c * v.lanes + half * v.lanes // 2 + i for i in range(v.lanes // 2) for c in range(2)]
                    v.store(_picked(v, columns[0], columns[1], lanes), to(k.type(half * v.lanes)))
                return context.get_dummy_value()
            squares = transpose_blocks(v, columns)
            for row in range(v.lanes):
                square, i = divmod(row, side)
                own = _picked(v, squares[i], squares[i], list(range(square * side, (square + 1) * side)))
                v.store(own, to(builder.mul(k, k.type(row))))
            return context.get_dummy_value()

        n = types.intp
        return types.void(z, n, n, n, y, n), generate

    return intrinsic(work)
