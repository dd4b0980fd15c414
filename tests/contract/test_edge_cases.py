"""What each edge case gives, the same on every array library: one test or more for each promise."""

import numpy as np
import pytest

import oracle
import softgrad as sg
from contract_cases import FEATURES, HIDDEN, LABELS, LOGITS, REDUCTIONS, VECTOR, WEIGHTS
from marks import late_on_jax

# --- empty class axis


@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax])
def test_empty_class_axis_gives_empty(function, asarray, to_numpy):
    assert to_numpy(function(asarray(np.zeros((3, 0))))).shape == (3, 0)
    assert to_numpy(function(asarray(np.zeros((0, 3))), axis=0)).shape == (0, 3)
    assert to_numpy(function(asarray(np.zeros((2, 0))), axis=(0, 1))).shape == (2, 0)


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [((3, 0), -1, (3,)), ((0, 3), 0, (3,)), ((0,), None, ()), ((2, 0), (0, 1), ())],
)
def test_empty_class_axis_gives_logsumexp_minus_inf(shape, axis, expected, asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(np.zeros(shape)), axis=axis))
    assert result.shape == expected
    np.testing.assert_array_equal(result, -np.inf)


@pytest.mark.parametrize("method", ["__call__", "grad", "value_and_grad", "hessian_diag"])
def test_empty_class_axis_leaves_the_loss_no_class(method, asarray):
    call = getattr(sg.CrossEntropy(), method)
    with pytest.raises(ValueError, match=r"\(3, 0\).*no classes"):
        call(asarray(np.zeros((3, 0))), asarray([0, 0, 0], "int64"))


# --- zero-sized input beside the class axis


@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax])
def test_no_rows_give_no_rows(function, asarray, to_numpy):
    assert to_numpy(function(asarray(np.zeros((0, 4))))).shape == (0, 4)
    assert to_numpy(function(asarray(np.zeros((2, 0, 4))), axis=0)).shape == (2, 0, 4)


def test_no_rows_give_an_empty_logsumexp(asarray, to_numpy):
    assert to_numpy(sg.logsumexp(asarray(np.zeros((0, 4))), axis=-1)).shape == (0,)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_no_samples_lose_nothing(reduction, asarray, to_numpy):
    empty = asarray(np.zeros((0, 4)))
    got = oracle.every_order(sg.CrossEntropy(reduction=reduction), empty, asarray([], "int64"), empty)
    for name, (array, kind) in got.items():
        result = to_numpy(array)
        if kind == "value":
            assert result.shape == ((0,) if reduction == "none" else ()), name
            np.testing.assert_array_equal(result, np.zeros(result.shape), err_msg=name)
        else:
            assert result.shape == (0, 4), name


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_samples_leave_the_linear_model_its_penalty(reduction, asarray, to_numpy):
    X, labels, W = asarray(np.zeros((0, 2))), asarray([], "int64"), asarray(WEIGHTS)
    value, gradient = sg.linear_cross_entropy_value_and_grad(X, labels, W, l2=0.5, reduction=reduction)
    np.testing.assert_allclose(to_numpy(value), 0.25 * np.sum(WEIGHTS**2), rtol=1e-14)
    np.testing.assert_allclose(to_numpy(gradient), 0.5 * WEIGHTS, rtol=1e-14)


# --- a row of all -inf


HOLLOW = np.array([LOGITS[0], [-np.inf] * 4, LOGITS[2]])


@pytest.mark.parametrize("log", [False, True])
def test_row_of_minus_inf_is_nan_and_alone(log, asarray, to_numpy):
    result = to_numpy((sg.log_softmax if log else sg.softmax)(asarray(HOLLOW)))
    np.testing.assert_array_equal(result[1], [np.nan] * 4)
    expected = oracle.rounded(oracle.softmax(LOGITS, log=log))
    np.testing.assert_allclose(result[[0, 2]], expected[[0, 2]], rtol=1e-13)


def test_row_of_minus_inf_has_logsumexp_minus_inf(asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(HOLLOW), axis=-1))
    assert result[1] == -np.inf
    assert np.all(np.isfinite(result[[0, 2]]))


