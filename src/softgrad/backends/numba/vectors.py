"""Vectors of 64 bytes in the rows of contiguous arrays: what numba's loops are made of, in LLVM's instructions.

A row is a number of whole vectors and, where something is left over, its last 64 bytes once more. LLVM's own loops take
four vectors at once and single numbers at the end, which costs rows of 16 to 200 classes more than all the rest.

The exponential is 2^n exp(r), abs(r) <= log(2) / 2, with exp(r) = 1 + r + r^2 P(r), as in Cody and Waite (1980); the
coefficients of P are those of its Chebyshev fit, within 8e-9 and 2e-17 of the exponential. The logarithm of 2^n (1 + f)
is n log(2) + f - s (f - z Q(z)), s = f / (2 + f), z = s^2, where 2 s + s z Q(z) = log((1 + s) / (1 - s)), Q alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._width import VECTOR_BYTES

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_ANY_ORDER = ("reassoc", "nsz")


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
        ir.FloatType(), _INT32, np.float32, 23, 127, -104.0, 0.693359375, -2.12194440e-4,
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
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, _INT32(0))
        zeros = ir.Constant(ir.VectorType(_INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def variable(self, start: Any) -> Any:
        """A place for a vector, which LLVM keeps in a register."""
        place = cgutils.alloca_once(self.builder, start.type)
        self.builder.store(start, place)
        return place

    def reduce(self, name: str, vector: Any, *first: Any) -> Any:
        """The sum or the maximum of the lanes."""
        letter = "f" if vector.type is self.real else "i"
        signature = ir.FunctionType(vector.type.element, [*(value.type for value in first), vector.type])
        full = f"llvm.vector.reduce.{name}.v{self.lanes}{letter}{self.bits}"
        function = cgutils.get_or_insert_function(self.builder.module, signature, full)
        return self.builder.call(function, [*first, vector], fastmath=_ANY_ORDER if letter == "f" else ())

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
            old = builder.trunc(builder.sub(n.type(self.lanes), left), _INT32)
            numbers = ir.Constant(ir.VectorType(_INT32, self.lanes), list(range(self.lanes)))
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

    def log1p(self, r: Any) -> Any:
        """log(1 + r) of numbers that are not below 0: the logarithm of u = 1 + r, rounded, and what u lost over u."""
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


@intrinsic  # type: ignore[untyped-decorator]
def peak(context: Any, x: Any, start: Any, n: Any) -> Any:
    """The maximum of ``x[start : start + n]``, of one vector at least; a positive NaN is above infinity."""
    kind = x.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, kind)
        at = v.pointer(x, arguments[0], arguments[1])
        most = v.variable(v.ints(-(1 << (v.bits - 1))))

        def body(i: Any, new: Any) -> None:
            key, before = v.ordered(builder.bitcast(v.load(at(i)), v.integer)), builder.load(most)
            builder.store(builder.select(builder.icmp_signed(">", key, before), key, before), most)

        v.each(arguments[2], body)
        key = v.reduce("smax", builder.load(most))
        first = builder.insert_element(ir.Constant(v.integer, ir.Undefined), key, _INT32(0))
        return builder.extract_element(builder.bitcast(v.ordered(first), v.real), _INT32(0))

    return kind(x, types.intp, types.intp), generate


def _sums(x: Any, e: Any) -> tuple[Any, Callable[..., Any]]:
    """The type and the code of a sum of exponentials, which are kept where ``e`` is an array."""
    kind = x.dtype
    returned = types.Tuple((kind, types.intp))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, kind)
        array, start, n, m = arguments[:4]
        at = v.pointer(x, array, start)
        into = None if e is None else v.pointer(e, arguments[4], start)
        top = v.spread(m)
        others, ones = v.variable(v.all(0.0)), v.variable(n.type(0))

        def body(i: Any, new: Any) -> None:
            power = v.exp(builder.fsub(v.load(at(i)), top))
            if into is not None:
                v.store(power, into(i))
            bits = builder.bitcast(power, v.integer)
            if new is not None:
                bits = builder.and_(bits, new)
            one = builder.icmp_signed("==", bits, v.one)
            below = builder.and_(bits, builder.not_(builder.sext(one, v.integer)))
            before = builder.load(others)
            builder.store(builder.fadd(before, builder.bitcast(below, v.real)), others)
            builder.store(builder.add(builder.load(ones), v.count(one, n.type)), ones)

        v.each(n, body)
        total = v.reduce("fadd", builder.load(others), ir.Constant(v.form.real, 0.0))
        return context.make_tuple(builder, signature.return_type, (total, builder.load(ones)))

    return returned, generate


@intrinsic  # type: ignore[untyped-decorator]
def sums(context: Any, x: Any, start: Any, n: Any, m: Any) -> Any:
    """Of exp(x - m): (the sum of those that are not 1, how many are 1)."""
    returned, generate = _sums(x, None)
    return returned(x, types.intp, types.intp, x.dtype), generate


@intrinsic  # type: ignore[untyped-decorator]
def powers(context: Any, x: Any, start: Any, n: Any, m: Any, e: Any) -> Any:
    """The same, and exp(x - m) into ``e`` at the same indices."""
    returned, generate = _sums(x, e)
    return returned(x, types.intp, types.intp, x.dtype, e), generate


@intrinsic  # type: ignore[untyped-decorator]
def scale(context: Any, x: Any, start: Any, n: Any, factor: Any) -> Any:
    """Multiply ``x[start : start + n]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, x.dtype)
        at, n = v.pointer(x, arguments[0], arguments[1]), arguments[2]
        by = v.spread(arguments[3])
        # the last vector shares numbers with the one before, and takes them as they were
        last = at(builder.sub(n, n.type(v.lanes)))
        before = v.load(last)
        whole = builder.and_(n, n.type(-v.lanes))
        with cgutils.for_range_slice(builder, n.type(0), whole, n.type(v.lanes), n.type) as (i, _):
            v.store(builder.fmul(v.load(at(i)), by), at(i))
        v.store(builder.fmul(before, by), last)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, x.dtype), generate


