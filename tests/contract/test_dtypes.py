"""Widths: every result keeps the dtype of the logits, and narrow floats are computed in wide ones."""

import numpy as np
import pytest

import oracle
import softgrad as sg
from marks import late

WIDTHS = ["float16", "bfloat16", "float32", "float64"]
# quarters, which every width holds
LOGITS = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 6.25, 0.75]])
LABELS = np.array([2, 0, 2])
VECTOR = np.array([[1.0, -0.5, 0.25, 2.0], [0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 1.0, 0.0]])
FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
WEIGHTS = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0], [0.0, -1.25]])
# half a unit in the last place is what the rounding to the narrow width may cost
GOALS = {"float16": 0.51, "bfloat16": 0.51, "float32": 70, "float64": 500}


@pytest.fixture(params=WIDTHS)
def dtype(request, has_dtype):
    if not has_dtype(request.param):
        pytest.skip(f"no {request.param} here")
    return request.param


@pytest.fixture(params=["float16", "bfloat16"])
def narrow(request, has_dtype):
    if not has_dtype(request.param):
        pytest.skip(f"no {request.param} here")
    return request.param


# --- every width is kept


@pytest.mark.parametrize("precision", [None, "high"])
def test_dense_functions_keep_the_width(precision, dtype, asarray):
    x = asarray(LOGITS, dtype)
    where = asarray(LOGITS > -1.5, "bool")
    for function in (sg.softmax, sg.log_softmax, sg.logsumexp):
        for axis in (-1, 0, None):
            assert function(x, axis=axis, precision=precision).dtype == x.dtype
            assert function(x, axis=axis, where=where, precision=precision).dtype == x.dtype
    for result in sg.logsumexp(x, b=asarray(VECTOR, dtype), return_sign=True):
        assert result.dtype == x.dtype


def test_derivatives_keep_the_width(dtype, asarray):
    probs, direction = asarray(oracle.rounded(oracle.softmax(LOGITS)), dtype), asarray(VECTOR, dtype)
    assert sg.softmax_vjp(probs, direction).dtype == probs.dtype
    assert sg.softmax_jvp(probs, direction).dtype == probs.dtype
    logs = asarray(oracle.rounded(oracle.softmax(LOGITS, log=True)), dtype)
    assert sg.log_softmax_vjp(logs, direction).dtype == probs.dtype
    assert sg.log_softmax_jvp(logs, direction).dtype == probs.dtype


@pytest.mark.parametrize("reduction", ["none", late("sum", "jax"), "mean"])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1, "z_loss": 0.2, "class_weight": (1.0, 2.0, 0.5, 3.0)}, {"precision": "high"}],
    ids=["plain", "options", "high"],
)
def test_loss_keeps_the_width(options, dense, reduction, dtype, asarray, to_numpy):
    logits = asarray(LOGITS, dtype)
    labels = asarray(np.eye(4)[LABELS], dtype) if dense else asarray(LABELS, "int64")
    loss = sg.CrossEntropy(reduction=reduction, **options)
    got = oracle.every_order(loss, logits, labels, asarray(VECTOR, dtype))
    exact = {name: value for name, value in options.items() if name != "precision"}
    reference = oracle.cross_entropy(LOGITS, LABELS, vector=VECTOR, **exact)
    rtol = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    for name, (array, kind) in got.items():
        assert array.dtype == logits.dtype, name
        expected = oracle.rounded(getattr(reference, kind)(reduction))
        np.testing.assert_allclose(
            to_numpy(array).astype(np.float64), expected, rtol=rtol, atol=rtol / 100, err_msg=name
        )


