"""Vectors of samples: what numba's loops of the linear model with few classes are made of, in LLVM's instructions.

Logits come with the classes in the lanes, since a sample's number times a row of weights needs no rearrangement of X;
they are then transposed in registers, so that a softmax is done for as many samples as a vector has lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ._numba_vectors import Vectors

_DOUBLE, _INT64 = ir.DoubleType(), ir.IntType(64)
#: Samples whose logits are summed up at once.
_SAMPLES = 8
#: Classes and vectors of features of a tile of the gradient.
CLASSES, FEATURES = (4, 2), 4


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _transposed(v: Vectors, rows: list[Any]) -> list[Any]:
    """As many vectors as they have lanes, lane for vector: blocks off the diagonal change places, ever smaller ones."""
    size = v.lanes // 2
    while size:
        out = list(rows)
        for i in range(v.lanes):
            if i & size:
                continue
            a, b = rows[i], rows[i + size]
            # numbers from the lanes on are those of the second vector
            first = [lane if not lane & size else v.lanes + lane - size for lane in range(v.lanes)]
            second = [lane + size if not lane & size else v.lanes + lane for lane in range(v.lanes)]
            for place, lanes in ((i, first), (i + size, second)):
                mask = ir.Constant(ir.VectorType(ir.IntType(32), v.lanes), lanes)
                out[place] = v.builder.shuffle_vector(a, b, mask)
        rows, size = out, size // 2
    return rows


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
        for c, vector in enumerate(_transposed(v, all_sums)):
            v.store(vector, out(builder.mul(stride, stride.type(c))))
        return context.get_dummy_value()

    index = types.intp
    return types.void(x, index, index, w, index, b, index, z, index, index), generate


@intrinsic  # type: ignore[untyped-decorator]
def losses(
    context: Any,
    z: Any,
    at: Any,
    stride: Any,
    k: Any,
    labels: Any,
    weights: Any,
    ignored: Any,
    ignores: Any,
    factor: Any,
    out: Any,
) -> Any:
    """Losses of a vector of samples into ``out[at]``; their logits become the gradient times ``factor``.

    Logits from ``z[at]`` on, the next class ``stride`` further; labels and weights from ``at`` on.
    Returns the sum of the losses, and whether a sample that does not count has logits that are not finite.
    """
    kind = z.dtype
    returned = types.Tuple((types.float64, types.boolean))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Vectors(context, builder, kind)
        z_array, at, stride, k, y_array, w_array, ignored, ignores, factor, out_array = arguments
        class_at, into = v.pointer(z, z_array, at), v.pointer(out, out_array, at)
        zero, one, nan = v.all(0.0), v.all(1.0), v.all(float("nan"))
        one_more = k.type(1)

        wide = ir.VectorType(_INT64, v.lanes)
        place = builder.gep(context.make_array(labels)(context, builder, y_array).data, [at])
        label = builder.load(builder.bitcast(place, wide.as_pointer()), align=8)
        # below 0 is far above as an unsigned number
        outside = builder.icmp_unsigned(">=", label, v.spread(k))
        dead = builder.and_(builder.icmp_signed("==", label, v.spread(ignored)), v.spread(ignores))
        own_class = builder.trunc(label, v.integer) if v.bits < 64 else label

        weight = v.load(v.pointer(weights, w_array, at)(at.type(0)))
        dead = builder.or_(dead, builder.fcmp_ordered("==", weight, zero))

        def classes(body: Callable[[Any, Any, Any], None]) -> None:
            with cgutils.for_range_slice(builder, k.type(0), k, one_more, k.type) as (c, _):
                number = builder.trunc(c, v.form.integer) if v.bits < 64 else c
                mine = builder.icmp_signed("==", own_class, v.spread(number))
                body(c, class_at(builder.mul(c, stride)), mine)

        def variable(start: Any) -> Any:
            # in a loop the place is made once, and filled each time
            place = v.variable(start)
            builder.store(start, place)
            return place

        most, own = variable(v.all(float("-inf"))), variable(zero)

        def find(c: Any, where: Any, mine: Any) -> None:
            x, before = v.load(where), builder.load(most)
            builder.store(builder.select(builder.fcmp_ordered(">", x, before), x, before), most)
            builder.store(builder.select(mine, x, builder.load(own)), own)

        classes(find)
        top, own_logit = builder.load(most), builder.load(own)
        others, ones, power = variable(zero), variable(v.all(-1.0)), variable(zero)

        def add(c: Any, where: Any, mine: Any) -> None:
            e = v.exp(builder.fsub(v.load(where), top))
            v.store(e, where)
            is_one = builder.fcmp_ordered("==", e, one)
            builder.store(builder.fadd(builder.load(others), builder.select(is_one, zero, e)), others)
            builder.store(builder.fadd(builder.load(ones), builder.select(is_one, one, zero)), ones)
            builder.store(builder.select(mine, e, builder.load(power)), power)

        classes(add)
        # the sum without one of the largest: nothing small is added to 1
        rest = builder.fadd(builder.load(ones), builder.load(others))
        log = v.log1p(rest)
        at_top = builder.fcmp_ordered("==", own_logit, top)
        loss = builder.select(at_top, log, builder.fadd(builder.fsub(top, own_logit), log))
        loss = builder.select(outside, nan, builder.fmul(loss, weight))
        loss = builder.select(dead, zero, loss)
        v.store(loss, into(at.type(0)))
        whole = builder.fadd(one, rest)
        share = builder.fdiv(builder.fmul(weight, v.spread(factor)), whole)
        share = builder.select(outside, nan, share)
        less = builder.fsub(zero, builder.select(at_top, rest, builder.fsub(whole, builder.load(power))))

        def slope(c: Any, where: Any, mine: Any) -> None:
            g = builder.fmul(builder.select(mine, less, v.load(where)), share)
            v.store(builder.select(dead, zero, g), where)

        classes(slope)
        double = ir.VectorType(_DOUBLE, v.lanes)
        terms = builder.fpext(loss, double) if v.bits < 64 else loss
        total = _sum(builder, v.lanes, terms)
        bits = builder.and_(builder.bitcast(top, v.integer), v.ints((1 << (v.bits - 1)) - 1))
        endless = builder.icmp_signed(">=", bits, v.ints(_infinity(v)))
        odd = builder.icmp_signed("!=", v.count(builder.and_(dead, endless), k.type), k.type(0))
        return context.make_tuple(builder, signature.return_type, (total, odd))

    index = types.intp
    signature = returned(z, index, index, index, labels, weights, types.int64, types.boolean, kind, out)
    return signature, generate


def _infinity(v: Vectors) -> int:
    """Its bits."""
    return ((1 << (v.bits - 1 - v.form.digits)) - 1) << v.form.digits


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
