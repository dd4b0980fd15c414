"""Vectors of samples: what numba's loops of the linear model with few classes are made of, in LLVM's instructions.

Logits come with the classes in the lanes, since a sample's number times a row of weights needs no rearrangement of X;
they are then transposed in registers, so that a softmax is done for as many samples as a vector has lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .columns import Columns, in_order
from .transpose import transpose_blocks
from .vectors import Vectors

_DOUBLE, _INT64 = ir.DoubleType(), ir.IntType(64)
#: Samples whose logits are summed up at once.
_SAMPLES = 8
#: Classes and vectors of features of a tile of the gradient.
CLASSES, FEATURES = (4, 2), 4


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


@intrinsic  # type: ignore[untyped-decorator]
def logits(
    context: Any, x: Any, start: Any, m: Any, w: Any, first: Any, b: Any, first_b: Any, z: Any, into: Any, stride: Any
) -> Any:
    """Of a vector of samples and one of classes, class first.

    Samples of ``m`` numbers from ``x[start]`` on; weights, a vector of classes for each feature, from ``w[first]`` on;
    those without a feature at ``b[first_b]``; into ``z[into]``, ``z[into + stride]`` and so on.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, x.dtype)
        array, start, m, w_array, first, b_array, first_b, z_array, into, stride = arguments
        data = context.make_array(x)(context, builder, array).data
        weights, bias = v.pointer(w, w_array, first), v.pointer(b, b_array, first_b)
        out = v.pointer(z, z_array, into)
        one = m.type(1)
        all_sums = []
        for part in range(0, v.lanes, _SAMPLES):
            samples = [
                builder.gep(data, [builder.add(start, builder.mul(m, m.type(part + i)))]) for i in range(_SAMPLES)
            ]
            none = v.load(bias(m.type(0)))
            sums = [v.variable(none) for _ in samples]
            for place in sums:
                builder.store(none, place)
            with cgutils.for_range_slice(builder, m.type(0), m, one, m.type) as (j, _):
                weight = v.load(weights(builder.mul(j, m.type(v.lanes))))
                for sample, place in zip(samples, sums, strict=True):
                    number = v.spread(builder.load(builder.gep(sample, [j])))
                    builder.store(_fused(builder, number, weight, builder.load(place)), place)
            all_sums += [builder.load(place) for place in sums]
        for c, vector in enumerate(transpose_blocks(v, all_sums)):
            v.store(vector, out(builder.mul(stride, stride.type(c))))
        return context.get_dummy_value()

    index = types.intp
    return types.void(x, index, index, w, index, b, index, z, index, index), generate


def losses_of(width: int, slopes: bool) -> Any:
    """The code of the losses of ``width`` vectors of samples, and of their gradient where ``slopes`` are wanted.

    Its arguments: logits, where the first is, how far the next class's are, how many classes; labels, and where the
    first is; weights likewise; the label to ignore, and whether there is one; what the gradient is multiplied by; the
    losses and where the first goes; the gradient, likewise; how many samples were there before.
    It returns the sum of the other losses, and whether a sample that does not count has logits that are not finite.
    """
    returned = types.Tuple((types.float64, types.boolean))

    def work(
        context: Any,
        x: Any,
        at: Any,
        stride: Any,
        k: Any,
        labels: Any,
        labels_at: Any,
        weights: Any,
        weights_at: Any,
        ignored: Any,
        ignores: Any,
        factor: Any,
        out: Any,
        out_at: Any,
        grad: Any,
        grad_at: Any,
        old: Any,
    ) -> Any:
        kinds = x, labels, weights, out, grad

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            total, odd = _losses(Vectors(context, builder, x.dtype), kinds, arguments, width, slopes)
            return context.make_tuple(builder, signature.return_type, (total, odd))

        n = types.intp
        return returned(
            x, n, n, n, labels, n, weights, n, types.int64, types.boolean, x.dtype, out, n, grad, n, n
        ), generate

    return intrinsic(work)


