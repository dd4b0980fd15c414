"""softmax, log_softmax, logsumexp and their derivatives against multiprecision."""

import functools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import oracle
import softgrad as sg

CUBE = np.random.default_rng(7).normal(scale=3.0, size=(2, 3, 4))
AXES = [0, 1, 2, -1, -3, (0, 2), (2, 1), (-1, 0), (0, 1, 2), None]
ROWS = {
    "one class": [[3.5], [-200.0]],
    "two classes": [[0.0, 0.0], [20.0, 0.0], [-3.0, 5.0], [1e-3, -1e-3]],
    "ties": [[2.0, 2.0, 2.0], [5.0, 5.0, -5.0], [-7.0, -7.0, 1.0]],
    "dominant class": [[0.0, -15.0, -20.0, -30.0, -40.0], [60.0, 0.0, 1.0, 2.0, 30.0]],
    "far from zero": [[1000.25, 1001.5, 999.0], [-1000.25, -1001.5, -999.0], [5000.0, 4999.0, 4998.0]],
    "130 classes": np.random.default_rng(11).normal(scale=4.0, size=(2, 130)).astype(np.float32),
}
DEFAULT_ULPS = {"float32": 70, "float64": 500}


@pytest.fixture(params=ROWS)
def rows(request):
    # float32 holds each number, so that one reference serves every width
    return np.asarray(ROWS[request.param], dtype=np.float32).astype(np.float64)


@functools.cache
def _exact(data, shape, log):
    return oracle.softmax(np.frombuffer(data).reshape(shape), log=log)


def exact(rows, log):
    """The softmax of rows or its logarithm, computed once for all widths."""
    return _exact(rows.tobytes(), rows.shape, log)