@intrinsic  # type: ignore[untyped-decorator]
def apart(context: Any, x: Any, start: Any, n: Any, m: Any, log: Any, y: Any) -> Any:
    """(x - m) - log into ``y`` at the same indices."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, x.dtype)
        array, start, n, m, log, out = arguments
        at, into = v.pointer(x, array, start), v.pointer(y, out, start)
        top, less = v.spread(m), v.spread(log)

        def body(i: Any, new: Any) -> None:
            v.store(builder.fsub(builder.fsub(v.load(at(i)), top), less), into(i))

        v.each(n, body)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, x.dtype, x.dtype, y), generate


def _total(x: Any, y: Any) -> tuple[Any, Callable[..., Any]]:
    """The type and the code of the sum of ``x``, or of its products with ``y`` less a number if that is an array."""
    kind = x.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, kind)
        start, n = arguments[1], arguments[2]
        at = v.pointer(x, arguments[0], start)
        beside, less = (None, None) if y is None else (v.pointer(y, arguments[3], start), v.spread(arguments[4]))
        total = v.variable(v.all(0.0))

        def body(i: Any, new: Any) -> None:
            terms = v.load(at(i))
            if beside is not None:
                terms = builder.fmul(terms, builder.fsub(v.load(beside(i)), less))
            if new is not None:
                terms = builder.bitcast(builder.and_(builder.bitcast(terms, v.integer), new), v.real)
            builder.store(builder.fadd(builder.load(total), terms), total)

        v.each(n, body)
        return v.reduce("fadd", builder.load(total), ir.Constant(v.form.real, 0.0))

    return kind, generate


@intrinsic  # type: ignore[untyped-decorator]
def sum_of(context: Any, x: Any, start: Any, n: Any) -> Any:
    """The sum of ``x[start : start + n]``."""
    returned, generate = _total(x, None)
    return returned(x, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def dot(context: Any, x: Any, start: Any, n: Any, y: Any, less: Any) -> Any:
    """The sum of its products with ``y - less`` at the same indices."""
    returned, generate = _total(x, y)
    return returned(x, types.intp, types.intp, y, x.dtype), generate


def _written(x: Any, c: Any, out: Any, count: int, formula: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    """The type and the code of ``formula(vectors, x, c, *numbers)`` into ``out``, of ``count`` numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, x.dtype)
        start, n = arguments[1], arguments[2]
        places = [v.pointer(k, arguments[i], start) for k, i in ((x, 0), (c, 3), (out, -1))]
        numbers = [v.spread(each) for each in arguments[4:-1]]

        def body(i: Any, new: Any) -> None:
            at, beside, into = (place(i) for place in places)
            v.store(formula(v, v.load(at), v.load(beside), *numbers), into)

        v.each(n, body)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, c, *[x.dtype] * count, out), generate


@intrinsic  # type: ignore[untyped-decorator]
def pulled(context: Any, p: Any, start: Any, n: Any, c: Any, less: Any, mean: Any, out: Any) -> Any:
    """P ((c - less) - mean) into ``out``."""
    return _written(p, c, out, 2, lambda v, p, c, a, m: v.builder.fmul(p, v.builder.fsub(v.builder.fsub(c, a), m)))


@intrinsic  # type: ignore[untyped-decorator]
def pulled_log(context: Any, p: Any, start: Any, n: Any, c: Any, total: Any, out: Any) -> Any:
    """C - exp(p) total into ``out``."""
    return _written(p, c, out, 1, lambda v, p, c, t: v.builder.fsub(c, v.builder.fmul(v.exp(p), t)))


@intrinsic  # type: ignore[untyped-decorator]
def log1p(context: Any, x: Any) -> Any:
    """Turn ``x``, of a whole number of vectors and nowhere below 0, into log(1 + x)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, x.dtype)
        n = context.make_array(x)(context, builder, arguments[0]).nitems
        at = v.pointer(x, arguments[0], n.type(0))
        v.each(n, lambda i, new: v.store(v.log1p(v.load(at(i))), at(i)))
        return context.get_dummy_value()

    return types.void(x), generate
