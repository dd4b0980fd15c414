"""What each edge case gives, the same on every array library: one test or more for each promise."""

import array_api_compat
import numpy as np
import pytest

import oracle
import softgrad as sg
from softgrad import parallel

LOGITS = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
LABELS = np.array([2, 0, 3])
VECTOR = np.array([[1.0, -0.5, 0.25, 2.0], [0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 1.0, 0.0]])
FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
WEIGHTS = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0], [0.0, -1.25]])
DIRECTION = np.array([[1.0, 0.5], [-0.25, 0.0], [2.0, -1.0], [0.75, 0.25]])

ORDERS = ["value", "grad", "value of value_and_grad", "grad of value_and_grad", "hvp", "hessian_diag"]
REDUCTIONS = ["none", "sum", "mean"]


@pytest.fixture
def check(asarray, to_numpy):
    """Every order of a loss against the reference."""

    def check(loss, logits, labels, *, orders=ORDERS, rtol=1e-12, label_dtype="int64", **arguments):
        labels = np.asarray(labels)
        dense = labels.ndim == np.ndim(logits)
        shared = {name: getattr(loss, name) for name in ("axis", "label_smoothing", "ignore_index", "z_loss")}
        given = {name: asarray(value, "bool" if name == "where" else "float64") for name, value in arguments.items()}
        with np.errstate(all="ignore"):
            reference = oracle.cross_entropy(
                logits, labels, vector=VECTOR, class_weight=loss.class_weight, **shared, **arguments
            )
        got = oracle.every_order(
            loss,
            asarray(logits),
            asarray(labels, "float64" if dense else label_dtype),
            asarray(VECTOR),
            **given,
        )
        for name in orders:
            array, kind = got[name]
            expected = oracle.rounded(getattr(reference, kind)(loss.reduction))
            np.testing.assert_allclose(to_numpy(array), expected, rtol=rtol, atol=1e-15, err_msg=name)

    return check


def default_float(xp, array):
    info = xp.__array_namespace_info__()
    return info.default_dtypes(device=array_api_compat.device(array))["real floating"]


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

HIDDEN = np.array([[True, False, True, True], [True, True, False, True], [False, True, True, True]])
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


# --- integer and boolean and complex input


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax, sg.logsumexp])
def test_integers_become_the_default_float(function, dtype, xp, asarray, to_numpy):
    numbers = np.array([[3, 1, 0], [100, 127, 7]])
    x = asarray(numbers, dtype)
    result = function(x, axis=-1)
    assert result.dtype == default_float(xp, x)
    expected = {
        sg.softmax: oracle.softmax(numbers),
        sg.log_softmax: oracle.softmax(numbers, log=True),
        sg.logsumexp: oracle.logsumexp(numbers, axis=-1),
    }[function]
    # e**-120 is 0 where the default float is float32
    np.testing.assert_allclose(to_numpy(result), oracle.rounded(expected), rtol=1e-5, atol=1e-37)


def test_integer_logits_become_the_default_float(xp, asarray, to_numpy):
    numbers = np.array([[3, 1, 0, -2], [5, 0, 7, 1], [0, 0, 1, 0]])
    logits = asarray(numbers, "int64")
    loss = sg.CrossEntropy(reduction="none")
    reference = oracle.cross_entropy(numbers, LABELS, vector=VECTOR)
    got = oracle.every_order(loss, logits, asarray(LABELS, "int64"), asarray(VECTOR, "float32"))
    for name, (array, kind) in got.items():
        assert array.dtype == default_float(xp, logits), name
        expected = oracle.rounded(getattr(reference, kind)("none"))
        np.testing.assert_allclose(to_numpy(array), expected, rtol=2e-5, atol=1e-7, err_msg=name)