# --- values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
def test_value_is_within_the_goal(log, dtype, rows, asarray, to_numpy):
    result = (sg.log_softmax if log else sg.softmax)(asarray(rows, dtype))
    assert oracle.ulps(to_numpy(result), exact(rows, log), dtype) <= DEFAULT_ULPS[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logsumexp_is_within_two_ulps(dtype, rows, asarray, to_numpy):
    result = sg.logsumexp(asarray(rows, dtype), axis=-1)
    assert oracle.ulps(to_numpy(result), oracle.logsumexp(rows, axis=-1), dtype) <= 2


@pytest.mark.parametrize(("dtype", "goal"), [("float32", 0.51), ("float64", 6)])
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
def test_high_precision_is_within_its_goal(log, dtype, goal, rows, asarray, to_numpy):
    result = (sg.log_softmax if log else sg.softmax)(asarray(rows, dtype), precision="high")
    assert oracle.ulps(to_numpy(result), exact(rows, log), dtype) <= goal


@pytest.mark.parametrize(("dtype", "goal"), [("float32", 0.51), ("float64", 2)])
def test_high_precision_logsumexp_is_within_its_goal(dtype, goal, rows, asarray, to_numpy):
    result = sg.logsumexp(asarray(rows, dtype), axis=-1, precision="high")
    assert oracle.ulps(to_numpy(result), oracle.logsumexp(rows, axis=-1), dtype) <= goal


def test_precision_in_a_context_is_the_argument(asarray, to_numpy):
    x = asarray(ROWS["dominant class"], "float32")
    with sg.precision("high"):
        within = to_numpy(sg.softmax(x))
    np.testing.assert_array_equal(within, to_numpy(sg.softmax(x, precision="high")))


@pytest.mark.parametrize(("dtype", "gap"), [("float32", 20.0), ("float64", 40.0), ("float64", 700.0)])
def test_top_class_keeps_its_digits(dtype, gap, asarray, to_numpy):
    expected = float(mpmath.log1p(mpmath.exp(-gap)))
    rtol = {"float32": 1e-5, "float64": 2e-13}[dtype]
    x = asarray([[gap, 0.0], [0.0, gap]], dtype)
    top = to_numpy(sg.log_softmax(x))[[0, 1], [0, 1]]
    np.testing.assert_allclose(top, -expected, rtol=rtol)
    # with the maximum at 0 nothing hides the tail of the logsumexp
    tail = to_numpy(sg.logsumexp(asarray([[0.0, -gap], [-gap, 0.0]], dtype), axis=-1))
    np.testing.assert_allclose(tail, expected, rtol=rtol)


@pytest.mark.parametrize("axis", [0, 1])
def test_long_axis_loses_no_digits(axis, asarray, to_numpy):
    n = 100_000
    x = np.zeros((n, 2) if axis == 0 else (2, n), dtype=np.float32)
    result = to_numpy(sg.softmax(asarray(x, "float32"), axis=axis))
    np.testing.assert_allclose(result, 1 / n, rtol=70 * 2.0**-24)
    total = to_numpy(sg.logsumexp(asarray(x, "float32"), axis=axis))
    np.testing.assert_allclose(total, np.log(n), rtol=2 * 2.0**-23)


def test_sums_to_one(asarray, to_numpy):
    probs = to_numpy(sg.softmax(asarray(CUBE), axis=(0, 2)))
    np.testing.assert_allclose(np.sum(probs, axis=(0, 2)), 1.0, rtol=1e-14)


def test_extreme_logits_do_not_overflow(asarray, to_numpy):
    x = asarray([[1e300, 0.0, -1e300], [1e308, 1e308, -1e308]])
    np.testing.assert_array_equal(to_numpy(sg.softmax(x)), [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    np.testing.assert_array_equal(to_numpy(sg.logsumexp(x, axis=-1)), [1e300, 1e308])
    # the lowest class lies beyond the largest float64, so that only -inf can stand for it
    result = to_numpy(sg.log_softmax(x))
    np.testing.assert_array_equal(result[0], [0.0, -1e300, -2e300])
    np.testing.assert_allclose(result[1], [-np.log(2.0), -np.log(2.0), -np.inf], rtol=1e-15)


# --- axes


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
def test_axis(log, axis, asarray, to_numpy):
    result = to_numpy((sg.log_softmax if log else sg.softmax)(asarray(CUBE), axis=axis))
    expected = oracle.rounded(oracle.softmax(CUBE, axis=axis, log=log))
    np.testing.assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_logsumexp_axis_and_keepdims(axis, keepdims, asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(CUBE), axis=axis, keepdims=keepdims))
    axes = tuple(range(3)) if axis is None else axis
    assert result.shape == np.sum(CUBE, axis=axes, keepdims=keepdims).shape
    expected = oracle.rounded(oracle.logsumexp(CUBE, axis=axis))
    np.testing.assert_allclose(result, expected.reshape(result.shape), rtol=1e-14)


def test_defaults_of_axis(asarray, to_numpy):
    x = asarray(CUBE)
    np.testing.assert_array_equal(to_numpy(sg.softmax(x)), to_numpy(sg.softmax(x, axis=-1)))
    np.testing.assert_array_equal(to_numpy(sg.log_softmax(x)), to_numpy(sg.log_softmax(x, axis=-1)))
    np.testing.assert_array_equal(to_numpy(sg.logsumexp(x)), to_numpy(sg.logsumexp(x, axis=None)))


# --- where

MASK = np.random.default_rng(3).random((2, 3, 4)) < 0.7


@pytest.mark.parametrize("axis", [-1, 0, (0, 2), None], ids=str)
@pytest.mark.parametrize("mask", [MASK, MASK[0], MASK[:, :1, :], MASK[1, 2]], ids=lambda mask: str(mask.shape))
def test_where_is_broadcast(mask, axis, asarray, to_numpy):
    where = asarray(mask, "bool")
    for function, log in ((sg.softmax, False), (sg.log_softmax, True)):
        expected = oracle.rounded(oracle.softmax(CUBE, axis=axis, where=mask, log=log))
        result = to_numpy(function(asarray(CUBE), axis=axis, where=where))
        np.testing.assert_allclose(result, expected, rtol=1e-13)
    expected = oracle.rounded(oracle.logsumexp(CUBE, axis=axis, where=mask))
    np.testing.assert_allclose(to_numpy(sg.logsumexp(asarray(CUBE), axis=axis, where=where)), expected, rtol=1e-14)


# --- dtype


@pytest.mark.parametrize(("given", "asked"), [("float32", "float64"), ("float64", "float32"), ("int32", "float32")])
def test_dtype_is_converted_before_the_sum(given, asked, xp, asarray, to_numpy):
    x = np.array([[3.0, 1.0, -2.0], [20.0, 0.0, 1.0]])
    for function, log in ((sg.softmax, False), (sg.log_softmax, True)):
        result = function(asarray(x, given), dtype=getattr(xp, asked))
        assert result.dtype == asarray(0.0, asked).dtype
        assert oracle.ulps(to_numpy(result), oracle.softmax(x, log=log), asked) <= DEFAULT_ULPS[asked]
    result = sg.logsumexp(asarray(x, given), axis=-1, dtype=getattr(xp, asked))
    assert result.dtype == asarray(0.0, asked).dtype
    assert oracle.ulps(to_numpy(result), oracle.logsumexp(x, axis=-1), asked) <= 2


@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax, sg.logsumexp])
def test_dtype_must_be_floating(function, xp, asarray):
    with pytest.raises(TypeError, match="dtype"):
        function(asarray([1.0, 2.0]), dtype=xp.int32)


