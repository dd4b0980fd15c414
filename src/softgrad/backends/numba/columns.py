"""Some vectors of columns, in LLVM's instructions: what holds numbers of theirs, and loops over the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .vectors import Vectors

#: Classes whose terms are added up before their sum is added to those of others.
PART = 64


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

    def in_parts(self, body: Callable[[Any], None], parts: list[Any], totals: list[Any]) -> None:
        """``body(class)`` of all; what is in ``parts`` goes over to ``totals`` now and then."""
        builder, k = self.v.builder, self.k
        with cgutils.for_range_slice(builder, k.type(0), k, k.type(PART), k.type) as (first, _):
            left = builder.sub(k, first)
            n = builder.select(builder.icmp_signed("<", left, k.type(PART)), left, k.type(PART))
            with cgutils.for_range_slice(builder, k.type(0), n, k.type(1), k.type) as (c, _):
                body(builder.add(first, c))
            for part, total in zip(parts, totals, strict=True):
                builder.store(builder.fadd(builder.load(total), builder.load(part)), total)
                builder.store(ir.Constant(part.type.pointee, [0.0] * part.type.pointee.count), part)