def test_linear_model_keeps_the_width(dtype, asarray, to_numpy):
    features, labels, weights = asarray(FEATURES, dtype), asarray(LABELS, "int64"), asarray(WEIGHTS, dtype)
    bias = asarray([0.5, -0.25, 0.0, 1.0], dtype)
    options = {"l2": 0.5, "label_smoothing": 0.1, "block_size": 2}
    value, gradients = sg.linear_cross_entropy_value_and_grad(
        features, labels, weights, bias, wrt=("W", "bias", "X"), **options
    )
    product = sg.linear_cross_entropy_hvp(features, labels, weights, weights, **options)
    hessian = sg.linear_cross_entropy_hessian(features, labels, weights, **options)
    for result in (value, *gradients, product, hessian):
        assert result.dtype == features.dtype
    expected = oracle.linear(FEATURES, LABELS, WEIGHTS, [0.5, -0.25, 0.0, 1.0], l2=0.5, label_smoothing=0.1)
    rtol = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(float(to_numpy(value)), float(expected.item()), rtol=rtol)


# --- narrow floats are summed in float32


def test_narrow_dense_is_rounded_once(narrow, asarray, to_numpy):
    x = asarray(LOGITS, narrow)
    for function, log in ((sg.softmax, False), (sg.log_softmax, True)):
        for axis in (-1, 0):
            result = to_numpy(function(x, axis=axis))
            assert oracle.ulps(result, oracle.softmax(LOGITS, axis=axis, log=log), narrow) <= GOALS[narrow]
    assert oracle.ulps(to_numpy(sg.logsumexp(x, axis=-1)), oracle.logsumexp(LOGITS, axis=-1), narrow) <= 0.51


def test_narrow_loss_is_rounded_once(narrow, asarray, to_numpy):
    loss = sg.CrossEntropy(reduction="none")
    value, gradient = loss.value_and_grad(asarray(LOGITS, narrow), asarray(LABELS, "int64"))
    reference = oracle.cross_entropy(LOGITS, LABELS, orders=("grad",))
    assert oracle.ulps(to_numpy(value), reference.value("none"), narrow) <= GOALS[narrow]
    assert oracle.ulps(to_numpy(gradient), reference.grad("none"), narrow) <= GOALS[narrow]


def test_logsumexp_of_many_narrow_zeros_is_finite(narrow, asarray, to_numpy):
    # in float16 their number is infinite, in bfloat16 a running sum stops at 256
    result = float(to_numpy(sg.logsumexp(asarray(np.zeros(100_000), narrow))))
    np.testing.assert_allclose(result, np.log(1e5), rtol={"float16": 5e-4, "bfloat16": 4e-3}[narrow])


def test_softmax_of_many_narrow_zeros_is_not_zero(narrow, asarray, to_numpy):
    result = to_numpy(sg.softmax(asarray(np.zeros((1, 4096)), narrow))).astype(np.float64)
    np.testing.assert_array_equal(result, 1 / 4096)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_sums_over_many_narrow_samples_are_wide(reduction, narrow, asarray, to_numpy):
    n = 4096
    logits, labels = asarray(np.zeros((n, 2)), narrow), asarray(np.zeros(n), "int64")
    value = float(to_numpy(sg.cross_entropy(logits, labels, reduction=reduction)))
    expected = np.log(2.0) * (n if reduction == "sum" else 1)
    np.testing.assert_allclose(value, expected, rtol={"float16": 5e-4, "bfloat16": 4e-3}[narrow])


def test_dominant_class_survives_in_narrow_floats(narrow, asarray, to_numpy):
    value, gradient = sg.cross_entropy_value_and_grad(asarray([[9.0, 0.0]], narrow), asarray([0], "int64"))
    expected = np.log1p(np.exp(-9.0))
    rtol = {"float16": 1e-3, "bfloat16": 4e-3}[narrow]
    np.testing.assert_allclose(float(to_numpy(value)), expected, rtol=rtol)
    row = 1 / (1 + np.exp(9.0))
    np.testing.assert_allclose(to_numpy(gradient).astype(np.float64), [[-row, row]], rtol=rtol)


# --- wide scalars never lift