def test_row_of_minus_inf_loses_nan(asarray, to_numpy):
    got = oracle.every_order(
        sg.CrossEntropy(reduction="none"), asarray(HOLLOW), asarray(LABELS, "int64"), asarray(VECTOR)
    )
    for name, (array, _) in got.items():
        result = to_numpy(array)
        assert np.all(np.isnan(result[1])), name
        assert np.all(np.isfinite(result[[0, 2]])), name


# --- `where` False for a whole row


ROW_HIDDEN = np.array([[True, False, True, True], [False] * 4, [True] * 4])


def test_wholly_masked_row_softmax_is_zero(asarray, to_numpy):
    result = to_numpy(sg.softmax(asarray(LOGITS), where=asarray(ROW_HIDDEN, "bool")))
    np.testing.assert_array_equal(result[1], np.zeros(4))
    np.testing.assert_allclose(result, oracle.rounded(oracle.softmax(LOGITS, where=ROW_HIDDEN)), rtol=1e-13)


def test_wholly_masked_row_log_softmax_is_minus_inf(asarray, to_numpy):
    result = to_numpy(sg.log_softmax(asarray(LOGITS), where=asarray(ROW_HIDDEN, "bool")))
    np.testing.assert_array_equal(result[1], [-np.inf] * 4)
    expected = oracle.rounded(oracle.softmax(LOGITS, where=ROW_HIDDEN, log=True))
    np.testing.assert_allclose(result, expected, rtol=1e-13)


def test_wholly_masked_row_logsumexp_is_minus_inf(asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(LOGITS), axis=-1, where=asarray(ROW_HIDDEN, "bool")))
    assert result[1] == -np.inf
    assert np.all(np.isfinite(result[[0, 2]]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.25}, {"z_loss": 0.5}], ids=["plain", "smoothing", "z_loss"]
)
def test_wholly_masked_row_loses_nothing(options, reduction, check):
    check(sg.CrossEntropy(reduction=reduction, **options), LOGITS, LABELS, where=ROW_HIDDEN)


@late_on_jax
def test_wholly_masked_row_loses_nothing_with_soft_targets(check):
    for reduction in REDUCTIONS:
        check(sg.CrossEntropy(reduction=reduction), LOGITS, np.eye(4)[LABELS], where=ROW_HIDDEN)


def test_a_row_hidden_whole_leaves_a_tie_beside_it_alone(asarray, to_numpy):
    x, where = asarray([[5.0, 1.0, 1.0], [2.0, 2.0, 2.0]]), asarray([[False, True, True], [False] * 3], "bool")
    half, none = -np.log(2.0), -np.inf
    expected = [[none, half, half], [none] * 3]
    np.testing.assert_allclose(to_numpy(sg.log_softmax(x, where=where)), expected, rtol=1e-15)
    total = to_numpy(sg.logsumexp(x, axis=-1, where=where))
    np.testing.assert_allclose(total, [1.0 - half, none], rtol=1e-15)


# --- NaN or inf under a False `where`

JUNK = np.where(HIDDEN, LOGITS, [[np.nan], [np.inf], [-np.inf]])


@pytest.mark.parametrize(
    ("function", "hidden"), [(sg.softmax, 0.0), (sg.log_softmax, -np.inf)], ids=["softmax", "log_softmax"]
)
def test_junk_under_where_is_ignored_by_dense(function, hidden, asarray, to_numpy):
    where = asarray(HIDDEN, "bool")
    result = to_numpy(function(asarray(JUNK), where=where))
    np.testing.assert_array_equal(result, to_numpy(function(asarray(np.where(HIDDEN, LOGITS, 0.0)), where=where)))
    np.testing.assert_array_equal(result[~HIDDEN], hidden)
    assert np.all(np.isfinite(result[HIDDEN]))


