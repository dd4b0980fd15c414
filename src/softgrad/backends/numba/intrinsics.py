"""Rows of contiguous arrays, in LLVM's instructions: what numba's loops over rows are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .vectors import INT32, Vectors


def log_softmax_slope(v: Vectors, log_p: Any, c: Any, sure: Any, others: Any, total: Any) -> Any:
    """``c - p total``; at a probability near 1 ``c (1 - p) - p others``, with the sum of the other cotangents."""
    builder, p = v.builder, v.exp(log_p)
    own = builder.fadd(builder.fmul(c, v.expm1(log_p)), builder.fmul(p, others))
    return builder.select(sure, builder.fsub(v.all(0.0), own), builder.fsub(c, builder.fmul(p, total)))


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
        key = v.largest(builder.load(most))
        first = builder.insert_element(ir.Constant(v.integer, ir.Undefined), key, INT32(0))
        return builder.extract_element(builder.bitcast(v.ordered(first), v.real), INT32(0))

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
        total = v.sum(builder.load(others))
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
    """``(x - m) - log`` into ``y`` at the same indices."""

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


def _total(x: Any, c: int, formula: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    """The type and the code of the sum of ``formula(vectors, x, *numbers)``; with argument ``c`` as ``x`` if not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, x.dtype)
        start, n = arguments[1], arguments[2]
        places = [v.pointer(signature.args[i], arguments[i], start) for i in ((0, c) if c else (0,))]
        numbers = [v.spread(each) for each in arguments[2 + len(places) :]]
        total = v.variable(v.all(0.0))

        def body(i: Any, new: Any) -> None:
            terms = formula(v, *(v.load(at(i)) for at in places), *numbers)
            if new is not None:
                terms = builder.bitcast(builder.and_(builder.bitcast(terms, v.integer), new), v.real)
            builder.store(builder.fadd(builder.load(total), terms), total)

        v.each(n, body)
        return v.sum(builder.load(total))

    return x.dtype, generate


@intrinsic  # type: ignore[untyped-decorator]
def sum_of(context: Any, x: Any, start: Any, n: Any) -> Any:
    """The sum of ``x[start : start + n]``."""
    returned, generate = _total(x, 0, lambda v, x: x)
    return returned(x, types.intp, types.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def dot(context: Any, x: Any, start: Any, n: Any, y: Any, less: Any) -> Any:
    """The sum of its products with ``y - less`` at the same indices."""
    returned, generate = _total(x, 3, lambda v, x, y, a: v.builder.fmul(x, v.builder.fsub(y, a)))
    return returned(x, types.intp, types.intp, y, x.dtype), generate


@intrinsic  # type: ignore[untyped-decorator]
def sum_but(context: Any, p: Any, start: Any, n: Any, c: Any, most: Any) -> Any:
    """The sum of ``c`` at the same indices but where ``p`` is ``most``."""

    def formula(v: Vectors, p: Any, c: Any, most: Any) -> Any:
        return v.builder.select(v.builder.fcmp_ordered("==", p, most), v.all(0.0), c)

    returned, generate = _total(p, 3, formula)
    return returned(p, types.intp, types.intp, c, p.dtype), generate


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
def write_softmax_vjp(context: Any, p: Any, start: Any, n: Any, c: Any, less: Any, mean: Any, out: Any) -> Any:
    """``p ((c - less) - mean)`` into ``out``."""
    return _written(p, c, out, 2, lambda v, p, c, a, m: v.builder.fmul(p, v.builder.fsub(v.builder.fsub(c, a), m)))


@intrinsic  # type: ignore[untyped-decorator]
def write_log_softmax_vjp(
    context: Any, p: Any, start: Any, n: Any, c: Any, most: Any, others: Any, total: Any, out: Any
) -> Any:
    """``log_softmax_slope`` into ``out``, with the sure probability where ``p`` is ``most``."""

    def formula(v: Vectors, p: Any, c: Any, most: Any, others: Any, total: Any) -> Any:
        return log_softmax_slope(v, p, c, v.builder.fcmp_ordered("==", p, most), others, total)

    return _written(p, c, out, 3, formula)


@intrinsic  # type: ignore[untyped-decorator]
def write_unsure_vjp(context: Any, p: Any, start: Any, n: Any, c: Any, total: Any, out: Any) -> Any:
    """The same where none is sure."""
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