def test_wide_scalars_do_not_lift(dtype, asarray):
    logits, labels = asarray(LOGITS, dtype), asarray(LABELS, "int64")
    loss = sg.CrossEntropy(
        label_smoothing=np.float64(0.1),
        z_loss=np.float64(0.2),
        ignore_index=np.int64(1),
        class_weight=[1.0, 2.0, 0.5, 3.0],
    )
    for name, (array, _) in oracle.every_order(loss, logits, labels, asarray(VECTOR, dtype)).items():
        assert array.dtype == logits.dtype, name
    assert sg.logsumexp(logits, b=2.5).dtype == logits.dtype
    assert sg.logsumexp(logits, b=np.float64(2.5)).dtype == logits.dtype
    value, gradient = sg.linear_cross_entropy_value_and_grad(
        asarray(FEATURES, dtype), labels, asarray(WEIGHTS, dtype), l2=np.float64(0.5)
    )
    assert value.dtype == gradient.dtype == logits.dtype


@pytest.mark.parametrize(
    "weights",
    [[1, 2, 0.5, 3], (1.0, 2.0, 0.5, 3.0), np.array([1.0, 2.0, 0.5, 3.0]), np.array([1, 2, 1, 3])],
    ids=["list", "tuple", "float64", "int64"],
)
def test_class_weights_are_taken_to_the_logits(weights, asarray, to_numpy):
    logits, labels = asarray(LOGITS, "float32"), asarray(LABELS, "int64")
    value, gradient = sg.CrossEntropy(class_weight=weights).value_and_grad(logits, labels)
    assert value.dtype == gradient.dtype == logits.dtype
    reference = oracle.cross_entropy(LOGITS, LABELS, class_weight=weights)
    np.testing.assert_allclose(to_numpy(value), oracle.rounded(reference.value()), rtol=1e-5)
    np.testing.assert_allclose(to_numpy(gradient), oracle.rounded(reference.grad()), rtol=1e-5, atol=1e-8)


# --- mixed widths


@pytest.mark.parametrize("other", WIDTHS)
def test_logits_decide(other, dtype, has_dtype, asarray):
    if not has_dtype(other):
        pytest.skip(f"no {other} here")
    logits, direction = asarray(LOGITS, dtype), asarray(VECTOR, other)
    weights = asarray([1.0, 0.5, 2.0], other)
    # of the widths every second meets weights by class
    dense = (WIDTHS.index(other) + WIDTHS.index(dtype) // 2) % 2
    labels = asarray(np.eye(4)[LABELS], other) if dense else asarray(LABELS, "int32")
    loss = sg.CrossEntropy(class_weight=asarray([1.0, 2.0, 0.5, 3.0], other))
    got = oracle.every_order(loss, logits, labels, direction, sample_weight=weights)
    for name, (array, _) in got.items():
        assert array.dtype == logits.dtype, name
    assert sg.softmax_vjp(asarray(np.full((3, 4), 0.25), dtype), direction).dtype == logits.dtype
    assert sg.log_softmax_jvp(asarray(np.full((3, 4), -1.5), dtype), direction).dtype == logits.dtype


def test_features_decide_in_the_linear_model(asarray, to_numpy):
    features, labels = asarray(FEATURES, "float32"), asarray(LABELS, "int64")
    value, gradients = sg.linear_cross_entropy_value_and_grad(
        features,
        labels,
        asarray(WEIGHTS, "float32"),
        asarray([0.5, 0.0, 0.0, 0.25], "float32"),
        sample_weight=asarray([1.0, 2.0, 0.5], "float64"),
    )
    for result in (value, *gradients):
        assert result.dtype == features.dtype
    expected = oracle.linear(FEATURES, LABELS, WEIGHTS, [0.5, 0.0, 0.0, 0.25], sample_weight=[1.0, 2.0, 0.5])
    np.testing.assert_allclose(to_numpy(value), float(expected.item()), rtol=1e-5)


def test_targets_are_smoothed_in_a_wide_dtype(narrow, asarray, to_numpy):
    # the differences from 1/4 are exact in half precision, those of 0.9 times the targets are not
    shares = np.array([[0.25390625, 0.25, 0.25, 0.24609375]])
    got = sg.cross_entropy_grad(asarray(np.zeros((1, 4)), narrow), asarray(shares, narrow), label_smoothing=0.1)
    rtol = {"float16": 5e-4, "bfloat16": 4e-3}[narrow]
    np.testing.assert_allclose(to_numpy(got), 0.9 * (0.25 - shares), rtol=rtol, atol=1e-6)