def test_junk_under_where_is_ignored_by_logsumexp(asarray, to_numpy):
    result = sg.logsumexp(asarray(JUNK), axis=-1, where=asarray(HIDDEN, "bool"))
    expected = oracle.rounded(oracle.logsumexp(np.where(HIDDEN, LOGITS, 0.0), axis=-1, where=HIDDEN))
    np.testing.assert_allclose(to_numpy(result), expected, rtol=1e-14)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.25, "z_loss": 0.5}, {"class_weight": [1.0, 2.0, 0.5, 3.0]}]
)
@pytest.mark.parametrize("dense", [False, True])
def test_junk_under_where_is_ignored_by_every_order(dense, options, asarray, to_numpy):
    loss = sg.CrossEntropy(reduction="none", **options)
    labels = asarray(np.eye(4)[LABELS]) if dense else asarray(LABELS, "int64")
    where = asarray(HIDDEN, "bool")
    clean = asarray(np.where(HIDDEN, LOGITS, 0.0))
    expected = oracle.every_order(loss, clean, labels, asarray(VECTOR), where=where)
    got = oracle.every_order(loss, asarray(JUNK), labels, asarray(VECTOR), where=where)
    for name, (array, kind) in got.items():
        result = to_numpy(array)
        assert np.all(np.isfinite(result)), name
        np.testing.assert_array_equal(result, to_numpy(expected[name][0]), err_msg=name)
        if kind != "value":
            np.testing.assert_array_equal(result[~HIDDEN], 0.0, err_msg=name)


# --- +inf in a row


BLOWN = np.array([LOGITS[0], [1.5, np.inf, -0.75, 3.0], LOGITS[2]])


@pytest.mark.parametrize("log", [False, True])
def test_plus_inf_makes_its_row_nan(log, asarray, to_numpy):
    result = to_numpy((sg.log_softmax if log else sg.softmax)(asarray(BLOWN)))
    np.testing.assert_array_equal(result[1], [np.nan] * 4)
    assert np.all(np.isfinite(result[[0, 2]]))


def test_plus_inf_has_logsumexp_plus_inf(asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(BLOWN), axis=-1))
    assert result[1] == np.inf
    assert np.all(np.isfinite(result[[0, 2]]))
    assert to_numpy(sg.logsumexp(asarray([np.inf, np.inf, -np.inf]))) == np.inf


@pytest.mark.parametrize("label", [0, 1])
def test_plus_inf_is_never_a_finite_loss(label, asarray, to_numpy):
    labels = asarray([2, label, 3], "int64")
    got = oracle.every_order(sg.CrossEntropy(reduction="none"), asarray(BLOWN), labels, asarray(VECTOR))
    for name, (array, kind) in got.items():
        result = to_numpy(array)
        assert np.all(np.isfinite(result[[0, 2]])), name
        if kind == "value":
            assert not np.isfinite(result[1]), name
        elif kind == "grad":
            assert np.all(np.isnan(result[1])), name


# --- NaN in a row


POISONED = np.array([LOGITS[0], [1.5, np.nan, -0.75, 3.0], LOGITS[2]])


@pytest.mark.parametrize("log", [False, True])
def test_nan_stays_in_its_row(log, asarray, to_numpy):
    result = to_numpy((sg.log_softmax if log else sg.softmax)(asarray(POISONED)))
    np.testing.assert_array_equal(result[1], [np.nan] * 4)
    expected = oracle.rounded(oracle.softmax(LOGITS, log=log))
    np.testing.assert_allclose(result[[0, 2]], expected[[0, 2]], rtol=1e-13)


def test_nan_stays_in_its_logsumexp(asarray, to_numpy):
    result = to_numpy(sg.logsumexp(asarray(POISONED), axis=-1))
    np.testing.assert_array_equal(np.isnan(result), [False, True, False])


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.25, "z_loss": 0.5}])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("label", [0, 1])
def test_nan_stays_in_its_sample(label, dense, options, asarray, to_numpy):
    indices = np.array([2, label, 3])
    labels = asarray(np.eye(4)[indices]) if dense else asarray(indices, "int64")
    loss = sg.CrossEntropy(reduction="none", **options)
    for name, (array, _) in oracle.every_order(loss, asarray(POISONED), labels, asarray(VECTOR)).items():
        result = to_numpy(array)
        assert np.all(np.isnan(result[1])), name
        assert np.all(np.isfinite(result[[0, 2]])), name