# --- logsumexp: b, return_sign, complex

FACTORS = np.array([[0.5, 2.0, 0.0, 1.5], [3.0, 0.25, 1.0, 0.0], [1e-3, 1.0, 10.0, 2.0]])


@pytest.mark.parametrize("axis", [-1, 1, (0, 1, 2), None], ids=str)
def test_b_scales_the_exponentials(axis, asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(CUBE), axis=axis, b=asarray(FACTORS)))
    np.testing.assert_allclose(result, oracle.rounded(oracle.logsumexp(CUBE, axis=axis, b=FACTORS)), rtol=1e-13)


def test_b_may_be_a_number(asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(CUBE), axis=-1, b=2.5))
    np.testing.assert_allclose(result, oracle.rounded(oracle.logsumexp(CUBE, axis=-1, b=2.5)), rtol=1e-13)


def test_b_and_where_together(asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(CUBE), axis=-1, b=asarray(FACTORS), where=asarray(MASK, "bool")))
    expected = oracle.rounded(oracle.logsumexp(CUBE, axis=-1, b=FACTORS, where=MASK))
    np.testing.assert_allclose(result, expected, rtol=1e-13)


@pytest.mark.parametrize("junk", [np.inf, -np.inf, np.nan])
def test_b_of_zero_hides_what_it_multiplies(junk, asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray([junk, 1.0, 2.0]), b=asarray([0.0, 1.0, 3.0])))
    np.testing.assert_allclose(result, np.log(np.exp(1.0) + 3 * np.exp(2.0)), rtol=1e-14)


def test_negative_sum_is_nan_unless_the_sign_is_asked_for(asarray, to_numpy):
    x, b = asarray([1.0, 2.0, 0.5]), asarray([1.0, -2.0, 0.25])
    total = np.exp(1.0) - 2 * np.exp(2.0) + 0.25 * np.exp(0.5)
    assert np.isnan(to_numpy(sg.logsumexp(x, b=b)))
    log, sign = sg.logsumexp(x, b=b, return_sign=True)
    np.testing.assert_allclose(to_numpy(log), np.log(-total), rtol=1e-14)
    assert to_numpy(sign) == -1.0


def test_sum_of_zero_has_sign_zero(asarray, to_numpy):
    log, sign = sg.logsumexp(asarray([3.0, 3.0]), b=asarray([1.0, -1.0]), return_sign=True)
    assert to_numpy(log) == -np.inf
    assert to_numpy(sign) == 0.0
    assert to_numpy(sg.logsumexp(asarray([3.0, 3.0]), b=asarray([1.0, -1.0]))) == -np.inf


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [-1, (0, 2), None], ids=str)
def test_return_sign_by_axis(axis, keepdims, asarray, to_numpy):
    b = np.where(MASK, 1.0, -1.5)
    x = asarray(CUBE)
    log, sign = sg.logsumexp(x, axis=axis, b=asarray(b), keepdims=keepdims, return_sign=True)
    total = np.sum(b * np.exp(CUBE), axis=axis, keepdims=keepdims)
    assert log.dtype == sign.dtype == x.dtype
    np.testing.assert_array_equal(to_numpy(sign), np.sign(total))
    np.testing.assert_allclose(to_numpy(log), np.log(np.abs(total)), rtol=1e-12, atol=1e-14)


def test_return_sign_without_b_is_one(asarray, to_numpy):
    log, sign = sg.logsumexp(asarray(CUBE), axis=-1, return_sign=True)
    np.testing.assert_array_equal(to_numpy(sign), np.ones((2, 3)))
    np.testing.assert_allclose(to_numpy(log), oracle.rounded(oracle.logsumexp(CUBE, axis=-1)), rtol=1e-14)


COMPLEX = CUBE + 1j * np.random.default_rng(5).uniform(-9.0, 9.0, size=CUBE.shape)


