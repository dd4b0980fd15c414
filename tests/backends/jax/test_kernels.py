"""JAX's own kernels: the generic ones' numbers, digits kept, memory bounded, compiled once."""

import itertools
import logging
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import oracle
import same_bits
import softgrad as sg
from kernel_cases import close, flat, generic, loss_case
from marks import full, some

pytestmark = pytest.mark.usefixtures("jax", "usual_kernels")

RNG = np.random.default_rng(21)
# sizes on both sides of every threshold: sums in one pass, plain sums, sums in levels
SHAPES = [
    ((5,), 0),
    ((30, 2), 1),
    ((20, 16), 1),
    ((20, 17), -1),
    ((9, 65), 1),
    ((2000, 3), 0),
    ((3, 3000), 1),
    ((4, 7, 9), 1),
    ((7, 40, 3), 0),
    ((4, 1), 1),
    ((0, 4), 1),
    ((3, 5, 0), 1),
]
DENSE = ("softmax", "log_softmax", "logsumexp")
#: What takes the time is to compile: by default a part of the programs, chosen in turn.
each_in_full = pytest.mark.parametrize("each", [False, *full(True)])
BOUND = {"float32": 70, "float64": 500, "float16": 1, "bfloat16": 1}
EPS = {"float32": 2.0**-23, "float64": 2.0**-52, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def doubled(value):
    """On the host in float64, where no operation is compiled; what is no floating array is only brought there."""
    if not hasattr(value, "dtype"):
        return value
    host = np.asarray(value)
    return host.astype("float64") if "float" in str(host.dtype) else host


def ulps(got, exact, dtype):
    """The largest distance from a long double reference, in units of its last place in ``dtype``."""
    unit = EPS[dtype] * 2.0 ** np.floor(np.log2(np.abs(exact)))
    return np.max(np.abs(got.astype(np.longdouble) - exact) / unit)


# --- dense


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
@each_in_full
def test_dense_kernels_agree_with_the_generic_ones(each, shape, axis, dtype, asarray, to_numpy):
    for scale, masked in itertools.product((0.5, 20.0), (False, True)):
        x = asarray(RNG.normal(size=shape) * scale, dtype)
        where = asarray(RNG.random(shape) > 0.3, "bool") if masked else None
        # with and without a mask in turn
        names = DENSE if each else DENSE[(SHAPES.index((shape, axis)) + masked) % 2 :: 2]
        for name in names:
            function = getattr(sg, name)
            got = function(x, axis=axis, where=where)
            assert got.dtype == x.dtype
            assert sg.backends.explain(name, x, axis=axis).backend == "jax"
            # with a single class the contract's log-sum-exp is exact, and so is the tolerance's scale
            close(got, generic(function, doubled(x), axis=axis, where=doubled(where)), 40 * EPS[dtype], to_numpy, name)


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [
        (16, "float64"),
        (1500, "float32"),
        *full(*((k, dtype) for k in (2, 100) for dtype in ("float32", "float64")), (16, "float32"), (1500, "float64")),
    ],
)
def test_a_dominant_class_keeps_its_digits(classes, dtype, jax, asarray, to_numpy):
    gaps = np.array([3.0, 4.5, 8.0, 15.0, 30.0, 60.0, 80.0])
    rows = np.where(RNG.random((len(gaps), classes)) < 0.5, 0.0, RNG.normal(size=(len(gaps), classes)))
    label = classes // 2
    rows[:, label] = rows.max(axis=1) + gaps
    x, labels = asarray(rows, dtype), asarray(np.full(len(gaps), label), "int64")
    exact = to_numpy(x).astype(np.longdouble)
    rest = np.delete(np.exp(exact - exact[:, [label]]), label, axis=1).sum(axis=1)
    top, others, lse = -np.log1p(rest), -rest / (1 + rest), exact[:, label] + np.log1p(rest)
    bound = BOUND[dtype]
    loss = sg.CrossEntropy(reduction="none")
    summed = sg.CrossEntropy(reduction="sum")
    smooth = sg.CrossEntropy(reduction="none", label_smoothing=1e-300)
    at_label = np.zeros((len(gaps), classes))
    at_label[:, label] = 1.0
    unit = asarray(at_label, dtype)
    assert ulps(to_numpy(sg.log_softmax(x))[:, label], top, dtype) <= bound
    assert ulps(to_numpy(sg.logsumexp(x, axis=-1)), lse, dtype) <= 2
    for value in (loss(x, labels), loss.value_and_grad(x, labels)[0], loss(x, unit), smooth(x, labels)):
        assert ulps(to_numpy(value), -top, dtype) <= bound
    for slope in (
        loss.grad(x, labels),
        loss.grad(x, unit),
        smooth.grad(x, labels),
        jax.grad(lambda x: summed(x, labels))(x),
        -jax.vjp(lambda x: sg.log_softmax(x), x)[1](unit)[0],
        -jax.jvp(lambda x: sg.log_softmax(x), (x,), (unit,))[1],
    ):
        assert ulps(to_numpy(slope)[:, label], others, dtype) <= bound
    spread = rest / (1 + rest) / (1 + rest)
    for slope in (
        jax.vjp(lambda x: sg.softmax(x), x)[1](unit)[0],
        jax.jvp(lambda x: sg.softmax(x), (x,), (unit,))[1],
        jax.jvp(jax.grad(lambda x: summed(x, labels)), (x,), (unit,))[1],
        summed.hvp(x, labels, unit),
    ):
        assert ulps(to_numpy(slope)[:, label], spread, dtype) <= 2 * bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 16, 20, 100, 2000])
