"""The vector-Jacobian products of softmax and log-softmax: loops over columns, compiled by numba.

Where one class has nearly all of the probability, the plain formulas would cancel. So softmax centres the cotangents on
that class's own, and log-softmax computes that class's slope from the other cotangents alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from numba import types
from numba.extending import intrinsic

from ._width import VECTOR_BYTES
from .column_loops import SOFTMAX, WIDTH, columns_from
from .columns import Columns
from .compile import compiled
from .intrinsics import log_softmax_slope
from .vectors import NEAR, Vectors

#: Where the vector at an index is.
Pointer: TypeAlias = Callable[[Any], Any]


def _softmax_vjp(columns: Columns, at: Pointer, cotangent: Pointer, to: Pointer) -> None:
    """``p (c - sum(p c))``, with ``c`` centred on its value at a probability above 1/2."""
    v, builder, zero = columns.v, columns.v.builder, columns.v.all(0.0)
    tops, owns = columns.variables(zero), columns.variables(zero)

    def find(index: Any, i: int) -> None:
        p, before = v.load(at(index)), builder.load(tops[i])
        higher = builder.fcmp_ordered(">", p, before)
        builder.store(builder.select(higher, p, before), tops[i])
        columns.change(owns[i], lambda own: builder.select(higher, v.load(cotangent(index)), own))

    columns.classes(find)
    sure = [builder.fcmp_ordered(">", top, v.all(0.5)) for top in columns.loaded(tops)]
    less = [builder.select(near, own, zero) for near, own in zip(sure, columns.loaded(owns), strict=True)]
    parts = columns.variables(zero)

    def add(index: Any, i: int) -> None:
        term = builder.fmul(v.load(at(index)), builder.fsub(v.load(cotangent(index)), less[i]))
        columns.change(parts[i], lambda part: builder.fadd(part, term))

    means = columns.sums(lambda c: columns.of_class(c, add), parts, v.lanes - 1)

    def write(index: Any, i: int) -> None:
        apart = builder.fsub(builder.fsub(v.load(cotangent(index)), less[i]), means[i])
        v.store(builder.fmul(v.load(at(index)), apart), to(index))

    columns.classes(write)


def _log_softmax_vjp(columns: Columns, at: Pointer, cotangent: Pointer, to: Pointer) -> None:
    """``c - p sum(c)``, at a probability near 1 from the other cotangents alone."""
    v, builder, zero = columns.v, columns.v.builder, columns.v.all(0.0)
    tops = columns.variables(v.all(float("-inf")))

    def find(index: Any, i: int) -> None:
        log_p = v.load(at(index))
        columns.change(tops[i], lambda top: builder.select(builder.fcmp_ordered(">", log_p, top), log_p, top))

    columns.classes(find)
    most = columns.loaded(tops)
    sure = [builder.fcmp_ordered(">", top, v.all(-NEAR)) for top in most]
    owns, parts = columns.variables(zero), columns.variables(zero)

    def is_sure(log_p: Any, i: int) -> Any:
        return builder.and_(sure[i], builder.fcmp_ordered("==", log_p, most[i]))

    def add(index: Any, i: int) -> None:
        number, top = v.load(cotangent(index)), is_sure(v.load(at(index)), i)
        columns.change(owns[i], lambda own: builder.select(top, number, own))
        columns.change(parts[i], lambda part: builder.fadd(part, builder.select(top, zero, number)))

    others = columns.sums(lambda c: columns.of_class(c, add), parts, v.lanes - 1)
    sums = [builder.fadd(a, b) for a, b in zip(others, columns.loaded(owns), strict=True)]

    def write(index: Any, i: int) -> None:
        log_p, number = v.load(at(index)), v.load(cotangent(index))
        slope = log_softmax_slope(v, log_p, number, is_sure(log_p, i), others[i], sums[i])
        v.store(slope, to(index))

    columns.classes(write)


def _vjps(width: int) -> Any:
    """The code of a function, by its number, of ``width`` vectors of columns; its arrays and the result are alike."""

    def work(context: Any, function: Any, a: Any, start: Any, k: Any, stride: Any, c: Any, y: Any) -> Any:
        if not isinstance(function, types.IntegerLiteral):
            return None
        write = _softmax_vjp if function.literal_value == SOFTMAX else _log_softmax_vjp

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, builder, a.dtype)
            _, a_array, start, k, stride, c_array, y_array = arguments
            arrays = (a, a_array), (c, c_array), (y, y_array)
            write(Columns(v, k, stride, width), *(v.pointer(kind, array, start) for kind, array in arrays))
            return context.get_dummy_value()

        n = types.intp
        return types.void(function, a, n, n, n, c, y), generate

    return intrinsic(prefer_literal=True)(work)


_many, _one = _vjps(WIDTH), _vjps(1)


def _run(function: int, a: Any, c: Any, k: int, inner: int, first: int, last: int, y: Any) -> None:
    """The units from ``first`` to ``last``, of all that the outer indices have, of a function that is a constant.

    The last vector of columns takes some once more: ``y`` is no array of the others.
    """
    lanes = VECTOR_BYTES // a.itemsize
    unit = first
    while unit < last:
        outer, i, end, unit = columns_from(unit, last, inner, lanes)
        start = outer * k * inner
        while i < end:
            if i + WIDTH * lanes <= end:
                _many(function, a, start + i, k, inner, c, y)
                i += WIDTH * lanes
            else:
                i = min(i, end - lanes)
                _one(function, a, start + i, k, inner, c, y)
                i += lanes


run = compiled(_run)
