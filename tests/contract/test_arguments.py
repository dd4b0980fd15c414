"""Arguments at the edge of what is taken: the short forms that mean the same, and what is refused by its name."""

import subprocess
import sys

import numpy as np
import pytest

import _capabilities
import calls
import oracle
import softgrad as sg
from softgrad import partial

LOGITS = np.array([[0.5, -1.0, 2.0], [1.5, 0.5, -0.75]])
LABELS = np.array([2, 0])
X = np.array([[1.0, -0.5], [0.25, 2.0]])
W = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0]])


# --- short forms


def test_a_number_is_the_label_of_one_sample(asarray, to_numpy):
    row = asarray(LOGITS[0])
    want = oracle.rounded(oracle.cross_entropy(LOGITS[:1], LABELS[:1], orders=("grad",)).value("mean"))
    np.testing.assert_allclose(to_numpy(sg.cross_entropy(row, 2)), want, rtol=1e-13)


def test_factors_may_be_integers(asarray, to_numpy):
    factors = np.array([[2, 1, 3], [1, 4, 2]])
    want = np.log((factors * np.exp(LOGITS)).sum())
    np.testing.assert_allclose(to_numpy(sg.logsumexp(asarray(LOGITS), b=asarray(factors, "int64"))), want, rtol=1e-13)


def test_where_may_be_one_truth_value(asarray, to_numpy):
    x = asarray(LOGITS)
    np.testing.assert_array_equal(to_numpy(sg.softmax(x, where=False)), np.zeros((2, 3)))
    np.testing.assert_array_equal(to_numpy(sg.logsumexp(x, axis=1, where=False)), [-np.inf, -np.inf])
    np.testing.assert_array_equal(to_numpy(sg.softmax(x, where=True)), to_numpy(sg.softmax(x)))
    arguments = asarray(X), asarray(LABELS, "int64"), asarray(W)
    want = to_numpy(sg.linear_cross_entropy(*arguments))
    np.testing.assert_array_equal(to_numpy(sg.linear_cross_entropy(*arguments, where=True)), want)


@pytest.mark.parametrize("name", ["softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"])
def test_one_number_has_no_derivative(name, asarray, to_numpy):
    # its softmax is 1, whatever it is
    value = asarray(0.0 if name.startswith("log") else 1.0)
    got = to_numpy(getattr(sg, name)(value, asarray(3.0)))
    assert got.shape == ()
    assert got == 0


# --- what is refused


@pytest.mark.parametrize("axis", [True, False])
def test_a_truth_value_is_no_axis(axis, asarray):
    with pytest.raises(TypeError, match="axis must be an int"):
        sg.softmax(asarray(LOGITS), axis=axis)


def test_no_axis_at_all_is_refused(asarray):
    with pytest.raises(sg.AxisError, match="at least one axis"):
        sg.softmax(asarray(LOGITS), axis=())


def test_the_imaginary_part_is_not_dropped(xp, asarray, has_dtype):
    if not has_dtype("complex128"):
        pytest.skip("no complex numbers here")
    with pytest.raises(TypeError, match="imaginary part"):
        sg.logsumexp(asarray(LOGITS, "complex128"), dtype=xp.float64)


@pytest.mark.parametrize("weight", ["many", [1.0, "two", 3.0], {"a": 1.0}])
def test_class_weights_are_numbers(weight, asarray):
    with pytest.raises(TypeError, match="class_weight must be a number, a list of numbers or an array"):
        sg.cross_entropy(asarray(LOGITS), asarray(LABELS, "int64"), class_weight=weight)


def test_class_weights_are_real(asarray):
    weight = asarray([True, False, True], "bool")
    with pytest.raises(TypeError, match="class_weight must hold real numbers, got dtype"):
        sg.cross_entropy(asarray(LOGITS), asarray(LABELS, "int64"), class_weight=weight)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"block_size": True}, TypeError, "block_size must be an int or None, got True"),
        ({"block_size": 2.0}, TypeError, "block_size must be an int or None, got 2.0"),
        ({"l2": 0.5, "reduction": "none"}, ValueError, "l2 is added to the reduced loss"),
    ],
)
def test_options_of_the_linear_model(options, error, words, asarray):
    with pytest.raises(error, match=words):
        sg.linear_cross_entropy(asarray(X), asarray(LABELS, "int64"), asarray(W), **options)