def test_integer_features_become_the_default_float(xp, asarray, to_numpy):
    X, W = np.array([[1, 2], [0, -1], [3, 1]]), np.array([[1, 0], [0, 2], [-1, 1], [2, 2]])
    arguments = asarray(X, "int64"), asarray(LABELS, "int64"), asarray(W, "int64")
    value, gradient = sg.linear_cross_entropy_value_and_grad(*arguments)
    assert value.dtype == gradient.dtype == default_float(xp, arguments[0])
    expected = oracle.linear(X, LABELS, W)
    np.testing.assert_allclose(to_numpy(value), float(expected.item()), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax])
def test_dense_refuses_boolean_and_complex(function, dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    with pytest.raises(TypeError, match="complex" if dtype == "complex128" else "bool"):
        function(asarray([[1, 0, 1]], dtype))


def test_logsumexp_refuses_boolean(asarray):
    with pytest.raises(TypeError, match="bool"):
        sg.logsumexp(asarray([True, False], "bool"))


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
@pytest.mark.parametrize("method", ["__call__", "grad", "value_and_grad", "hvp", "hessian_diag"])
def test_loss_refuses_boolean_and_complex_logits(method, dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    logits, labels = asarray(np.eye(3), dtype), asarray([0, 1, 2], "int64")
    vector = (asarray(np.eye(3)),) if method == "hvp" else ()
    with pytest.raises(TypeError, match="logits"):
        getattr(sg.CrossEntropy(), method)(logits, labels, *vector)


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
def test_linear_refuses_boolean_and_complex(dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    labels = asarray(LABELS, "int64")
    with pytest.raises(TypeError, match=r"\bX\b"):
        sg.linear_cross_entropy(asarray(FEATURES != 0, dtype), labels, asarray(WEIGHTS))
    with pytest.raises(TypeError, match=r"\bW\b"):
        sg.linear_cross_entropy(asarray(FEATURES), labels, asarray(WEIGHTS != 0, dtype))


def test_logsumexp_takes_complex(asarray, to_numpy, has_dtype):
    if not has_dtype("complex128"):
        pytest.skip("no complex128 here")
    z = np.array([1.0 + 2.0j, -0.5 - 1.0j, 0.25 + 3.0j])
    result = to_numpy(sg.logsumexp(asarray(z, "complex128")))
    np.testing.assert_allclose(result, np.log(np.sum(np.exp(z))), rtol=1e-14)


# --- 0-d input


@pytest.mark.parametrize("axis", [-1, 0, None])
@pytest.mark.parametrize("value", [1.5, -700.0])
def test_zero_dimensions_have_one_class(value, axis, asarray, to_numpy):
    x = asarray(value)
    for function, expected in ((sg.softmax, 1.0), (sg.log_softmax, 0.0), (sg.logsumexp, value)):
        result = to_numpy(function(x, axis=axis))
        assert result.shape == ()
        assert result == expected


@pytest.mark.libraries("numpy")
def test_zero_dimensional_results_of_numpy_are_scalars(asarray, backend):
    x, labels = asarray(LOGITS), asarray(LABELS, "int64")
    results = {
        "softmax": sg.softmax(asarray(1.5)),
        "log_softmax": sg.log_softmax(asarray(1.5)),
        "logsumexp": sg.logsumexp(x),
        "loss": sg.cross_entropy(x, labels),
        "value_and_grad": sg.cross_entropy_value_and_grad(x, labels)[0],
        "linear": sg.linear_cross_entropy(asarray(FEATURES), labels, asarray(WEIGHTS)),
        "of a scalar": sg.softmax(np.float64(1.5)),
    }
    assert {name: type(result) for name, result in results.items()} == dict.fromkeys(results, np.float64)


# --- labels out of range


@pytest.mark.parametrize("label", [4, -1, -4, -5, 2**31, -(2**63)])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.25, "z_loss": 0.5, "class_weight": [1.0, 2.0, 0.5, 3.0]}]
)
def test_label_out_of_range_is_nan_and_alone(options, label, check):
    check(sg.CrossEntropy(reduction="none", **options), LOGITS, [2, label, 3])


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_label_out_of_range_shows_in_a_reduction(reduction, asarray, to_numpy):
    logits, labels = asarray(LOGITS), asarray([2, -1, 3], "int64")
    value, gradient = sg.cross_entropy_value_and_grad(logits, labels, reduction=reduction)
    assert np.isnan(to_numpy(value))
    assert np.all(np.isnan(to_numpy(gradient)[1]))


