"""Vectors of 64 bytes in the rows of contiguous arrays: what numba's loops are made of, in LLVM's instructions.

A row is a number of whole vectors and, where something is left over, its last 64 bytes once more. LLVM's own loops take
four vectors at once and single numbers at the end, which costs rows of 16 to 200 classes more than all the rest.

The exponential is 2^n exp(r), abs(r) <= log(2) / 2, with exp(r) = 1 + r + r^2 P(r), as in Cody and Waite (1980); the
coefficients of P are those of its Chebyshev fit, within 8e-9 and 2e-17 of the exponential. The logarithm of 2^n (1 + f)
is n log(2) + f - s (f - z Q(z)), s = f / (2 + f), z = s^2, where 2 s + s z Q(z) = log((1 + s) / (1 - s)), Q alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types

from ._width import VECTOR_BYTES

INT32, _INT64 = ir.IntType(32), ir.IntType(64)
#: How near to 1 a probability is for its difference from 1 to lose its digits.
NEAR = 1 / 16
#: Terms of (exp(x) - 1) / x beyond the first, for x between -NEAR and 0.
TERMS = 8


class _Format(NamedTuple):
    """What a vector of one floating type is worked on by."""

    real: Any
    integer: Any
    numpy: Any
    digits: int
    bias: int
    #: Its exponential is 0, rounded.
    least: float
    #: log(2) in two parts, the first of few bits.
    high: float
    low: float
    #: Of P and of Q, the highest power first.
    powers: Sequence[float]
    quotients: Sequence[float]


_FORMATS = {
    types.float32: _Format(
        ir.FloatType(), INT32, np.float32, 23, 127, -104.0, 0.693359375, -2.12194440e-4,
        (1.3926213466332443e-3, 8.3632029715758550e-3, 4.1666554437685939e-2, 0.16666576845993976, 0.5),
        (0.23331614471843499, 0.28550778633191965, 0.40000122211810650, 0.66666666554042012),
    ),
    types.float64: _Format(
        ir.DoubleType(), _INT64, np.float64, 52, 1023, -746.0, 0.693145751953125, 1.42860682030941723212e-6,
        (
            2.5100424157005067e-8, 2.7620138719733996e-7, 2.7557268378684193e-6, 2.4801521190217728e-5,
            1.9841269863105969e-4, 1.3888888917281793e-3, 8.3333333333300513e-3, 4.1666666666623992e-2,
            0.16666666666666667, 0.50000000000000010,
        ),
        (
            0.13088034850927554, 0.13268638369266824, 0.15386244737621667, 0.18181795547521136,
            0.22222222392581045, 0.28571428570799785, 0.40000000000000883, 0.66666666666666663,
        ),
    ),
}  # fmt: skip


class Vectors:
    """Instructions on vectors of one floating type, at a builder."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.context, self.builder, self.form = context, builder, _FORMATS[kind]
        self.bits = 8 * np.dtype(self.form.numpy).itemsize
        self.lanes = 8 * VECTOR_BYTES // self.bits
        self.real = ir.VectorType(self.form.real, self.lanes)
        self.integer = ir.VectorType(self.form.integer, self.lanes)

    def all(self, value: float) -> Any:
        """A constant number in every lane, rounded to the type."""
        return ir.Constant(self.real, [float(self.form.numpy(value))] * self.lanes)

    def ints(self, value: int) -> Any:
        """A constant integer in every lane."""
        return ir.Constant(self.integer, [value] * self.lanes)

    def spread(self, value: Any) -> Any:
        """A number of the program in every lane."""
        vector = ir.VectorType(value.type, self.lanes)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, INT32(0))
        zeros = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def variable(self, start: Any) -> Any:
        """A place for a vector, which LLVM keeps in a register."""
        place = cgutils.alloca_once(self.builder, start.type)
        self.builder.store(start, place)
        return place

    def largest(self, vector: Any) -> Any:
        """The largest of the lanes, which are integers."""
        name = f"llvm.vector.reduce.smax.v{self.lanes}i{self.bits}"
        signature = ir.FunctionType(vector.type.element, [vector.type])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, name), [vector])

    def sum(self, vector: Any) -> Any:
        """The sum of the lanes: each half is added to the other, as ``Columns`` adds up the sums of its lanes."""
        builder, size = self.builder, self.lanes
        while size > 1:
            size //= 2
            halves = [ir.Constant(ir.VectorType(INT32, size), list(range(at, at + size))) for at in (0, size)]
            vector = builder.fadd(*(builder.shuffle_vector(vector, vector, half) for half in halves))
        return builder.extract_element(vector, INT32(0))

    def count(self, flags: Any, integer: Any) -> Any:
        """How many lanes of a comparison are true."""
        bits = self.builder.bitcast(flags, ir.IntType(self.lanes))
        return self.builder.ctpop(self.builder.zext(bits, integer))

    def pointer(self, kind: Any, array: Any, start: Any, lanes: int | None = None) -> Callable[[Any], Any]:
        """Where the vector at an index counted from ``start`` is in memory; it may have fewer lanes than others."""
        data = self.context.make_array(kind)(self.context, self.builder, array).data
        first = self.builder.gep(data, [start])
        pointed = ir.VectorType(self.form.real, lanes or self.lanes).as_pointer()
        return lambda i: self.builder.bitcast(self.builder.gep(first, [i]), pointed)

    def load(self, pointer: Any) -> Any:  # noqa: D102
        return self.builder.load(pointer, align=self.bits // 8)

    def store(self, vector: Any, pointer: Any) -> None:  # noqa: D102
        self.builder.store(vector, pointer, align=self.bits // 8)

    def each(self, n: Any, body: Callable[[Any, Any], None]) -> None:
        """``body(index, lanes that are new)`` for each vector of ``n`` numbers, at least one vector; None is all."""
        builder, lanes = self.builder, n.type(self.lanes)
        whole = builder.and_(n, n.type(-self.lanes))
        with cgutils.for_range_slice(builder, n.type(0), whole, lanes, n.type) as (i, _):
            body(i, None)
        self.rest(n, body)

    def rest(self, n: Any, body: Callable[[Any, Any], None]) -> None:
        """The same for the last vector, where it is not a whole one."""
        builder = self.builder
        left = builder.and_(n, n.type(self.lanes - 1))
        with builder.if_then(builder.icmp_signed("!=", left, n.type(0))):
            old = builder.trunc(builder.sub(n.type(self.lanes), left), INT32)
            numbers = ir.Constant(ir.VectorType(INT32, self.lanes), list(range(self.lanes)))
            new = builder.icmp_signed(">=", numbers, self.spread(old))
            body(builder.sub(n, n.type(self.lanes)), builder.sext(new, self.integer))

    def ordered(self, bits: Any) -> Any:
        """Bits of floats as integers of the same order, a NaN above infinity; or back."""
        builder = self.builder
        negative = builder.ashr(bits, self.ints(self.bits - 1))
        return builder.xor(bits, builder.and_(negative, self.ints((1 << (self.bits - 1)) - 1)))

    def exp(self, d: Any) -> Any:
        """Exponentials of numbers that are not above 0."""
        builder, form = self.builder, self.form

        def fused(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))

        least = self.all(form.least)
        d = builder.select(builder.fcmp_ordered("<", d, least), least, d)
        # adding 1.5 2^digits rounds to a whole number, and leaves it in the last bits
        magic = self.all(1.5 * 2.0**form.digits)
        rounded = fused(d, self.all(1 / np.log(2.0)), magic)
        n = builder.fsub(rounded, magic)
        r = fused(n, self.all(-form.high), d)
        r = fused(n, self.all(-form.low), r)
        p = self.all(form.powers[0])
        for coefficient in form.powers[1:]:
            p = fused(p, r, self.all(coefficient))
        p = builder.fadd(fused(p, builder.fmul(r, r), r), self.all(1.0))
        whole = builder.sub(builder.bitcast(rounded, self.integer), builder.bitcast(magic, self.integer))
        # in two factors: the power alone may be too small for a normal number
        half = builder.ashr(whole, self.ints(1))
        for part in (half, builder.sub(whole, half)):
            power = builder.shl(builder.add(part, self.ints(form.bias)), self.ints(form.digits))
            p = builder.fmul(p, builder.bitcast(power, self.real))
        return p

    def expm1(self, x: Any) -> Any:
        """``exp(x) - 1`` of numbers between -NEAR and 0, by Taylor's series."""
        builder = self.builder
        q = self.all(1 / math.factorial(TERMS + 1))
        for i in range(TERMS, 0, -1):
            q = builder.fadd(builder.fmul(q, x), self.all(1 / math.factorial(i)))
        return builder.fmul(q, x)

    def log1p(self, r: Any) -> Any:
        """``log(1 + r)`` for r >= 0: log(u) of the rounded ``u = 1 + r``, plus what the rounding lost over u."""
        builder, form = self.builder, self.form
        one = self.all(1.0)
        u = builder.fadd(one, r)
        lost = builder.select(
            builder.fcmp_ordered(">", r, one),
            builder.fsub(one, builder.fsub(u, r)),
            builder.fsub(r, builder.fsub(u, one)),
        )
        # u = 2^n (1 + f), with 1 + f between the square roots of 1/2 and 2
        root = self.ints(int(np.sqrt(form.numpy(0.5)).view(f"i{self.bits // 8}")))
        above = builder.sub(builder.bitcast(u, self.integer), root)
        n = builder.sitofp(builder.ashr(above, self.ints(form.digits)), self.real)
        fraction = builder.add(builder.and_(above, self.ints((1 << form.digits) - 1)), root)
        f = builder.fsub(builder.bitcast(fraction, self.real), one)
        s = builder.fdiv(f, builder.fadd(self.all(2.0), f))
        z = builder.fmul(s, s)
        q = self.all(form.quotients[0])
        for coefficient in form.quotients[1:]:
            q = builder.fadd(builder.fmul(q, z), self.all(coefficient))
        small = builder.fadd(builder.fmul(n, self.all(form.low)), builder.fdiv(lost, u))
        inner = builder.fsub(builder.fmul(s, builder.fsub(f, builder.fmul(q, z))), small)
        return builder.fadd(builder.fmul(n, self.all(form.high)), builder.fsub(f, inner))

    @cached_property
    def one(self) -> Any:
        """The bits of 1 in every lane."""
        return self.ints(self.form.bias << self.form.digits)

    def is_infinite(self, vector: Any) -> Any:
        """Which lanes are an infinity."""
        bits = self.builder.and_(self.builder.bitcast(vector, self.integer), self.ints((1 << (self.bits - 1)) - 1))
        return self.builder.icmp_signed("==", bits, self.ints((2 * self.form.bias + 1) << self.form.digits))