@pytest.mark.parametrize(
    ("classes", "error", "words"),
    [
        ([], ValueError, "at least one class"),
        ([0.0], TypeError, "classes must be ints, got 0.0"),
        ([True], TypeError, "classes must be ints, got True"),
    ],
)
def test_classes_of_the_linear_model(classes, error, words, asarray):
    with pytest.raises(error, match=words):
        sg.linear_cross_entropy_grad(asarray(X), asarray(LABELS, "int64"), asarray(W), classes=classes)


def test_a_linear_model_has_classes(asarray):
    with pytest.raises(ValueError, match="has no classes"):
        sg.linear_cross_entropy(asarray(X), asarray(LABELS, "int64"), asarray(W[:0]))


def test_a_share_of_the_classes_has_a_class_axis(asarray):
    with pytest.raises(ValueError, match="logits must have a class axis"):
        partial.cross_entropy_partial(asarray(1.0), asarray(0, "int64"), offset=0)


@pytest.mark.libraries("array_api_strict")
def test_arrays_of_two_devices_are_refused(backend, xp, asarray):
    there = xp.asarray(LABELS, device=xp.Device("CPU_DEVICE"))
    with pytest.raises(sg.MixedArraysError, match="labels is on device"):
        sg.cross_entropy(asarray(LOGITS), there)


def test_classes_are_not_complex_numbers(backend, asarray, has_dtype):
    if backend == "numpy" or not has_dtype("complex128"):
        pytest.skip("NumPy's labels may be of any kind, others' of those that there are")
    with pytest.raises(TypeError, match="y must hold integers"):
        sg.SoftmaxRegression().fit(asarray(X), asarray([0, 1], "complex128"))


def test_sample_weights_are_real(backend, asarray, has_dtype):
    if not has_dtype("complex128"):
        pytest.skip("no complex numbers here")
    weight = asarray([1.0, 1.0], "complex128")
    with pytest.raises(TypeError, match="sample_weight must hold real numbers"):
        sg.cross_entropy(asarray(LOGITS), asarray(LABELS, "int64"), sample_weight=weight)
    if backend == "numpy":
        return  # scikit-learn takes those on the host
    with pytest.raises(TypeError, match="real numbers"):
        sg.SoftmaxRegression().fit(asarray(X), asarray([0, 1], "int64"), sample_weight=weight)


# --- subclasses of ndarray


class Tagged(np.ndarray):
    """An array whose class every operation of NumPy's hands on."""


def tagged(host, dtype=None, samples=True):
    return np.array(host, "float32" if dtype == "bfloat16" else dtype).view(Tagged)


# a prediction is of the classes that the test itself has put there, and so is the array of a number of Python
OWN = ("SoftmaxRegression.predict", "calibration.temperature")


@pytest.mark.parametrize("name", [name for name in calls.CALLS if name not in OWN])
@pytest.mark.libraries("numpy")
def test_a_subclass_comes_back_as_ndarray(name):
    for result, expected in zip(calls.flat(calls.CALLS[name](tagged)), calls.expected(name), strict=True):
        assert not isinstance(result, Tagged)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rows", [3, 3000])
