"""Maxima and sums of short rows, as many at a time as a vector has lanes: folded together, not each by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ._numba_vectors import Vectors

_INT32 = ir.IntType(32)


def _folded(v: Vectors, vectors: list[Any], combine: Callable[[Any, Any], Any]) -> Any:
    """The sum or the maximum of each of as many vectors as they have lanes, lane for vector.

    Halves of two vectors are put together again and again: half the work of taking each vector by itself.
    """
    builder, width = v.builder, v.lanes
    while len(vectors) > 1:
        half = width // 2
        low = [part + lane for g in range(0, v.lanes, width) for part in (g, v.lanes + g) for lane in range(half)]
        masks = [ir.Constant(ir.VectorType(_INT32, v.lanes), [lane + extra for lane in low]) for extra in (0, half)]
        count = len(vectors) // 2
        pairs = zip(vectors[:count], vectors[count:], strict=True)
        vectors = [combine(*(builder.shuffle_vector(a, b, mask) for mask in masks)) for a, b in pairs]
        width = half
    return vectors[0]


@intrinsic  # type: ignore[untyped-decorator]
def peaks(context: Any, x: Any, start: Any, k: Any, tops: Any, at: Any) -> Any:
    """The maxima of as many rows of ``k`` numbers as a vector has lanes, into ``tops`` from ``at`` on.

    A positive NaN is above infinity.
    """
    kind = x.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, kind)
        array, start, k, out, at = arguments
        rows = [v.pointer(x, array, builder.add(start, builder.mul(k, k.type(row)))) for row in range(v.lanes)]
        most = [v.variable(v.ints(-(1 << (v.bits - 1)))) for _ in rows]

        def body(i: Any, new: Any) -> None:
            for row, place in zip(rows, most, strict=True):
                key, before = v.ordered(builder.bitcast(v.load(row(i)), v.integer)), builder.load(place)
                builder.store(builder.select(builder.icmp_signed(">", key, before), key, before), place)

        v.each(k, body)
        keys = _folded(
            v,
            [builder.load(place) for place in most],
            lambda a, b: builder.select(builder.icmp_signed(">", a, b), a, b),
        )
        v.store(builder.bitcast(v.ordered(keys), v.real), v.pointer(tops, out, at)(at.type(0)))
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, tops, types.intp), generate


def _rests(x: Any, tops: Any, out: Any, e: Any) -> tuple[Any, Callable[..., Any]]:
    """The type and the code of sums of exponentials but one of 1, which are kept where ``e`` is an array."""
    kind = x.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, kind)
        array, start, k, highest, at, sums = arguments[:6]
        starts = [builder.add(start, builder.mul(k, k.type(row))) for row in range(v.lanes)]
        rows = [v.pointer(x, array, first) for first in starts]
        into = None if e is None else [v.pointer(e, arguments[6], first) for first in starts]
        numbers = builder.gep(context.make_array(tops)(context, builder, highest).data, [at])
        one, zero = v.all(1.0), v.all(0.0)
        others, ones = ([v.variable(zero) for _ in rows] for _ in range(2))

        def body(i: Any, new: Any) -> None:
            for number, row in enumerate(rows):
                top = v.spread(builder.load(builder.gep(numbers, [k.type(number)])))
                power = v.exp(builder.fsub(v.load(row(i)), top))
                if into is not None:
                    v.store(power, into[number](i))
                if new is not None:
                    bits = builder.and_(builder.bitcast(power, v.integer), new)
                    power = builder.bitcast(bits, v.real)
                is_one = builder.fcmp_ordered("==", power, one)
                below, count = builder.select(is_one, zero, power), builder.select(is_one, one, zero)
                builder.store(builder.fadd(builder.load(others[number]), below), others[number])
                builder.store(builder.fadd(builder.load(ones[number]), count), ones[number])

        v.each(k, body)
        total, count = (
            _folded(v, [builder.load(place) for place in places], builder.fadd) for places in (others, ones)
        )
        rest = builder.fadd(builder.fsub(count, one), total)
        v.store(rest, v.pointer(out, sums, at)(at.type(0)))
        return context.get_dummy_value()

    return types.void, generate


@intrinsic  # type: ignore[untyped-decorator]
def rests(context: Any, x: Any, start: Any, k: Any, tops: Any, at: Any, out: Any) -> Any:
    """Of as many rows: the sum of exp(x - top) but one of 1, into ``out`` from ``at`` on."""
    returned, generate = _rests(x, tops, out, None)
    return returned(x, types.intp, types.intp, tops, types.intp, out), generate


@intrinsic  # type: ignore[untyped-decorator]
def powers_and_rests(context: Any, x: Any, start: Any, k: Any, tops: Any, at: Any, out: Any, e: Any) -> Any:
    """The same, and exp(x - top) into ``e`` at the same indices."""
    returned, generate = _rests(x, tops, out, e)
    return returned(x, types.intp, types.intp, tops, types.intp, out, e), generate