def test_infinities_and_nans_in_a_normaliser(classes, dtype, asarray, to_numpy):
    inf, nan = np.inf, np.nan
    pairs = np.asarray(
        [(inf, inf), (inf, nan), (nan, inf), (inf, -inf), (-inf, -inf), (-inf, nan), (nan, nan), (1, -inf)]
    )
    x = np.concat([pairs, np.full((len(pairs), classes - 2), -inf)], axis=1)
    expected = [inf, nan, nan, inf, -inf, nan, nan, 1]
    for axis, rows in ((1, x), (0, x.T)):
        np.testing.assert_array_equal(to_numpy(sg.logsumexp(asarray(rows, dtype), axis=axis)), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [5, 20, 2000])
def test_one_bad_row_leaves_the_others_alone(classes, dtype, asarray, to_numpy):
    rows = RNG.normal(size=(10, classes))
    labels = RNG.integers(0, classes, 10)
    bad = rows.copy()
    bad[3, 1], bad[5, 2], bad[7], bad[8, :2] = np.nan, np.inf, -np.inf, (np.nan, np.inf)
    good = np.setdiff1d(np.arange(10), [3, 5, 7, 8])
    x, clean, y = asarray(bad, dtype), asarray(rows, dtype), asarray(labels, "int64")
    for function in (sg.softmax, sg.log_softmax, lambda x: sg.logsumexp(x, axis=-1)):
        got, expected = to_numpy(function(x)), to_numpy(function(clean))
        np.testing.assert_array_equal(got[good], expected[good])
        assert np.isnan(got[[3, 8]]).all()
    assert np.isnan(to_numpy(sg.softmax(x))[[5, 7]]).all()
    np.testing.assert_array_equal(to_numpy(sg.logsumexp(x, axis=-1))[[5, 7]], [np.inf, -np.inf])
    for target in (y, asarray(np.eye(classes)[labels], dtype)):
        loss = sg.CrossEntropy(reduction="none")
        got, expected = loss.value_and_grad(x, target), generic(loss.value_and_grad, doubled(x), doubled(target))
        close(got, expected, 40 * EPS[dtype], to_numpy)


@pytest.mark.parametrize(("classes", "ties"), [(4, 4), (1500, 1500), *full((20, 3), (500, 2))])
def test_equal_largest_logits(classes, ties, jax, asarray, to_numpy):
    row = RNG.normal(size=classes) - 30
    row[:ties] = 1.5
    x = asarray(row)
    tie = -np.log(np.exp(row - 1.5).sum())
    np.testing.assert_allclose(to_numpy(sg.log_softmax(x)), row - 1.5 + tie, rtol=1e-14)
    value, gradient = sg.cross_entropy_value_and_grad(x, asarray(0, "int64"))
    np.testing.assert_allclose(to_numpy(value), -tie, rtol=1e-11)
    np.testing.assert_allclose(to_numpy(gradient)[0], np.expm1(tie), rtol=1e-14)
    direction = asarray(RNG.normal(size=classes))
    p = np.exp(row - 1.5 + tie)
    expected = p * (to_numpy(direction) - p @ to_numpy(direction))
    got = jax.jvp(jax.grad(lambda x: sg.logsumexp(x)), (x,), (direction,))[1]
    np.testing.assert_allclose(to_numpy(got), expected, rtol=1e-12, atol=1e-15)


