"""What labels and weights at the edge give, the same on every array library."""

import numpy as np
import pytest

import oracle
import softgrad as sg
from contract_cases import FEATURES, HIDDEN, LABELS, LOGITS, REDUCTIONS, SOFT, VECTOR, WEIGHTS
from marks import late_on_jax
from softgrad import parallel

#: Cases that are programs or graphs anew there.
LATE = pytest.mark.full("jax", "dask")
DIRECTION = np.array([[1.0, 0.5], [-0.25, 0.0], [2.0, -1.0], [0.75, 0.25]])


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


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.25},
        *(pytest.param(each, marks=LATE) for each in ({}, {"z_loss": 0.5}, {"ignore_index": -100})),
    ],
    ids=str,
)
@late_on_jax
def test_a_mean_over_labels_out_of_range_alone_is_nan(options, asarray, to_numpy):
    labels, balance = asarray([4, -1, 9], "int64"), asarray([1.0, 2.0, 0.5, 3.0])
    model = asarray(FEATURES), labels, asarray(WEIGHTS)
    alone = {"first_class": 0, "reduce": lambda a, op: a}
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


@pytest.mark.parametrize("junk", [np.nan, pytest.param(np.inf, marks=LATE)])
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
@late_on_jax
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


@late_on_jax
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