def test_nan_stays_in_its_sample_of_the_linear_model(asarray, to_numpy):
    X = np.array([FEATURES[0], [np.nan, 1.0], FEATURES[2]])
    arguments = asarray(X), asarray(LABELS, "int64"), asarray(WEIGHTS)
    losses = to_numpy(sg.linear_cross_entropy(*arguments, reduction="none"))
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
    gradient = to_numpy(sg.linear_cross_entropy_grad(*arguments, reduction="sum", wrt="X"))
    np.testing.assert_array_equal(np.isnan(gradient), [[False] * 2, [True] * 2, [False] * 2])


# --- all of it at once, in arrays large enough to be worked through in pieces


def _crowd(n, k):
    """Many plain samples and some of each edge case: (logits, labels, sample weights, the expected kinds)."""
    rng = np.random.default_rng(17)
    logits, labels, weights = rng.normal(scale=3.0, size=(n, k)), rng.integers(0, k, size=n), rng.random(n) + 0.5
    kind = rng.permutation(np.arange(n) % 97)
    logits[kind == 0] = -np.inf
    logits[kind == 1, 0] = np.nan
    logits[kind == 2, k - 1] = np.inf
    labels[kind == 3] = k
    labels[kind == 4] = -1
    logits[kind == 5], labels[kind == 5] = np.nan, -100
    logits[kind == 6], weights[kind == 6] = np.inf, 0.0
    logits[kind == 7, 0], labels[kind == 7] = -np.inf, k - 1
    return logits, labels, weights, kind


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "k", "axis"), [(50_000, 3, 1), (50_000, 3, 0), (2_000, 100, 1), (2_000, 100, 0)])
def test_edge_cases_in_a_crowd(n, k, axis, dtype, backend, asarray, to_numpy):
    n = n // 10 if backend == "cupy" else n  # emulated, by a thread for each element
    logits, labels, weights, kind = _crowd(n, k)
    logits = logits.astype(dtype).astype(np.float64)
    x = asarray(logits if axis == 1 else np.ascontiguousarray(logits.T), dtype)
    broken, plain = np.isin(kind, [0, 1, 2, 5, 6]), kind > 7
    safe = np.where(broken[:, None], 0.0, logits)
    tolerance = {"rtol": 2e-5, "atol": 1e-7} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-15}
    exponentials = np.exp(safe - np.max(safe, axis=1, keepdims=True))
    probs = exponentials / np.sum(exponentials, axis=1, keepdims=True)

    def rows(array):
        array = to_numpy(array)
        return array if axis == 1 or array.ndim == 1 else array.T

    result = rows(sg.softmax(x, axis=axis))
    assert np.all(np.isnan(result[broken]))
    np.testing.assert_allclose(result[~broken], probs[~broken], **tolerance)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(rows(sg.log_softmax(x, axis=axis))[~broken], np.log(probs[~broken]), **tolerance)
    sums = rows(sg.logsumexp(x, axis=axis))
    np.testing.assert_array_equal(sums[kind == 0], -np.inf)
    np.testing.assert_array_equal(sums[(kind == 2) | (kind == 6)], np.inf)
    assert np.all(np.isnan(sums[(kind == 1) | (kind == 5)]))

    loss = sg.CrossEntropy(axis=axis, ignore_index=-100, reduction="none")
    value, gradient = loss.value_and_grad(x, asarray(labels, "int64"), sample_weight=asarray(weights, dtype))
    value, gradient = rows(value), rows(gradient)
    lost = np.isin(kind, [0, 1, 3, 4])
    assert np.all(np.isnan(value[lost]))
    assert np.all(np.isnan(gradient[lost]))
    left_out = np.isin(kind, [5, 6])
    np.testing.assert_array_equal(value[left_out], 0.0)
    np.testing.assert_array_equal(gradient[left_out], 0.0)
    good = plain | (kind == 7)
    picked = probs[good, labels[good]]
    np.testing.assert_allclose(value[good], -weights[good] * np.log(picked), **tolerance)
    expected = probs[good] - np.eye(k)[labels[good]]
    np.testing.assert_allclose(gradient[good], weights[good, None] * expected, **tolerance)