@pytest.mark.libraries("numpy")
def test_a_subclass_comes_back_as_ndarray_small_or_large(rows):
    rng = np.random.default_rng(0)
    x, y, weight = (tagged(a) for a in (rng.normal(size=(rows, 10)), rng.integers(0, 10, rows), rng.random(rows)))
    losses = {
        "plain": {"reduction": "none"},
        "weights": {"reduction": "none", "sample_weight": weight, "class_weight": tagged(rng.random(10))},
        "mask": {"where": tagged(rng.random((rows, 10)) < 0.9), "reduction": "sum"},
        "smoothing": {"label_smoothing": 0.1},
    }
    results = [
        sg.softmax(x),
        sg.softmax(x, axis=None),
        sg.softmax(x, where=x > -1),
        sg.softmax(x, dtype=np.dtype("float32")),
        sg.softmax((x * 9).astype("int64")),
        sg.softmax(x[:0]),
        sg.log_softmax(x, axis=0),
        sg.logsumexp(x, axis=-1),
        sg.logsumexp(x, axis=-1, b=tagged(rng.random((rows, 10)))),
        sg.softmax_vjp(sg.softmax(x), x),
        sg.log_softmax_jvp(sg.log_softmax(x), x),
        *(a for options in losses.values() for a in sg.cross_entropy_value_and_grad(x, y, **options)),
        *(sg.cross_entropy_hvp(x, y, x, **options) for options in losses.values()),
        sg.cross_entropy_grad(x, tagged(sg.softmax(x))),
    ]
    assert {type(a) for a in results} <= {np.ndarray, np.float64}


# --- what is declared, and what is registered


def test_no_back_end_of_that_name_to_unregister():
    with pytest.raises(sg.BackendError, match="no back end is named 'nobody'"):
        sg.backends.unregister("nobody")


def test_what_is_declared_names_what_there_is():
    works = _capabilities.Capability("works")
    with pytest.raises(ValueError, match="no function or option is called 'sofmax'"):
        _capabilities.Kind("numpy", works, {"sofmax": works})


def test_the_table_of_the_docs_is_printed():
    run = subprocess.run(
        [sys.executable, _capabilities.__file__], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert run.stdout == _capabilities.markdown()


# --- integers

#: Where an int goes: what takes it, and its value there.
INTEGERS = {
    "axis": (1, lambda a, i: sg.softmax(a["logits"], axis=i)),
    "axis of logsumexp": (1, lambda a, i: sg.logsumexp(a["logits"], axis=(i,))),
    "axis of a loss": (1, lambda a, i: sg.cross_entropy(a["logits"], a["labels"], axis=i)),
    "ignore_index": (0, lambda a, i: sg.cross_entropy(a["logits"], a["labels"], ignore_index=i)),
    "label": (1, lambda a, i: sg.cross_entropy(a["logits"][0, :], i)),
    "block_size": (1, lambda a, i: sg.linear_cross_entropy(a["X"], a["labels"], a["W"], block_size=i)),
    "sample_axis": (0, lambda a, i: sg.linear_cross_entropy(a["X"], a["labels"], a["W"], sample_axis=i)),
    "classes": (1, lambda a, i: sg.linear_cross_entropy_grad(a["X"], a["labels"], a["W"], classes=[i])),
    "offset": (0, lambda a, i: partial.cross_entropy_partial(a["logits"], a["labels"], offset=i)[0]),
}


class Index:
    """An integer of nobody's."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("kind", [np.int64, np.uint8, Index])
def test_any_integer_will_do(name, kind, asarray, to_numpy):
    if name == "label" and kind is Index:
        pytest.skip("labels are arrays or plain integers")
    value, call = INTEGERS[name]
    given = {
        "logits": asarray(LOGITS),
        "labels": asarray(LABELS, "int64"),
        "X": asarray(X),
        "W": asarray(W),
    }
    np.testing.assert_array_equal(to_numpy(call(given, kind(value))), to_numpy(call(given, value)))


@pytest.mark.parametrize("name", [name for name in INTEGERS if name != "label"])
@pytest.mark.parametrize("value", [True, 1.0, "1", np.True_])
def test_what_is_no_integer_is_refused_by_name(name, value, asarray):
    given = {
        "logits": asarray(LOGITS),
        "labels": asarray(LABELS, "int64"),
        "X": asarray(X),
        "W": asarray(W),
    }
    with pytest.raises(TypeError, match=name.split()[0]):
        INTEGERS[name][1](given, value)
