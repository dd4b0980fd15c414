"""High precision: the same bits on every library, and digits where nearly all of a sum cancels."""

import contextlib
import math

import array_api_compat.numpy as np_compat
import mpmath
import numpy as np
import pytest

import same_bits_libraries as libraries
import softgrad as sg
from accuracy._families import PLAIN
from accuracy._formats import FORMATS
from softgrad._kernels import double_double as dd
from softgrad._kernels.high import ERROR
from softgrad._kernels.wide import Wide, WideNamespace
from softgrad.backends.numpy.blocks import unsure

BITS = 400
#: Which libraries compute rows again where high precision needs it, outside of a trace.
SETTLED = ("numpy", "torch", "array_api_strict", "dask", "cupy", "jax")


def ulps(got, exact):
    """The largest distance, in units in the last place of the exact float64."""
    units = [mpmath.mpf(float(np.spacing(abs(float(e))))) for e in exact]
    return max(float(abs(mpmath.mpf(float(g)) - e) / u) for g, e, u in zip(got, exact, units, strict=True))


def exact_sum(x, b=None):
    b = np.ones_like(x) if b is None else b
    return mpmath.fsum(mpmath.mpf(f) * mpmath.exp(mpmath.mpf(v)) for f, v in zip(b.tolist(), x.tolist(), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("group", libraries.GROUPS)
def test_the_bits_are_those_of_numpy(group, dtype, backend, library):
    if not library.has_dtype(dtype):
        pytest.skip("no such dtype")
    first, subject = libraries.Subject("numpy"), libraries.Subject("generic" if backend == "numpy" else backend)
    form, tally = FORMATS[dtype], libraries.Tally()
    # elsewhere a part of the families for each group, in turn
    step = {"numpy": 1, "cupy": 6}.get(backend, 3)
    for family in PLAIN[list(libraries.GROUPS).index(group) % step :: step]:
        host = libraries.batch(family, form, 5, 1, 100 if backend == "cupy" else 400)
        expected = first.run(group, host, dtype)
        for name, result in subject.run(group, host, dtype).items():
            libraries.compare(result, expected[name], form, tally, f"{family.__name__}, {name}")
    assert tally.values
    assert not tally.differ, tally.example
    assert not tally.flushed


@pytest.mark.parametrize("function", ["kl_divergence", "js_divergence", "kl_divergence_grad"])
def test_divergences_are_rounded_once_to_half_precision(function, library):
    if not library.has_dtype("float16"):
        pytest.skip("no such dtype")
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(4000, 7)) * rng.choice([0.01, 1, 50], size=(4000, 1))).astype("float16")
    y = (x + rng.normal(size=x.shape) * rng.choice([0.1, 40], size=(4000, 1))).astype("float16")
    options = {"reduction": "none", "precision": "high"}
    expected = getattr(sg, function)(x.astype("float64"), y.astype("float64"), **options).astype("float16")
    got = getattr(sg, function)(library.asarray(x, "float16"), library.asarray(y, "float16"), **options)
    np.testing.assert_array_equal(library.to_numpy(got), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_near_a_tie_have_the_bits_of_numpy_on_jax_without_float64(dtype, jax):
    first, subject = libraries.Subject("numpy"), libraries.Subject("jax in 32 bits")
    form, tally = FORMATS[dtype], libraries.Tally()
    for family in (family for family in PLAIN if family.__name__ in ("near_zero", "certain", "near_ties")):
        host = libraries.batch(family, form, 12, 3, 2000)
        for group in ("dense", "b", "loss, distribution", "loss, class_weight"):
            expected = first.run(group, host, dtype)
            for name, result in subject.run(group, host, dtype).items():
                libraries.compare(result, expected[name], form, tally, f"{family.__name__}, {name}")
    assert tally.values
    assert not tally.differ + tally.flushed, tally.example


@pytest.mark.libraries("numpy")
def test_the_comparison_sees_a_bit_and_a_sign():
    tally = libraries.Tally()
    a = np.asarray([1.0, 0.0, np.nan], "float32")
    libraries.compare(a, a.copy(), FORMATS["float32"], tally, "")
    assert (tally.differ, tally.flushed) == (0, 0)
    libraries.compare(np.asarray([1.0, -0.0, np.inf], "float32"), a, FORMATS["float32"], tally, "")
    libraries.compare(np.nextafter(a, np.float32(9)), a, FORMATS["float32"], tally, "")
    assert tally.differ == 3 + 1


@pytest.mark.libraries(*set(SETTLED) - {"jax"})
@pytest.mark.parametrize("k", [2, 8, 20])
def test_a_logarithm_that_rounds_to_0_keeps_its_sign(k, library, to_numpy):
    x = library.asarray([[0.0, *[-744.4] * (k - 1)]], "float32")
    for kernels in (contextlib.nullcontext(), sg.backends.use("generic")):
        with kernels:
            assert np.signbit(to_numpy(sg.log_softmax(x, precision="high"))).all()


@pytest.mark.libraries("numpy")
def test_a_result_beside_a_tie_is_rounded_to_its_side():
    # x - log(1 + e**x) is x less 2**-26 of it, and x lies halfway between two float32 numbers for the first difference
    x = np.asarray([[0.0, -34.103426], [2.0**-24, -40.0]], np.float32)
    x = np.concatenate([x, x + np.float32(1)])
    with mpmath.workprec(BITS):
        for row, got in zip(x, sg.log_softmax(x, precision="high"), strict=True):
            log_sum = mpmath.log(exact_sum(row.astype(np.float64)))
            expected = [mpmath.mpf(float(v)) - log_sum for v in row]
            for g, e in zip(got, expected, strict=True):
                assert abs(mpmath.mpf(float(g)) - e) <= mpmath.mpf(float(np.spacing(np.abs(g)))) / 2


@pytest.mark.libraries(*SETTLED)
@pytest.mark.parametrize("k", [3, 12, 100])
def test_the_log_sum_exp_of_a_distributions_logarithms_has_its_digits(k, library, to_numpy):
    x = np.log(np.random.default_rng(k).dirichlet(np.ones(k), 8))
    got = to_numpy(sg.logsumexp(library.asarray(x), axis=-1, precision="high"))
    with mpmath.workprec(BITS):
        assert ulps(got, [mpmath.log(exact_sum(row)) for row in x]) <= 2


@pytest.mark.libraries(*SETTLED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_terms_that_cancel_leave_a_logarithm_its_digits(dtype, library, to_numpy):
    rng = np.random.default_rng(0)
    x, b = rng.normal(size=(24, 7)).astype(dtype), rng.normal(size=(24, 7)).astype(dtype)
    # all terms twice, of both signs, and a last one down to 2**-90 of them
    last = np.linspace(-0.3, -90 * math.log(2), 24)[:, None]
    x = np.concatenate([x, x[:, ::-1], last], axis=1).astype(dtype)
    b = np.concatenate([b, -b[:, ::-1], np.ones((24, 1))], axis=1).astype(dtype)
    got, sign = sg.logsumexp(
        library.asarray(x, dtype), axis=-1, b=library.asarray(b, dtype), return_sign=True, precision="high"
    )
    with mpmath.workprec(BITS):
        sums = [exact_sum(*(a.astype(np.float64) for a in pair)) for pair in zip(x, b, strict=True)]
        exact = [mpmath.log(abs(s)) for s in sums]
        got = to_numpy(got)
        assert (to_numpy(sign) == [float(mpmath.sign(s)) for s in sums]).all()
        if dtype == "float32":
            assert (got == np.asarray([float(e) for e in exact], np.float32)).all()
        else:
            assert ulps(got, exact) <= 2


@pytest.mark.libraries(*SETTLED)
def test_terms_that_cancel_whole_are_nothing(library, to_numpy):
    x, b = library.asarray([[1.0, 2.0, 1.0, 2.0]]), library.asarray([[1.0, 3.0, -1.0, -3.0]])
    value, sign = sg.logsumexp(x, axis=-1, b=b, return_sign=True, precision="high")
    assert to_numpy(value).tolist() == [-math.inf]
    assert to_numpy(sign).tolist() == [0.0]


@pytest.mark.libraries("numpy")
def test_all_numbers_near_a_tie_of_half_precision_are_unsure():
    half = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = np.concatenate([(half[:-1] + half[1:]) / 2, [65520.0]])

    def count(numbers):
        return unsure(numbers, ERROR, np.dtype(np.float16), 0).size

    with np.errstate(over="ignore"):
        for near in (0.0, 0.9 * ERROR, -0.9 * ERROR):
            assert count(ties * (1 + near)) == count(-ties * (1 + near)) == ties.size
        for beside in (1.2 * ERROR, -1.2 * ERROR):
            assert count(ties * (1 + beside)) == 0
    assert count(half) == 0


@pytest.mark.libraries("numpy", "torch", "cupy")
@pytest.mark.parametrize(
    ("dtype", "least", "digits", "most"), [("float16", 2.0**-24, 10, 2.0**5), ("bfloat16", 2.0**-133, 7, 2.0**120)]
)
def test_half_precision_is_rounded_once(dtype, least, digits, most, library, to_numpy):
    if not library.has_dtype(dtype):
        pytest.skip("no such dtype")
    # ties of numbers without all digits and of those that have them, the largest too: beyond it is infinity
    tie = np.arange(2.0**digits, 2.0 ** (digits + 1)) + 0.5
    tie = np.concatenate([(tie - 2.0**digits) * least, tie * least * 2.0**10, tie, tie * most])
    unit = np.repeat([least, least * 2.0**10, 1.0, most], 2**digits)
    form = library.asarray([0.0], dtype).dtype
    for off in (0.0, 2.0**-52, -(2.0**-52), 2.0**-26, -(2.0**-26)):
        first = tie * (1 + off)
        for second in (0.0, 2.0**-60, -(2.0**-60)):
            parts = tuple(library.asarray(np.concatenate([a, -a])) for a in (first, second * first))
            side = np.sign((first - tie) + second * first)
            expected = np.where(side == 0, np.rint(tie / unit), np.floor(tie / unit) + (side > 0)) * unit
            expected[expected == 2.0 ** (digits + 1) * most] = np.inf
            with np.errstate(over="ignore"):
                got = to_numpy(dd.rounded(library.xp, parts, form)).astype(np.float64)
            np.testing.assert_array_equal(got, np.concatenate([expected, -expected]))


def _value(number, i):
    return mpmath.fsum(mpmath.mpf(float(part[i])) for part in number.parts)


@pytest.mark.libraries("numpy")
@pytest.mark.parametrize(("count", "digits"), [(2, 84), (3, 120)])
@pytest.mark.parametrize("name", ["exp", "log", "log1p", "expm1", "tanh", "inverse", "square", "power"])
def test_numbers_in_parts_have_their_digits(name, count, digits):
    rng = np.random.default_rng(0)
    space = WideNamespace(np_compat, count)
    a = 10.0 ** rng.uniform(-25, 2.5, 60) * (1 if name in ("log", "power") else rng.choice([-1, 1], 60))
    a = np.where(a < -0.99, -a, a) if name == "log1p" else a
    number = Wide(space, (a, a * 2.0**-54))
    functions = {
        "inverse": (lambda v: 1 / v, lambda v: 1 / v),
        "square": (lambda v: v * v, lambda v: v * v),
        "power": (lambda v: v**0.75, lambda v: v ** mpmath.mpf(0.75)),
    }
    ours, exact = functions.get(name, (getattr(space, name, None), getattr(mpmath, name, None)))
    with mpmath.workprec(BITS):
        got = ours(number)
        for i in range(a.size):
            expected = exact(_value(number, i))
            assert abs(_value(got, i) / expected - 1) < mpmath.mpf(2) ** -digits


@pytest.mark.libraries("numpy")
@pytest.mark.parametrize("count", [2, 3])
def test_numbers_in_parts_know_infinities(count):
    space = WideNamespace(np_compat, count)
    a = space.of(np.asarray([np.inf, -np.inf, np.nan, 0.0, -1e308]))
    with np.errstate(all="ignore"):
        for got, expected in (
            (a + 1, a.parts[0] + 1),
            (a * 2, a.parts[0] * 2),
            (1 / a, 1 / a.parts[0]),
            (space.exp(a), np.exp(a.parts[0])),
            (space.log(a), np.log(a.parts[0])),
            (space.tanh(a), np.tanh(a.parts[0])),
            (space.sum(a, axis=0), a.parts[0].sum()),
        ):
            np.testing.assert_array_equal(got.parts[0], expected)
            assert all((part == 0).all() or np.isfinite(part).all() for part in got.parts[1:])