def _losses(v: Vectors, kinds: Any, arguments: Any, width: int, slopes: bool) -> tuple[Any, Any]:
    builder = v.builder
    x, labels, weights, out, grad = kinds
    (
        x_array, at, stride, k, y_array, labels_at, w_array, weights_at, ignored, ignores, factor, out_array, out_at,
        g_array, grad_at, old,
    ) = arguments  # fmt: skip
    logit_at, slope_at = v.pointer(x, x_array, at), v.pointer(grad, g_array, grad_at)
    weight_at, loss_at = v.pointer(weights, w_array, weights_at), v.pointer(out, out_array, out_at)
    label_at = builder.gep(v.context.make_array(labels)(v.context, builder, y_array).data, [labels_at])
    zero, one, nan = v.all(0.0), v.all(1.0), v.all(float("nan"))
    columns = Columns(v, k, stride, width)
    offsets, variables, change = columns.offsets, columns.variables, columns.change
    wide = ir.VectorType(_INT64, v.lanes)
    numbers = [
        builder.load(builder.bitcast(builder.gep(label_at, [offset]), wide.as_pointer()), align=8) for offset in offsets
    ]
    # below 0 is far above as an unsigned number
    outside = [builder.icmp_unsigned(">=", number, v.spread(k)) for number in numbers]
    own_class = [builder.trunc(number, v.integer) if v.bits < 64 else number for number in numbers]
    shares = [v.load(weight_at(offset)) for offset in offsets]
    dead = [
        builder.or_(
            builder.and_(builder.icmp_signed("==", number, v.spread(ignored)), v.spread(ignores)),
            builder.fcmp_ordered("==", weight, zero),
        )
        for number, weight in zip(numbers, shares, strict=True)
    ]

    def of_class(c: Any, body: Callable[[int, Any, Any], None]) -> None:
        number = v.spread(builder.trunc(c, v.form.integer) if v.bits < 64 else c)
        columns.of_class(c, lambda index, i: body(i, index, builder.icmp_signed("==", own_class[i], number)))

    def classes(body: Callable[[int, Any, Any], None]) -> None:
        with cgutils.for_range_slice(builder, k.type(0), k, k.type(1), k.type) as (c, _):
            of_class(c, body)

    tops, owns = variables(v.all(float("-inf"))), variables(zero)

    def find(i: int, index: Any, mine: Any) -> None:
        z = v.load(logit_at(index))
        change(tops[i], lambda top: builder.select(builder.fcmp_ordered(">", z, top), z, top))
        change(owns[i], lambda own: builder.select(mine, z, own))

    classes(find)
    most = columns.loaded(tops)
    parts, ones, powers = variables(zero), variables(v.all(-1.0)), variables(zero)

    def add(i: int, index: Any, mine: Any) -> None:
        e = v.exp(builder.fsub(v.load(logit_at(index)), most[i]))
        if slopes:
            v.store(e, slope_at(index))
        is_one = builder.fcmp_ordered("==", e, one)
        change(parts[i], lambda part: builder.fadd(part, builder.select(is_one, zero, e)))
        change(ones[i], lambda count: builder.fadd(count, builder.select(is_one, one, zero)))
        change(powers[i], lambda power: builder.select(mine, e, power))

    others = columns.sums(lambda c: of_class(c, add), parts, in_order(v.bits // 8), wide=True)
    rests = columns.plus(others, columns.loaded(ones))
    total, odd = ir.Constant(_DOUBLE, 0.0), ir.Constant(ir.IntType(1), 0)
    scales, lesses = [], []
    for i, offset in enumerate(offsets):
        # the sum without one of the largest: nothing small is added to 1
        rest = rests[i]
        own, top, weight = builder.load(owns[i]), most[i], shares[i]
        log = v.log1p(rest)
        at_top = builder.fcmp_ordered("==", own, top)
        loss = builder.select(at_top, log, builder.fadd(builder.fsub(top, own), log))
        loss = builder.select(outside[i], nan, builder.fmul(loss, weight))
        loss = builder.select(dead[i], zero, loss)
        v.store(loss, loss_at(offset))
        lane = ir.Constant(wide, [i * v.lanes + number for number in range(v.lanes)])
        new = builder.select(builder.icmp_signed(">=", lane, v.spread(old)), loss, zero)
        terms = builder.fpext(new, ir.VectorType(_DOUBLE, v.lanes)) if v.bits < 64 else new
        total = builder.fadd(total, _sum(builder, v.lanes, terms))
        endless = v.count(builder.and_(dead[i], v.is_infinite(top)), k.type)
        odd = builder.or_(odd, builder.icmp_signed("!=", endless, k.type(0)))
        if slopes:
            whole = builder.fadd(one, rest)
            share = builder.fdiv(builder.fmul(weight, v.spread(factor)), whole)
            scales.append(builder.select(outside[i], nan, share))
            left = builder.select(at_top, rest, builder.fsub(whole, builder.load(powers[i])))
            lesses.append(builder.fneg(left))

    def slope(i: int, index: Any, mine: Any) -> None:
        g = builder.fmul(builder.select(mine, lesses[i], v.load(slope_at(index))), scales[i])
        v.store(builder.select(dead[i], zero, g), slope_at(index))

    if slopes:
        classes(slope)
    return total, odd


def _sum(builder: Any, lanes: int, vector: Any) -> Any:
    """Of a vector of doubles."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_DOUBLE, [_DOUBLE, vector.type]), f"llvm.vector.reduce.fadd.v{lanes}f64"
    )
    return builder.call(function, [ir.Constant(_DOUBLE, 0.0), vector], fastmath=("reassoc", "nsz"))


def _tile(classes: int, features: int) -> Any:
    """The code that adds a tile of the gradient."""

    def add(
        context: Any, x: Any, start: Any, m: Any, n: Any, g: Any, at: Any, stride: Any, total: Any, into: Any, row: Any
    ) -> Any:
        kind = x.dtype

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            v = Vectors(context, builder, kind)
            array, start, m, n, g_array, at, stride, t_array, into, row = arguments
            numbers = v.pointer(x, array, start)
            slopes = context.make_array(g)(context, builder, g_array).data
            firsts = [builder.gep(slopes, [builder.add(at, builder.mul(stride, at.type(c)))]) for c in range(classes)]
            zero = v.all(0.0)
            places = [[v.variable(zero) for _ in range(features)] for _ in range(classes)]
            for some in places:
                for place in some:
                    builder.store(zero, place)
            with cgutils.for_range_slice(builder, n.type(0), n, n.type(1), n.type) as (i, _):
                sample = builder.mul(i, m)
                vectors = [v.load(numbers(builder.add(sample, m.type(f * v.lanes)))) for f in range(features)]
                for first, some in zip(firsts, places, strict=True):
                    slope = v.spread(builder.load(builder.gep(first, [i])))
                    for vector, place in zip(vectors, some, strict=True):
                        builder.store(_fused(builder, slope, vector, builder.load(place)), place)
            data = context.make_array(total)(context, builder, t_array).data
            double = ir.VectorType(_DOUBLE, v.lanes)
            for c, some in enumerate(places):
                for f, place in enumerate(some):
                    index = builder.add(builder.add(into, builder.mul(row, row.type(c))), row.type(f * v.lanes))
                    out = builder.bitcast(builder.gep(data, [index]), double.as_pointer())
                    terms = builder.load(place)
                    terms = builder.fpext(terms, double) if v.bits < 64 else terms
                    builder.store(builder.fadd(builder.load(out, align=8), terms), out, align=8)
            return context.get_dummy_value()

        index = types.intp
        return types.void(x, index, index, index, g, index, index, total, index, index), generate

    return intrinsic(add)


#: By (classes, vectors of features): add the products of slopes and samples to a tile of the gradient. Arguments: the
#: numbers, where the first sample's are, how many a sample has, how many samples; the slopes, where the first class's
#: are, how far the next one's; the sum of double precision, where the tile is, how far the next class.
TILES = {(c, f): _tile(c, f) for c in CLASSES for f in range(1, FEATURES + 1)}
