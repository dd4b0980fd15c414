"""Loops over columns, whose classes are rows of contiguous memory, compiled by numba.

Some vectors of columns at a time: they stay in registers in the loop over classes, and their numbers in cache from
the maximum to the last division.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types  # not numba.core: the import of a part does not wait for another thread's of the whole
from numba.extending import intrinsic

from ._width import VECTOR_BYTES
from .columns import Columns, in_order
from .compile import compiled
from .tiles import losses_of
from .vectors import Vectors

#: Vectors of columns that are worked on together.
WIDTH = 4
#: The functions that ``run`` has.
SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = range(3)


def _columns(width: int) -> Any:
    """The code of a function, by its number, of ``width`` vectors of columns."""

    def work(context: Any, function: Any, x: Any, start: Any, k: Any, stride: Any, y: Any, into: Any) -> Any:
        if not isinstance(function, types.IntegerLiteral):
            return None
        code = function.literal_value

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, builder, x.dtype)
            _, array, start, k, stride, out, into = arguments
            at, to = v.pointer(x, array, start), v.pointer(y, out, into)
            zero, one = v.all(0.0), v.all(1.0)
            columns = Columns(v, k, stride, width)
            variables, change = columns.variables, columns.change
            tops, bad = (
                variables(v.all(float("-inf"))),
                variables(ir.Constant(ir.VectorType(ir.IntType(1), v.lanes), [0] * v.lanes)),
            )

            def find(index: Any, i: int) -> None:
                number = v.load(at(index))
                change(tops[i], lambda top: builder.select(builder.fcmp_ordered(">", number, top), number, top))
                if code == LOGSUMEXP:
                    change(bad[i], lambda odd: builder.or_(odd, builder.fcmp_unordered("uno", number, number)))

            columns.classes(find)
            most = columns.loaded(tops)
            parts, ones = variables(zero), variables(v.all(-1.0))

            def add(index: Any, i: int) -> None:
                e = v.exp(builder.fsub(v.load(at(index)), most[i]))
                if code == SOFTMAX:
                    v.store(e, to(index))
                is_one = builder.fcmp_ordered("==", e, one)
                change(parts[i], lambda part: builder.fadd(part, builder.select(is_one, zero, e)))
                change(ones[i], lambda count: builder.fadd(count, builder.select(is_one, one, zero)))

            others = columns.sums(lambda c: columns.of_class(c, add), parts, in_order(v.bits // 8), wide=True)
            rests = columns.plus(others, columns.loaded(ones))
            if code == SOFTMAX:
                shares = [builder.fdiv(one, builder.fadd(one, rest)) for rest in rests]
                columns.classes(lambda index, i: v.store(builder.fmul(v.load(to(index)), shares[i]), to(index)))
                return context.get_dummy_value()
            logs = [v.log1p(rest) for rest in rests]
            if code == LOG_SOFTMAX:
                columns.classes(
                    lambda index, i: v.store(builder.fsub(builder.fsub(v.load(at(index)), most[i]), logs[i]), to(index))
                )
                return context.get_dummy_value()
            for i, offset in enumerate(columns.offsets):
                # an infinite maximum is the result, unless a NaN is
                known = builder.and_(builder.not_(builder.load(bad[i])), v.is_infinite(most[i]))
                result = builder.fadd(most[i], logs[i])
                v.store(builder.select(known, most[i], result), to(offset))
            return context.get_dummy_value()

        index = types.intp
        return types.void(function, x, index, index, index, y, index), generate

    return intrinsic(prefer_literal=True)(work)


_many, _one = _columns(WIDTH), _columns(1)
_slopes, _slope = losses_of(2, True), losses_of(1, True)
_losses, _value = losses_of(2, False), losses_of(1, False)


def _units_of(inner: int, lanes: int) -> int:
    """Into how many parts ``inner`` columns are cut for threads: whole vectors, and the last with what is left over.

    Its last vector makes some columns once more, which are no other thread's then.
    """
    return max(1, inner // lanes)


units = _units_of
_units = compiled(_units_of)


def _columns_from_unit(unit: int, last: int, inner: int, lanes: int) -> tuple[int, int, int, int]:
    """(outer index of a unit, its first column, where that index's columns end before ``last``, the next unit)."""
    each = _units(inner, lanes)
    outer = unit // each
    begin = unit - outer * each
    stop = min(each, begin + last - unit)
    return outer, begin * lanes, inner if stop == each else stop * lanes, unit + stop - begin


columns_from = compiled(_columns_from_unit)


def _run(function: int, x: Any, k: int, inner: int, first: int, last: int, y: Any) -> None:
    """The units from ``first`` to ``last``, of all that the outer indices have; ``inner`` columns fill a vector.

    ``function`` is a constant where this is called: it is compiled for each.
    """
    lanes = VECTOR_BYTES // x.itemsize
    unit = first
    while unit < last:
        outer, i, end, unit = columns_from(unit, last, inner, lanes)
        start = outer * k * inner
        to = outer * inner if function == LOGSUMEXP else start
        while i < end:
            if i + WIDTH * lanes <= end:
                _many(function, x, start + i, k, inner, y, to + i)
                i += WIDTH * lanes
            else:
                i = min(i, end - lanes)
                _one(function, x, start + i, k, inner, y, to + i)
                i += lanes


run = compiled(_run)


def _loss(
    x: Any,
    k: int,
    inner: int,
    first: int,
    last: int,
    labels: Any,
    weights: Any,
    skipped: Any,
    factor: float,
    out: Any,
    grad: Any,
) -> float:
    """The sum of some units' losses; each into ``out``, its gradient times ``factor`` into ``grad``, unless empty.

    ``weights`` may be empty; ``skipped`` holds the label to ignore or nothing.
    """
    lanes = VECTOR_BYTES // x.itemsize
    none, spare = np.ones(2 * lanes, x.dtype), np.empty(2 * lanes, x.dtype)
    ignored, ignores = (skipped[0], True) if skipped.size else (0, False)
    ws, values = weights if weights.size else none, out if out.size else spare
    total = 0.0
    unit = first
    while unit < last:
        outer, i, end, unit = columns_from(unit, last, inner, lanes)
        while i < end:
            # the last vector ends with the columns
            j = min(i, end - lanes)
            at, y = outer * k * inner + j, outer * inner + j
            w, v = y if weights.size else 0, y if out.size else 0
            if i + 2 * lanes <= end:
                if grad.size:
                    total += _slopes(
                        x, at, inner, k, labels, y, ws, w, ignored, ignores, factor, values, v, grad, at, 0
                    )[0]
                else:
                    total += _losses(
                        x, at, inner, k, labels, y, ws, w, ignored, ignores, factor, values, v, grad, 0, 0
                    )[0]
                i += 2 * lanes
                continue
            if grad.size:
                total += _slope(
                    x, at, inner, k, labels, y, ws, w, ignored, ignores, factor, values, v, grad, at, i - j
                )[0]
            else:
                total += _value(x, at, inner, k, labels, y, ws, w, ignored, ignores, factor, values, v, grad, 0, i - j)[
                    0
                ]
            i += lanes
    return total


loss = compiled(_loss)