@pytest.fixture
def complex_cube(asarray, has_dtype):
    if not has_dtype("complex128"):
        pytest.skip("no complex128 here")
    return asarray(COMPLEX, "complex128")


@pytest.mark.parametrize("axis", [-1, 0, (0, 2), None], ids=str)
def test_complex_is_the_principal_logarithm(axis, complex_cube, to_numpy):
    expected = np.log(np.sum(np.exp(COMPLEX), axis=axis))
    result = sg.logsumexp(complex_cube, axis=axis)
    assert result.dtype == complex_cube.dtype
    np.testing.assert_allclose(to_numpy(result), expected, rtol=1e-12)


def test_complex_far_from_zero_does_not_overflow(complex_cube, asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(COMPLEX + 2000.0, "complex128"), axis=-1))
    np.testing.assert_allclose(result, np.log(np.sum(np.exp(COMPLEX), axis=-1)) + 2000.0, rtol=1e-12)


def test_complex_sign_is_the_phase(complex_cube, to_numpy):
    log, sign = sg.logsumexp(complex_cube, axis=-1, return_sign=True)
    total = np.sum(np.exp(COMPLEX), axis=-1)
    np.testing.assert_allclose(to_numpy(log), np.log(np.abs(total)), rtol=1e-12)
    np.testing.assert_allclose(to_numpy(sign), total / np.abs(total), rtol=1e-12)


def test_complex_ignores_minus_inf_and_what_where_hides(complex_cube, asarray, to_numpy):
    z = np.array([1.0 + 2.0j, -np.inf + 0.0j, 0.5 - 1.0j, np.nan + 1.0j])
    keep = np.array([True, True, True, False])
    result = to_numpy(sg.logsumexp(asarray(z, "complex128"), where=asarray(keep, "bool")))
    np.testing.assert_allclose(result, np.log(np.exp(z[0]) + np.exp(z[2])), rtol=1e-13)


def test_complex_b(complex_cube, asarray, to_numpy):
    result = to_numpy(sg.logsumexp(complex_cube, axis=-1, b=asarray(FACTORS)))
    np.testing.assert_allclose(result, np.log(np.sum(FACTORS * np.exp(COMPLEX), axis=-1)), rtol=1e-12)


# --- vjp and jvp

SQUARE = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
SEED = np.array([[1.0, -0.5, 0.25, 2.0], [0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 1.0, 0.0]])


def _pulled_back(axis, log):
    def paired(x):
        return mpmath.fsum((oracle.softmax(x, axis=axis, log=log) * oracle.exact(SEED)).ravel())

    return oracle.rounded(oracle.derivative(paired, {"x": SQUARE}, "x"))


def _pushed_forward(axis, log):
    with mpmath.workdps(oracle.DIGITS):
        ahead, behind = (
            oracle.softmax(oracle.exact(SQUARE) + sign * oracle.STEP * oracle.exact(SEED), axis=axis, log=log)
            for sign in (1, -1)
        )
        return oracle.rounded((ahead - behind) / (2 * oracle.STEP))


