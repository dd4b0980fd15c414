"""Some vectors of columns, in LLVM's instructions: what holds numbers of theirs, and loops over the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ._width import VECTOR_BYTES
from .vectors import Vectors

#: Terms that are added in the dtype itself before a sum goes up to double precision.
TERMS = 4096
#: Few classes, and their bytes: 16 in single precision, but not in double, where they fill two vectors.
FEW_CLASSES, FEW_BYTES = 16, 2 * VECTOR_BYTES


def in_order(itemsize: int) -> int:
    """Classes up to which their exponentials are added up one after the other."""
    return min(FEW_CLASSES, FEW_BYTES // itemsize - 1)


class Columns:
    """``width`` vectors of columns of ``k`` classes, the next class's ``stride`` numbers away, at a builder."""

    def __init__(self, v: Vectors, k: Any, stride: Any, width: int) -> None:
        self.v, self.k, self.stride = v, k, stride
        self.offsets = [k.type(i * v.lanes) for i in range(width)]

    def variables(self, value: Any) -> list[Any]:
        """A place for each vector, which holds ``value`` here."""
        places = [self.v.variable(value) for _ in self.offsets]
        for place in places:
            # in a loop the place is made once, and filled each time
            self.v.builder.store(value, place)
        return places

    def loaded(self, places: list[Any]) -> list[Any]:
        """What the places hold here."""
        return [self.v.builder.load(place) for place in places]

    def change(self, place: Any, formula: Callable[[Any], Any]) -> None:
        """Let a place hold what a formula makes of its number."""
        self.v.builder.store(formula(self.v.builder.load(place)), place)

    def of_class(self, c: Any, body: Callable[[Any, int], None]) -> None:
        """``body(index, which)`` for each vector of one class."""
        row = self.v.builder.mul(c, self.stride)
        for i, offset in enumerate(self.offsets):
            body(self.v.builder.add(row, offset), i)

    def classes(self, body: Callable[[Any, int], None]) -> None:
        """The same for every class."""
        k = self.k
        with cgutils.for_range_slice(self.v.builder, k.type(0), k, k.type(1), k.type) as (c, _):
            self.of_class(c, body)

    def sums(self, body: Callable[[Any], None], terms: list[Any], in_order: int, wide: bool = False) -> list[Any]:
        """The sum of what ``body(class)`` adds to ``terms``, which are 0, in the order that loops over rows have.

        Up to ``in_order`` classes that is one after the other. From there on each lane of a row's vector adds up its
        own classes, the last vector's that are new after all others, and half of the lanes is added to the other half
        until one is left. A ``wide`` sum of many classes is of parts, in double precision.
        """
        v, builder, k = self.v, self.v.builder, self.k
        zero, one = k.type(0), k.type(1)
        lanes = builder.select(builder.icmp_signed("<=", k, k.type(in_order)), one, k.type(v.lanes))
        double = ir.VectorType(ir.DoubleType(), v.lanes)
        grows = wide and v.bits < 64
        nothing = ir.Constant(double, [0.0] * v.lanes) if grows else v.all(0.0)
        totals = [v.variable(nothing) for _ in terms]
        sums = cgutils.alloca_once(builder, v.real, size=v.lanes * len(terms))
        many = builder.icmp_signed(">=", k, k.type(2 * TERMS)) if wide else ir.Constant(ir.IntType(1), 0)
        parts = builder.select(many, builder.sdiv(k, k.type(TERMS)), one)

        def at(lane: Any, i: int) -> Any:
            return builder.gep(sums, [builder.add(builder.mul(lane, k.type(len(terms))), k.type(i))])

        for total in totals:
            builder.store(nothing, total)
        with cgutils.for_range_slice(builder, zero, parts, one, k.type) as (part, _):
            first = builder.mul(part, k.type(TERMS))
            last = builder.icmp_signed("==", part, builder.sub(parts, one))
            n = builder.select(last, builder.sub(k, first), k.type(TERMS))
            whole = builder.sdiv(n, lanes)
            new = builder.sub(n, builder.mul(whole, lanes))
            with cgutils.for_range_slice(builder, zero, lanes, one, k.type) as (lane, _):
                for term in terms:
                    builder.store(v.all(0.0), term)
                is_new = builder.icmp_signed(">=", lane, builder.sub(lanes, new))
                count = builder.add(whole, builder.zext(is_new, k.type))
                with cgutils.for_range_slice(builder, zero, count, one, k.type) as (i, _):
                    usual = builder.add(builder.mul(i, lanes), lane)
                    c = builder.select(
                        builder.icmp_signed("<", i, whole), usual, builder.add(builder.sub(n, lanes), lane)
                    )
                    body(builder.add(first, c))
                for i, term in enumerate(terms):
                    builder.store(builder.load(term), at(lane, i))
            size = v.lanes // 2
            while size:
                some = builder.select(builder.icmp_signed(">", lanes, k.type(size)), k.type(size), zero)
                with cgutils.for_range_slice(builder, zero, some, one, k.type) as (lane, _):
                    for i in range(len(terms)):
                        pair = (builder.load(at(builder.add(lane, k.type(half)), i)) for half in (0, size))
                        builder.store(builder.fadd(*pair), at(lane, i))
                size //= 2
            for i, total in enumerate(totals):
                found = builder.load(at(zero, i))
                found = builder.fpext(found, double) if grows else found
                builder.store(builder.fadd(builder.load(total), found), total)
        return self.loaded(totals)

    def plus(self, sums: list[Any], counts: list[Any]) -> list[Any]:
        """Wide sums and counts, added and rounded to the type of the numbers."""
        v, builder = self.v, self.v.builder
        if v.bits == 64:
            return [builder.fadd(a, b) for a, b in zip(counts, sums, strict=True)]
        pairs = zip(counts, sums, strict=True)
        return [builder.fptrunc(builder.fadd(builder.fpext(a, b.type), b), v.real) for a, b in pairs]
