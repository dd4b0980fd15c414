"""The factors of logsumexp: their dtype, what they hide, and the derivatives by them."""

import numpy as np
import pytest

import oracle
import softgrad as sg
from softgrad.testing._autodiff import NotDifferentiableError, derivative

LOGITS = np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, -3.0, 4.0], [0.5, 900.0, -1.0, 0.25], [1.0, -np.inf, 0.0, 2.0]])
FACTORS = np.array([[1.0, 0.0, 2.0, 0.0], [0.0, -1.0, 1.0, 1.0], [0.5, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0]])
WHERE = np.array([[True, True, True, False], [True] * 4, [False, True, True, True], [True] * 4])


def _derivative(function, x):
    try:
        return derivative(function, x)
    except NotDifferentiableError as error:
        pytest.skip(str(error))


def _log(x, b, where=None):
    """log|sum(b exp(x))| of rows, summed over them."""
    return sg.logsumexp(x, axis=1, b=b, where=where, return_sign=True)[0].sum()


@pytest.mark.parametrize("precision", ["default", "high"])
@pytest.mark.parametrize("masked", [False, True], ids=["", "where"])
def test_a_factor_of_zero_has_its_derivative(masked, precision, asarray, to_numpy):
    where = asarray(WHERE, "bool") if masked else None
    shown = WHERE if masked else np.ones_like(WHERE)
    x, b = asarray(LOGITS), asarray(FACTORS)
    with sg.precision(precision):
        by_b = to_numpy(_derivative(lambda b: _log(x, b, where), b))
        by_x = to_numpy(_derivative(lambda x: _log(x, b, where), x))
    top = np.where(shown & (FACTORS != 0), LOGITS, -np.inf).max(1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.where(shown, np.exp(LOGITS - top), 0)
        terms = np.where(FACTORS != 0, FACTORS * e, 0)
    total = terms.sum(1, keepdims=True)
    # of 900 the derivative is beyond the largest number
    fine = LOGITS < 900
    np.testing.assert_allclose(by_b[fine], (e / total)[fine], rtol=1e-13)
    assert by_b[2, 1] > 1e300
    np.testing.assert_allclose(by_x, terms / total, rtol=1e-13)


@pytest.mark.parametrize("junk", [np.inf, np.nan])
def test_what_a_factor_of_zero_hides_reaches_no_derivative_by_x(junk, asarray, to_numpy):
    b = asarray([0.0, 1.0, 3.0])
    by_x = to_numpy(_derivative(lambda x: sg.logsumexp(x, b=b, return_sign=True)[0], asarray([junk, 1.0, 2.0])))
    e = np.array([0.0, 1.0, 3 * np.e])
    np.testing.assert_allclose(by_x, e / e.sum(), rtol=1e-14)


def test_factors_that_are_all_zero_have_the_derivative_of_a_row_hidden_whole(asarray, to_numpy):
    x, b = asarray([1.0, 2.0]), asarray([0.0, 0.0])
    assert to_numpy(sg.logsumexp(x, b=b)) == -np.inf
    for function, at in ((lambda b: sg.logsumexp(x, b=b), b), (lambda x: sg.logsumexp(x, b=b), x)):
        np.testing.assert_array_equal(to_numpy(_derivative(function, at)), [0.0, 0.0])


@pytest.mark.parametrize(
    ("x_dtype", "b_dtype", "expected"),
    [
        ("float32", "float64", "float64"),
        ("float64", "float32", "float64"),
        ("float16", "float32", "float32"),
        ("bfloat16", "float32", "float32"),
        ("float16", "bfloat16", "float32"),
        ("float32", "complex64", "complex64"),
        ("float64", "complex64", "complex128"),
        ("complex64", "float64", "complex128"),
        ("float32", "int64", "float32"),
        ("float16", "int8", "float16"),
        ("complex64", "int64", "complex64"),
    ],
)
@pytest.mark.parametrize("axis", [0, None])
def test_factors_take_part_in_promotion(axis, x_dtype, b_dtype, expected, asarray, to_numpy, has_dtype):
    if not (has_dtype(x_dtype) and has_dtype(b_dtype)):
        pytest.skip("not a dtype here")
    x, b = asarray([2.0, 1.0], x_dtype), asarray([2, -1], b_dtype)
    got = sg.logsumexp(x, axis=axis, b=b)
    assert got.dtype == asarray([0.0], expected).dtype
    rtol = {"float16": 1e-3, "float32": 1e-6, "complex64": 1e-6}.get(expected, 1e-14)
    np.testing.assert_allclose(to_numpy(got), np.log(2 * np.exp(2.0) - np.exp(1.0)), rtol=rtol)


def test_float64_factors_keep_their_digits_beside_float32(asarray, to_numpy):
    b = np.array([1.0 + 2.0**-40, -1.0])
    log, sign = sg.logsumexp(asarray([0.0, 0.0], "float32"), b=asarray(b), return_sign=True)
    np.testing.assert_allclose(to_numpy(log), -40 * np.log(2.0), rtol=1e-4)
    assert to_numpy(sign) == 1.0


def test_a_dtype_that_is_asked_for_is_that_of_the_result(asarray, xp):
    got = sg.logsumexp(asarray([2.0, 1.0]), b=asarray([1.0, 2.0]), dtype=xp.float32)
    assert got.dtype == xp.float32


def test_numbers_as_factors_promote_nothing(asarray):
    x = asarray([2.0, 1.0], "float32")
    for b in (2, 2.5, np.float64(2.5)):
        assert sg.logsumexp(x, b=b).dtype == x.dtype


def test_signed_sums_are_right_beside_factors_of_zero(asarray, to_numpy):
    got, sign = sg.logsumexp(asarray(LOGITS), axis=1, b=asarray(FACTORS), return_sign=True)
    np.testing.assert_array_equal(to_numpy(sign), [1.0, 1.0, 1.0, 1.0])
    clean = np.where(FACTORS == 0, 0.0, LOGITS)
    expected = oracle.rounded(oracle.logsumexp(clean, axis=1, b=FACTORS))
    np.testing.assert_allclose(to_numpy(got), expected, rtol=1e-14)


@pytest.mark.full
def test_no_nan_is_made_on_the_way(jax, asarray, to_numpy):
    x, b = asarray([[1.0, 2.0], [0.5, -np.inf]]), asarray([[1.0, 2.0], [0.0, 3.0]])
    with jax.debug_nans(True):
        for where in (None, asarray([True, False], "bool")):
            for return_sign in (False, True):
                sg.logsumexp(x, axis=1, b=b, where=where, return_sign=return_sign)
                sg.logsumexp(x, axis=1, where=where, return_sign=return_sign)
            with jax.disable_jit():
                sg.logsumexp(x, axis=1, b=b, where=where)
                sg.logsumexp(x, axis=1, b=b, where=where, return_sign=True)
        with pytest.raises(FloatingPointError):
            sg.logsumexp(x, axis=1, b=-b)