@pytest.mark.parametrize("axis", [-1, 0, (0, 1)], ids=str)
@pytest.mark.parametrize(
    ("function", "log", "expected"),
    [
        (sg.softmax_vjp, False, _pulled_back),
        (sg.softmax_jvp, False, _pushed_forward),
        (sg.log_softmax_vjp, True, _pulled_back),
        (sg.log_softmax_jvp, True, _pushed_forward),
    ],
    ids=["softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"],
)
def test_derivative_against_multiprecision(function, log, expected, axis, asarray, to_numpy):
    output = oracle.rounded(oracle.softmax(SQUARE, axis=axis, log=log))
    result = function(asarray(output), asarray(SEED), axis=axis)
    np.testing.assert_allclose(to_numpy(result), expected(axis, log), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("log", [False, True], ids=["softmax", "log_softmax"])
def test_derivatives_against_finite_differences_of_the_code(log, asarray, to_numpy):
    function = sg.log_softmax if log else sg.softmax
    jvp, vjp = (sg.log_softmax_jvp, sg.log_softmax_vjp) if log else (sg.softmax_jvp, sg.softmax_vjp)
    h = 1e-5
    jacobian = np.empty((4, 3, 4))
    for j in range(4):
        moved = h * np.eye(4)[j]
        ahead, behind = (
            to_numpy(function(asarray(SQUARE + moved))),
            to_numpy(function(asarray(SQUARE - moved))),
        )
        jacobian[j] = (ahead - behind) / (2 * h)
    output = function(asarray(SQUARE))
    np.testing.assert_allclose(
        to_numpy(jvp(output, asarray(SEED))), np.einsum("jnc,nj->nc", jacobian, SEED), rtol=1e-8, atol=1e-9
    )
    np.testing.assert_allclose(
        to_numpy(vjp(output, asarray(SEED))), np.einsum("jnc,nc->nj", jacobian, SEED), rtol=1e-8, atol=1e-9
    )


# --- any shape, any value


@st.composite
def arrays_and_axes(draw):
    x = draw(
        hnp.arrays(
            np.float64,
            st.sampled_from([(1,), (3,), (2, 3), (2, 1, 3)]),
            elements=st.floats(-800, 800) | st.sampled_from([0.0, -0.0, 1e-300, 5e-324, -745.0, -1e5, 1e5]),
        )
    )
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    return x, axis


@given(arrays_and_axes())
def test_any_array_against_multiprecision(asarray, to_numpy, case):
    x, axis = case
    probs = to_numpy(sg.softmax(asarray(x), axis=axis))
    # 1e-307: below it lie subnormals, which XLA flushes
    np.testing.assert_allclose(probs, oracle.rounded(oracle.softmax(x, axis=axis)), rtol=1.2e-13, atol=1e-307)
    logs = to_numpy(sg.log_softmax(asarray(x), axis=axis))
    expected = oracle.rounded(oracle.softmax(x, axis=axis, log=True))
    np.testing.assert_allclose(logs, expected, rtol=1.2e-13, atol=1e-307)
    total = to_numpy(sg.logsumexp(asarray(x), axis=axis))
    expected = oracle.rounded(oracle.logsumexp(x, axis=axis))
    np.testing.assert_allclose(total, expected, rtol=5e-16, atol=1e-307 + 3e-16 * float(np.max(np.abs(x))))


@given(
    hnp.arrays(np.int64, st.sampled_from([(3,), (2, 3)]), elements=st.integers(-2000, 2000)),
    st.integers(-400, 400),
)
def test_a_shift_moves_logsumexp_alone(asarray, to_numpy, quarters, shift):
    # sums of quarters are exact, so that the two inputs have one exact answer
    x, moved, shift = quarters / 4, (quarters + shift) / 4, shift / 4
    np.testing.assert_allclose(
        to_numpy(sg.softmax(asarray(moved))), to_numpy(sg.softmax(asarray(x))), rtol=1.2e-13, atol=1e-307
    )
    np.testing.assert_allclose(
        to_numpy(sg.logsumexp(asarray(moved), axis=-1)),
        to_numpy(sg.logsumexp(asarray(x), axis=-1)) + shift,
        atol=1e-12,
    )


@given(arrays_and_axes())
def test_probabilities_are_bounded_and_sum_to_one(asarray, to_numpy, case):
    x, axis = case
    probs = to_numpy(sg.softmax(asarray(x), axis=axis))
    assert np.all(probs >= 0)
    assert np.all(probs <= 1)
    np.testing.assert_allclose(np.sum(probs, axis=axis), 1.0, rtol=1e-14)
    assert np.all(to_numpy(sg.log_softmax(asarray(x), axis=axis)) <= 0)


@pytest.mark.parametrize("rows", [3, 30_000])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_two_classes_that_rounding_lifts_above_a_half_keep_their_derivatives(dtype, rows, has_dtype, asarray, to_numpy):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    half = np.nextafter(np.asarray(0.5, dtype), np.asarray(1.0, dtype))
    p, t = np.full((rows, 2), half), np.tile([[1.0, 3.0]], (rows, 1))
    probs, logs, along = asarray(p, dtype), asarray(np.log(p), dtype), asarray(t, dtype)
    tolerance = {"float16": 4e-3, "float32": 1e-6, "float64": 2e-15}[dtype]
    for got, expected in (
        (sg.softmax_vjp(probs, along), [-0.5, 0.5]),
        (sg.softmax_jvp(probs, along), [-0.5, 0.5]),
        (sg.log_softmax_jvp(logs, along), [-1.0, 1.0]),
        (sg.log_softmax_vjp(logs, along), [-1.0, 1.0]),
    ):
        np.testing.assert_allclose(to_numpy(got), np.tile([expected], (rows, 1)), rtol=tolerance, atol=tolerance)