def test_a_mean_over_labels_out_of_range_alone_is_nan(asarray, to_numpy):
    labels, balance = asarray([4, -1, 9], "int64"), asarray([1.0, 2.0, 0.5, 3.0])
    model = asarray(FEATURES), labels, asarray(WEIGHTS)
    alone = {"first_class": 0, "reduce": lambda a, op: a}
    for options in ({}, {"label_smoothing": 0.25}, {"z_loss": 0.5}, {"ignore_index": -100}):
        given = {"class_weight": balance, **options}
        for value, grad in (
            sg.cross_entropy_value_and_grad(asarray(LOGITS), labels, **given),
            sg.linear_cross_entropy_value_and_grad(*model, **given),
            parallel.cross_entropy_value_and_grad(asarray(LOGITS), labels, **alone, **given),
            parallel.linear_cross_entropy_value_and_grad(*model, **alone, **given),
        ):
            assert np.isnan(to_numpy(value))
            assert np.all(np.isnan(to_numpy(grad)))
    assert to_numpy(sg.CrossEntropy(class_weight=balance).total_weight(asarray(LOGITS), labels)) == 3


def test_label_out_of_range_is_nan_along_another_axis(asarray, to_numpy):
    loss = sg.CrossEntropy(axis=0, reduction="none")
    logits, labels = asarray(LOGITS), asarray([0, 3, -1, 2], "int64")
    np.testing.assert_array_equal(np.isnan(to_numpy(loss(logits, labels))), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(to_numpy(loss.grad(logits, labels))), [[False, True, True, False]] * 3)


def test_label_out_of_range_is_nan_in_the_linear_model(asarray, to_numpy):
    arguments = asarray(FEATURES), asarray([2, 4, 3], "int64"), asarray(WEIGHTS)
    losses = to_numpy(sg.linear_cross_entropy(*arguments, reduction="none"))
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
    gradient = to_numpy(sg.linear_cross_entropy_grad(*arguments, wrt="X", reduction="sum"))
    np.testing.assert_array_equal(np.isnan(gradient), [[False] * 2, [True] * 2, [False] * 2])
    assert np.isnan(to_numpy(sg.linear_cross_entropy(*arguments)))


@pytest.mark.parametrize("method", ["__call__", "grad", "value_and_grad", "hvp", "hessian_diag"])
def test_validate_names_the_label_and_its_place(method, asarray):
    vector = (asarray(VECTOR),) if method == "hvp" else ()
    with pytest.raises(IndexError, match=r"(?s)(?=.*\b7\b)(?=.*\b1\b)(?=.*labels)"):
        getattr(sg.CrossEntropy(), method)(asarray(LOGITS), asarray([2, 7, 3], "int64"), *vector, validate=True)


def test_validate_names_a_place_in_two_dimensions(asarray):
    logits = asarray(np.zeros((2, 3, 4)))
    with pytest.raises(IndexError, match=r"(?s)(?=.*-3\b)(?=.*1, ?2)"):
        sg.cross_entropy(logits, asarray([[0, 1, 2], [3, 0, -3]], "int64"), validate=True)


def test_validate_passes_good_and_ignored_labels(asarray, to_numpy):
    logits, labels = asarray(LOGITS), asarray([2, -100, 3], "int64")
    loss = sg.CrossEntropy(ignore_index=-100)
    assert to_numpy(loss(logits, labels, validate=True)) == to_numpy(loss(logits, labels))
    with pytest.raises(IndexError, match="-100"):
        sg.CrossEntropy()(logits, labels, validate=True)


# --- weight 0 x (-inf logit) in a soft target