# --- the loss

OPTIONS = [
    {},
    {"reduction": "none", "z_loss": 0.3},
    {"sample_weight": True, "class_weight": True, "ignore_index": -100, "z_loss": 0.1},
    {"label_smoothing": 0.2, "class_weight": True, "ignore_index": -100, "sample_weight": True, "reduction": "sum"},
    {"where": True, "class_weight": True, "z_loss": 0.1},
    {"where": True, "label_smoothing": 0.1, "reduction": "none"},
    {"dense": True},
    {"dense": True, "class_weight": True, "sample_weight": True, "z_loss": 0.2, "label_smoothing": 0.1},
    {"dense": True, "where": True, "reduction": "none"},
    {"out_of_range": True, "reduction": "none"},
    {"out_of_range": True, "reduction": "none", "label_smoothing": 0.1, "class_weight": True, "ignore_index": -100},
]
METHODS = ("value_and_grad", "hvp", "hessian_diag", "total_weight", "__call__", "grad")
#: Beside value and gradient at once.
IN_TURN = (("hvp",), ("__call__",), ("hvp",), ("hessian_diag",), ("grad", "total_weight"))


# every shape in one dtype, every dtype in one shape: what takes the time is to compile
@pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [
        ((20, 17), -1, "float32"),
        *full(
            ((4, 7, 9), 1, "float32"),
            ((40, 2), 1, "float32"),
            ((20, 17), -1, "float64"),
            ((20, 17), -1, "bfloat16"),
            ((6, 1500), 1, "float32"),
            ((0, 4), 1, "float32"),
        ),
    ],
    ids=str,
)
@each_in_full
def test_loss_kernels_agree_with_the_generic_ones(each, shape, axis, dtype, asarray, to_numpy):
    tolerance = {"float32": 3e-5, "float64": 1e-12, "bfloat16": 2e-2}[dtype]
    for i, options in enumerate(OPTIONS):
        loss, x, target, arguments = loss_case(options, shape, axis, dtype, asarray)
        assert sg.backends.explain("cross_entropy_value_and_grad", x, target, axis=axis).backend == "jax"
        vector = asarray(np.random.default_rng(6).normal(size=shape), dtype)
        fields = {name: getattr(loss, name) for name in loss.__dataclass_fields__}
        exact_loss = sg.CrossEntropy(**fields | {"class_weight": doubled(loss.class_weight)})
        exact_arguments = {name: doubled(value) for name, value in arguments.items()}
        for method in METHODS if each else ("value_and_grad", *IN_TURN[i % len(IN_TURN)]):
            rest, exact_rest = ((vector,), (doubled(vector),)) if method == "hvp" else ((), ())
            got = getattr(loss, method)(x, target, *rest, **arguments)
            expected = generic(getattr(exact_loss, method), doubled(x), doubled(target), *exact_rest, **exact_arguments)
            held = "float32" if (method, dtype) == ("total_weight", "bfloat16") else dtype
            assert all(a.dtype == held for a in flat(got))
            close(got, expected, tolerance, to_numpy, f"{method} {options}")


def test_targets_with_an_infinite_cost(asarray, to_numpy):
    rows = RNG.normal(size=(12, 6))
    rows[:, 1] = -np.inf
    soft = RNG.random((12, 6))
    soft[:8, 1] = 0
    loss = sg.CrossEntropy(reduction="none")
    for target in (asarray(soft), asarray(RNG.integers(0, 3, 12), "int64")):
        x = asarray(rows)
        close(loss.value_and_grad(x, target), generic(loss.value_and_grad, x, target), 1e-12, to_numpy)


def test_a_label_far_below_the_top(asarray, to_numpy):
    # its probability underflows, its loss does not
    rows = RNG.normal(size=(30, 20))
    rows[::7, 3] = -150.0
    x, labels = asarray(rows, "float32"), asarray(np.full(30, 3), "int64")
    expected = to_numpy(generic(sg.CrossEntropy(reduction="none"), doubled(x), doubled(labels)))
    np.testing.assert_allclose(to_numpy(sg.cross_entropy(x, labels, reduction="none")), expected, rtol=3e-6)


# --- the linear model