CUT_OFF = np.array([[0.5, -np.inf, 2.0, 0.25], [1.5, 0.5, -np.inf, -np.inf], [-2.0, 1.0, 0.125, 0.75]])
SOFT = np.array([[0.5, 0.0, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", [{}, {"z_loss": 0.5}, {"class_weight": [1.0, 2.0, 0.5, 3.0]}])
def test_zero_weight_times_minus_inf_is_zero(options, reduction, check):
    check(sg.CrossEntropy(reduction=reduction, **options), CUT_OFF, SOFT)


def test_minus_inf_beside_the_label_is_no_class(check):
    check(sg.CrossEntropy(reduction="none"), CUT_OFF, [2, 0, 3])


def test_zero_class_weight_times_minus_inf_is_zero(asarray, to_numpy):
    loss = sg.CrossEntropy(reduction="none", class_weight=[1.0, 0.0, 2.0, 1.0])
    logits, labels = asarray([[0.5, -np.inf, 2.0, 0.25]]), asarray([1], "int64")
    got = oracle.every_order(loss, logits, labels, asarray(VECTOR[:1]))
    for name, (array, _) in got.items():
        np.testing.assert_array_equal(to_numpy(array), np.zeros(to_numpy(array).shape), err_msg=name)


# --- `where` hides the true class


@pytest.mark.parametrize("dense", [False, True])
def test_hidden_true_class_loses_inf(dense, asarray, to_numpy):
    where = np.ones((3, 4), dtype=bool)
    where[1, 0] = False
    labels = asarray(np.eye(4)[LABELS]) if dense else asarray(LABELS, "int64")
    loss = sg.CrossEntropy(reduction="none")
    for result in (
        loss(asarray(LOGITS), labels, where=asarray(where, "bool")),
        loss.value_and_grad(asarray(LOGITS), labels, where=asarray(where, "bool"))[0],
    ):
        losses = to_numpy(result)
        assert losses[1] == np.inf
        assert np.all(np.isfinite(losses[[0, 2]]))


def test_label_at_minus_inf_loses_inf(asarray, to_numpy):
    losses = to_numpy(sg.cross_entropy(asarray(CUT_OFF), asarray([1, 0, 3], "int64"), reduction="none"))
    assert losses[0] == np.inf
    assert np.all(np.isfinite(losses[1:]))


# --- label smoothing under `where`


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("class_weight", [None, (1.0, 2.0, 0.5, 3.0)])
def test_smoothing_spreads_over_the_allowed_classes(class_weight, reduction, check):
    loss = sg.CrossEntropy(label_smoothing=0.25, class_weight=class_weight, reduction=reduction)
    check(loss, LOGITS, LABELS, where=HIDDEN)


def test_smoothing_over_all_classes_hides_none(check):
    check(sg.CrossEntropy(label_smoothing=1.0, reduction="none"), LOGITS, LABELS, where=HIDDEN)


# --- every sample ignored


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("by", ["ignore_index", "sample_weight"])
def test_all_ignored_is_zero(by, reduction, asarray, to_numpy):
    loss = sg.CrossEntropy(ignore_index=-100, reduction=reduction, label_smoothing=0.1, z_loss=0.5)
    labels = asarray([-100] * 3 if by == "ignore_index" else LABELS, "int64")
    weights = {} if by == "ignore_index" else {"sample_weight": asarray([0.0, 0.0, 0.0])}
    assert to_numpy(loss.total_weight(asarray(LOGITS), labels, **weights)) == 0
    for name, (array, _) in oracle.every_order(loss, asarray(LOGITS), labels, asarray(VECTOR), **weights).items():
        np.testing.assert_array_equal(to_numpy(array), np.zeros(to_numpy(array).shape), err_msg=name)


def test_all_ignored_is_zero_in_the_linear_model(asarray, to_numpy):
    arguments = asarray(FEATURES), asarray([-1, -1, -1], "int64"), asarray(WEIGHTS)
    value, gradient = sg.linear_cross_entropy_value_and_grad(*arguments, ignore_index=-1)
    assert to_numpy(value) == 0
    np.testing.assert_array_equal(to_numpy(gradient), np.zeros((4, 2)))
    product = sg.linear_cross_entropy_hvp(*arguments, asarray(DIRECTION), ignore_index=-1)
    np.testing.assert_array_equal(to_numpy(product), np.zeros((4, 2)))


@pytest.mark.parametrize("junk", [np.nan, np.inf])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("by", ["class indices", "weights by class"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_mean_of_weight_zero_is_zero(masked, by, smoothing, junk, asarray, to_numpy):
    weights = {"class_weight": asarray([0.0, 1.0])} if by == "class indices" else {}
    labels = asarray([0, 0], "int64") if by == "class indices" else asarray([[0.0, 0.0], [0.0, 0.0]])
    where = {"where": asarray([[True, True], [True, True]], "bool")} if masked else {}
    loss = sg.CrossEntropy(label_smoothing=smoothing, **weights)
    logits, vector = asarray([[junk, 1.0], [2.0, 3.0]]), asarray([[1.0, 2.0], [3.0, 4.0]])
    for name, (array, _) in oracle.every_order(loss, logits, labels, vector, **where).items():
        np.testing.assert_array_equal(to_numpy(array), np.zeros(to_numpy(array).shape), err_msg=name)


@pytest.mark.parametrize("wrt", ["W", "X"])
def test_a_mean_of_weight_zero_is_zero_in_the_linear_model(wrt, asarray, to_numpy):
    junk = asarray([[np.nan, 1.0], [2.0, 3.0]])
    arguments = junk, asarray([0, 0], "int64"), junk
    options = {"class_weight": asarray([0.0, 1.0]), "wrt": wrt}
    value, gradient = sg.linear_cross_entropy_value_and_grad(*arguments, **options)
    assert to_numpy(value) == 0
    np.testing.assert_array_equal(to_numpy(gradient), np.zeros((2, 2)))
    product = sg.linear_cross_entropy_hvp(*arguments, asarray([[1.0, 2.0], [3.0, 4.0]]), **options)
    np.testing.assert_array_equal(to_numpy(product), np.zeros((2, 2)))


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("by", ["ignore_index", "sample_weight"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ignored_sample_contributes_exactly_zero(reduction, by, junk, asarray, to_numpy):
    loss = sg.CrossEntropy(ignore_index=-100, reduction=reduction, label_smoothing=0.1, z_loss=0.5)
    dirty = np.array([LOGITS[0], [junk] * 4, LOGITS[2]])
    labels = np.array([2, -100 if by == "ignore_index" else 0, 3])
    weights = np.array([1.0, 1.0 if by == "ignore_index" else 0.0, 2.0])
    got = oracle.every_order(
        loss, asarray(dirty), asarray(labels, "int64"), asarray(VECTOR), sample_weight=asarray(weights)
    )
    reference = oracle.cross_entropy(
        LOGITS[[0, 2]],
        labels[[0, 2]],
        label_smoothing=0.1,
        z_loss=0.5,
        sample_weight=weights[[0, 2]],
        vector=VECTOR[[0, 2]],
    )
    for name, (array, kind) in got.items():
        result, expected = to_numpy(array), oracle.rounded(getattr(reference, kind)(reduction))
        if result.ndim:
            np.testing.assert_array_equal(result[1], np.zeros(result[1].shape), err_msg=name)
            result = result[[0, 2]]
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("junk", [np.nan, np.inf])
@pytest.mark.parametrize("by", ["ignore_index", "sample_weight"])
def test_ignored_sample_contributes_exactly_zero_to_the_linear_model(by, junk, asarray, to_numpy):
    X = np.array([FEATURES[0], [junk, 1.0], FEATURES[2]])
    labels = asarray([2, -100 if by == "ignore_index" else 0, 3], "int64")
    options = {
        "ignore_index": -100,
        "sample_weight": asarray([1.0, 1.0 if by == "ignore_index" else 0.0, 2.0]),
        "reduction": "sum",
        "wrt": ("W", "bias", "X"),
    }
    bias = np.array([0.1, 0.2, 0.3, 0.4])
    value, gradients = sg.linear_cross_entropy_value_and_grad(
        asarray(X), labels, asarray(WEIGHTS), asarray(bias), **options
    )
    clean = {"X": FEATURES[[0, 2]], "W": WEIGHTS, "bias": bias}

    def reference(**arguments):
        return oracle.linear(labels=LABELS[[0, 2]], reduction="sum", sample_weight=[1.0, 2.0], **arguments)

    np.testing.assert_allclose(to_numpy(value), float(reference(**clean).item()), rtol=1e-13)
    for name, gradient in zip(("W", "bias"), gradients, strict=False):
        expected = oracle.rounded(oracle.derivative(reference, clean, name))
        np.testing.assert_allclose(to_numpy(gradient), expected, rtol=1e-12, atol=1e-14, err_msg=name)
    np.testing.assert_array_equal(to_numpy(gradients[2])[1], [0.0, 0.0])
    del options["wrt"]
    product = sg.linear_cross_entropy_hvp(asarray(X), labels, asarray(WEIGHTS), asarray(DIRECTION), **options)
    hessian = to_numpy(sg.linear_cross_entropy_hessian(asarray(X), labels, asarray(WEIGHTS), **options))
    unbiased = {"X": FEATURES[[0, 2]], "W": WEIGHTS}
    expected = oracle.rounded(oracle.derivative(reference, unbiased, "W", {"W": DIRECTION}))
    np.testing.assert_allclose(to_numpy(product), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.einsum("abcd,cd->ab", hessian, DIRECTION), expected, rtol=1e-12, atol=1e-14)


def test_label_out_of_range_with_weight_zero_contributes_zero(asarray, to_numpy):
    weights = asarray([1.0, 0.0, 2.0])
    value, gradient = sg.cross_entropy_value_and_grad(
        asarray(LOGITS), asarray([2, 9, 3], "int64"), sample_weight=weights, reduction="sum"
    )
    assert np.isfinite(to_numpy(value))
    np.testing.assert_array_equal(to_numpy(gradient)[1], np.zeros(4))


# --- mean with weights


@pytest.mark.parametrize("class_weight", [None, (1.0, 2.0, 0.5, 3.0)])
@pytest.mark.parametrize("sample_weight", [None, [0.5, 2.0, 1.25]])
@pytest.mark.parametrize("dense", [False, True])
def test_mean_divides_by_the_total_weight(dense, sample_weight, class_weight, asarray, to_numpy, check):
    loss = sg.CrossEntropy(class_weight=class_weight)
    labels = SOFT if dense else LABELS
    arguments = {} if sample_weight is None else {"sample_weight": np.array(sample_weight)}
    check(loss, LOGITS, labels, **arguments)
    cw = np.ones(4) if class_weight is None else np.array(class_weight)
    sw = np.ones(3) if sample_weight is None else np.array(sample_weight)
    weights = sw * (labels @ cw if dense else cw[labels])
    device_labels = asarray(labels, "float64" if dense else "int64")
    given = {name: asarray(value) for name, value in arguments.items()}
    total = to_numpy(loss.total_weight(asarray(LOGITS), device_labels, **given))
    np.testing.assert_allclose(total, np.sum(weights), rtol=1e-14)
    each = sg.CrossEntropy(class_weight=class_weight, reduction="none")
    losses = to_numpy(each(asarray(LOGITS), device_labels, **given))
    np.testing.assert_allclose(
        to_numpy(loss(asarray(LOGITS), device_labels, **given)), np.sum(losses) / np.sum(weights), rtol=1e-14
    )


# --- mixed float widths


@pytest.mark.parametrize(("logits", "other"), [("float32", "float64"), ("float64", "float32")])
def test_logits_decide_the_width(logits, other, asarray, to_numpy):
    x = asarray(LOGITS, logits)
    loss = sg.CrossEntropy(class_weight=asarray([1.0, 2.0, 0.5, 3.0], other))
    got = oracle.every_order(
        loss, x, asarray(SOFT, other), asarray(VECTOR, other), sample_weight=asarray([0.5, 2.0, 1.0], other)
    )
    reference = oracle.cross_entropy(
        LOGITS, SOFT, class_weight=[1.0, 2.0, 0.5, 3.0], sample_weight=[0.5, 2.0, 1.0], vector=VECTOR
    )
    for name, (array, kind) in got.items():
        assert array.dtype == x.dtype, name
        expected = oracle.rounded(getattr(reference, kind)("mean"))
        np.testing.assert_allclose(to_numpy(array), expected, rtol=2e-5, atol=1e-7, err_msg=name)


# --- read-only, non-contiguous, Fortran-ordered input


def _strided(xp, asarray):
    yield "transposed", xp.permute_dims(asarray(np.ascontiguousarray(LOGITS.T)), (1, 0))
    yield "every other", asarray(np.repeat(LOGITS, 2, axis=1))[:, ::2]
    yield "inner block", asarray(np.pad(LOGITS, 1))[1:-1, 1:-1]


def test_strides_do_not_matter(xp, asarray, to_numpy):
    labels, vector, loss = asarray(LABELS, "int64"), asarray(VECTOR), sg.CrossEntropy(reduction="none")
    for name, view in _strided(xp, asarray):
        np.testing.assert_array_equal(to_numpy(view), LOGITS)
        for function in (sg.softmax, sg.log_softmax, sg.logsumexp):
            for axis in (-1, 0):
                expected = to_numpy(function(asarray(LOGITS), axis=axis))
                np.testing.assert_allclose(to_numpy(function(view, axis=axis)), expected, rtol=1e-14, err_msg=name)
        expected = oracle.every_order(loss, asarray(LOGITS), labels, vector)
        for order, (array, _) in oracle.every_order(loss, view, labels, vector).items():
            np.testing.assert_allclose(
                to_numpy(array),
                to_numpy(expected[order][0]),
                rtol=1e-14,
                atol=1e-17,
                err_msg=f"{name} {order}",
            )


@pytest.mark.libraries("numpy")
def test_layout_in_memory_does_not_matter_to_numpy(backend, asarray):
    for x in (np.asfortranarray(LOGITS), LOGITS[::-1][::-1], np.broadcast_to(LOGITS[:1], (3, 4))):
        x = x.view()
        x.flags.writeable = False
        for function in (sg.softmax, sg.log_softmax, sg.logsumexp):
            np.testing.assert_allclose(function(x, axis=-1), function(x.copy(), axis=-1), rtol=1e-14)
        np.testing.assert_allclose(
            sg.cross_entropy_grad(x, LABELS), sg.cross_entropy_grad(x.copy(), LABELS), rtol=1e-14, atol=1e-17
        )


def test_strides_do_not_matter_to_the_linear_model(xp, asarray, to_numpy):
    labels = asarray(LABELS, "int64")
    X = xp.permute_dims(asarray(np.ascontiguousarray(FEATURES.T)), (1, 0))
    W = asarray(np.repeat(WEIGHTS, 2, axis=0))[::2, :]
    value, gradient = sg.linear_cross_entropy_value_and_grad(X, labels, W)
    expected = sg.linear_cross_entropy_value_and_grad(asarray(FEATURES), labels, asarray(WEIGHTS))
    np.testing.assert_allclose(to_numpy(value), to_numpy(expected[0]), rtol=1e-14)
    np.testing.assert_allclose(to_numpy(gradient), to_numpy(expected[1]), rtol=1e-13, atol=1e-16)


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
def test_edge_cases_in_a_crowd(n, k, axis, dtype, asarray, to_numpy):
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