def linear_case(n, features, classes, dtype, asarray):
    rng = np.random.default_rng(3)
    X, W, bias = (asarray(rng.normal(size=s), dtype) for s in ((n, features), (classes, features), (classes,)))
    return X, asarray(rng.integers(0, classes, n), "int64"), W, bias


@pytest.mark.parametrize(
    ("n", "features", "classes", "dtype"),
    [
        (50, 4, 3, "float32"),
        *full((50, 4, 3, "float64"), (50, 4, 3, "bfloat16"), (5, 0, 4, "float32"), (0, 3, 4, "float32")),
    ],
)
@each_in_full
def test_linear_kernels_agree_with_the_generic_ones(each, n, features, classes, dtype, asarray, to_numpy):
    X, labels, W, bias = linear_case(n, features, classes, dtype, asarray)
    soft = asarray(np.random.default_rng(1).random((n, classes)), dtype)
    third = np.arange(n) % 3 == 0
    ignoring = asarray(np.where(third, -1, to_numpy(labels)), "int64")
    lost = asarray(np.where(third[:, None], np.nan, to_numpy(X)), dtype)
    where = asarray(np.random.default_rng(2).random((n, classes)) > 0.3, "bool")
    by_class = asarray(np.arange(1, classes + 1), dtype)
    cases = [
        (X, labels, bias, {"wrt": ("X", "bias", "W"), "reduction": "sum"}),
        (X, labels, bias, {"sample_weight": asarray(np.arange(n) % 4, dtype), "z_loss": 0.1, "block_size": 7}),
        (lost, ignoring, bias, {"ignore_index": -1, "class_weight": by_class, "wrt": ("X", "W"), "block_size": 10}),
        (lost, ignoring, None, {"ignore_index": -1, "where": where, "wrt": ("W", "X"), "block_size": 8}),
        (X, soft, bias, {"label_smoothing": 0.1, "l2": 0.5, "class_weight": by_class, "block_size": 16}),
        (X, labels, bias, {"classes": [2, 0, 2]}),
    ]
    tolerance = {"float32": 5e-5, "float64": 1e-12, "bfloat16": 3e-2}[dtype]
    for i, (data, target, offset, options) in enumerate(cases):
        given = (data, target, W, offset)
        exact = tuple(map(doubled, given))
        exact_options = {name: doubled(option) for name, option in options.items()}
        got = sg.linear_cross_entropy_value_and_grad(*given, **options)
        expected = generic(sg.linear_cross_entropy_value_and_grad, *exact, **exact_options)
        assert all(a.dtype == X.dtype for a in flat(got))
        close(got, expected, tolerance, to_numpy, f"{options}")
        if "classes" in options:
            continue
        vectors = {"X": X, "W": W, "bias": bias}
        moved = tuple(vectors[name] for name in options.get("wrt", ("W", "bias")))
        if each or i % 2 == 0:
            got = sg.linear_cross_entropy_hvp(*given[:3], moved, offset, **options)
            exact_moved = tuple(map(doubled, moved))
            expected = generic(sg.linear_cross_entropy_hvp, *exact[:3], exact_moved, exact[3], **exact_options)
            close(got, expected, tolerance, to_numpy, f"{options}")
        options.pop("wrt", None)
        # the value alone where there was no second derivative
        for reduction in ("sum", "none") if each else (("sum", "none")[i // 2 % 2],) * (i % 2):
            if reduction == "none" and "l2" in options:
                continue
            kind = {"reduction": reduction}
            got = sg.linear_cross_entropy(*given, **options | kind)
            exact_options.pop("wrt", None)
            expected = generic(sg.linear_cross_entropy, *exact, **exact_options | kind)
            close(got, expected, tolerance, to_numpy, f"{options}")


def program(jax, kind):
    """A function of X, W and bias that a fit would compile."""
    labels = jax.numpy.zeros(2048, "int32")

    def value(X, W, bias):
        return sg.linear_cross_entropy(X, labels, W, bias)

    def naive(X, W, bias):
        return sg.cross_entropy(X @ W.T + bias, labels)

    gradient = jax.grad(value, argnums=(0, 1, 2))
    return {
        "value": value,
        "value and gradient": lambda *a: sg.linear_cross_entropy_value_and_grad(a[0], labels, *a[1:], wrt=("W", "X")),
        "hvp": lambda *a: sg.linear_cross_entropy_hvp(a[0], labels, a[1], a[1:], a[2]),
        "reverse": gradient,
        "forward": lambda *a: jax.jvp(value, a, a),
        "forward over reverse": lambda *a: jax.jvp(gradient, a, a),
        "reverse over reverse": lambda *a: jax.vjp(gradient, *a)[1](a),
        "naive": jax.grad(naive, argnums=(0, 1, 2)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "value and gradient",
        "hvp",
        "reverse",
        "forward over reverse",
        "naive",
        *full("value", "forward", "reverse over reverse"),
    ],
)
def test_memory_of_the_linear_loss_is_bounded(kind, jax):
    # 2048 x 32000 logits in float32 take 250 MiB, a block of them 32 MiB
    arguments = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((2048, 16), (32000, 16), (32000,))]
    compiled = jax.jit(program(jax, kind)).lower(*arguments).compile()
    used = compiled.memory_analysis().temp_size_in_bytes / 2**20
    blocks = {"value": 2, "value and gradient": 3, "reverse": 4, "naive": None}.get(kind, 6)
    assert used > 250 if blocks is None else used < 32 * blocks


# --- compiled


def test_digits_survive_a_compiled_derivative(jax, asarray, to_numpy):
    x, labels = asarray([[40.0, 0.0, -1.0]]), asarray([0], "int64")
    p = oracle.rounded(oracle.softmax(np.array([40.0, 0.0, -1.0])))
    row = np.array([-(p[1] + p[2]), p[1], p[2]])
    gradient = jax.jit(jax.grad(lambda x: sg.cross_entropy(x, labels)))
    np.testing.assert_allclose(to_numpy(gradient(x))[0], row, rtol=1e-13)
    curvature = jax.jit(jax.hessian(lambda x: sg.cross_entropy(x, labels)))(x)
    np.testing.assert_allclose(to_numpy(curvature)[0, 0, 0], -row, rtol=1e-13)


CALLS = {
    "softmax": lambda x, y, W, mask, weight: sg.softmax(x, where=mask),
    "logsumexp": lambda x, y, W, mask, weight: sg.logsumexp(x, axis=-1),
    "loss": lambda x, y, W, mask, weight: sg.cross_entropy_value_and_grad(x, y, z_loss=0.1, class_weight=weight),
    "hvp": lambda x, y, W, mask, weight: sg.cross_entropy_hvp(x, y, x),
    "linear": lambda x, y, W, mask, weight: sg.linear_cross_entropy_value_and_grad(x, y, W, weight, block_size=4),
    "linear hvp": lambda x, y, W, mask, weight: sg.linear_cross_entropy_hvp(x, y, W, W),
}


@pytest.fixture
def draw(asarray):
    """The arrays of a call, other ones for each seed."""

    def make(seed):
        rng = np.random.default_rng(seed)
        return (
            asarray(rng.normal(size=(11, 13)), "float32"),
            asarray(rng.integers(0, 13, 11), "int64"),
            asarray(rng.normal(size=(13, 13)), "float32"),
            asarray(rng.random(13) > 0.3, "bool"),
            asarray(rng.random(13), "float32"),
        )

    return make


@pytest.mark.parametrize("name", some(CALLS, "logsumexp", "loss", "linear hvp"))
def test_a_second_call_compiles_nothing(name, jax, draw, caplog):
    def compiled(seed):
        arrays = draw(seed)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            CALLS[name](*arrays)
        return [record.getMessage() for record in caplog.records if "ompil" in record.getMessage()]

    jax.clear_caches()
    assert compiled(1)
    assert not compiled(2)


@pytest.mark.parametrize("name", CALLS)
def test_no_array_moves_between_host_and_device(name, jax, draw):
    arrays = draw(1)
    with jax.transfer_guard("disallow"), pytest.raises(Exception, match=r"[Dd]isallowed"):
        jax.jit(lambda a: a + 1)(np.ones(3))
    CALLS[name](*arrays)
    with jax.transfer_guard("disallow"):
        CALLS[name](*arrays)
    # what reads a value raises on a tracer, which has none
    jax.eval_shape(CALLS[name], *arrays)


def test_tracers_go_through_the_same_kernels(jax, asarray):
    x, labels = asarray(RNG.normal(size=(3, 4))), asarray([0, 1, 2], "int64")
    told = []

    def function(x):
        told.append(sg.backends.explain("cross_entropy", x, labels).backend)
        return sg.cross_entropy(x, labels)

    jax.jit(jax.grad(function))(x)
    jax.vmap(function)(x[None])
    assert told == ["jax", "jax"]


def test_high_precision_is_numpys_where_nothing_is_traced(jax, asarray):
    x, labels = asarray(RNG.normal(size=(3, 4)), "float32"), asarray([0, 1, 2], "int64")
    told = []

    def function(x, **options):
        told.append(sg.backends.explain("cross_entropy", x, labels, precision="high", **options))
        return sg.cross_entropy(x, labels, precision="high", **options)

    value, gradient = jax.value_and_grad(function)(x)
    same = jax.jit(function)(x), jax.vmap(function, in_axes=(0,))(x[None])[0], function(x, sample_weight=asarray(1.0))
    jax.grad(lambda weight: function(x, sample_weight=weight))(asarray(np.ones(3)))
    with jax.debug_nans(True):
        function(x)
    assert [each.backend for each in told] == ["jax", "jax", "jax", "numpy", "jax", "jax"]
    reasons = [dict(each.declined)["jax_cpu"] for each in told[4:]]
    assert reasons == ["a value is traced", "JAX is set to raise an error at NaN or infinities"]
    for other in same:
        np.testing.assert_array_max_ulp(np.asarray(value), np.asarray(other), 1)
    expected = sg.cross_entropy_grad(x, labels, precision="high")
    np.testing.assert_array_max_ulp(np.asarray(gradient), np.asarray(expected), 1)


@pytest.mark.parametrize("bound", [False, True])
def test_high_precision_leaves_arrays_where_they_were(bound, jax):
    x = jax.numpy.asarray(RNG.normal(size=(3, 4)).astype("float32"))
    labels = jax.numpy.asarray([0, 1, 2])
    if bound:
        x = jax.device_put(x, x.device)
    results = (
        sg.softmax(x, precision="high"),
        sg.logsumexp(x, precision="high"),
        *sg.cross_entropy_value_and_grad(x, labels, precision="high", reduction="none"),
    )
    with sg.backends.use("jax"):
        assert sg.softmax(x, precision="high").committed == bound
    for result in results:
        assert (type(result), result.device, result.committed) == (type(x), x.device, bound)
        assert not result.weak_type


def test_without_float64(jax):
    # x64 is off unless asked for, and cannot be changed once arrays exist
    lines = """
        import jax, jax.numpy as jnp, numpy as np
        import softgrad as sg
        x = jnp.asarray([[20.0, 0.0, -1.0], [0.5, 0.25, 0.0]])
        y = jnp.asarray([0, 2])
        rest = np.exp(-20.0) + np.exp(-21.0)
        for precision in (None, "high"):
            loss = sg.CrossEntropy(reduction="none", precision=precision)
            value, gradient = loss.value_and_grad(x, y)
            assert value.dtype == gradient.dtype == jnp.float32
            np.testing.assert_allclose(value[0], np.log1p(rest), rtol=1e-6)
            np.testing.assert_allclose(gradient[0, 0], -rest / (1 + rest), rtol=1e-6)
            slope = jax.jit(jax.grad(lambda x: sg.cross_entropy(x, y, precision=precision, reduction="sum")))(x)
            np.testing.assert_allclose(slope, gradient, rtol=1e-6)
            W = jnp.ones((3, 3)) * jnp.arange(3.0)
            linear = sg.linear_cross_entropy_value_and_grad(x, y, W, jnp.zeros(3), precision=precision, block_size=1)
            naive = jax.value_and_grad(lambda W: sg.cross_entropy(x @ W.T, y, precision=precision))(W)
            np.testing.assert_allclose(linear[0], naive[0], rtol=1e-5)
            np.testing.assert_allclose(linear[1][0], naive[1], rtol=1e-4, atol=1e-6)
            assert sg.linear_cross_entropy_hvp(x, y, W, W, precision=precision).dtype == jnp.float32
        print(sg.backends.explain("cross_entropy", x, y).backend)
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(lines)], capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "jax", run.stderr[-2000:]


def test_with_high_precision_no_program_decides_a_rows_bits():
    case = same_bits.Case("jax", 3, "float64", calm=False, largest=30000)
    with np.errstate(all="ignore"):
        assert not [each for each in case.differences("loss, high", threads=(1,)) if each[2]]
