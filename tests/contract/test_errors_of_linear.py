"""Bad input of the linear model: the error names the argument, what came and what was expected."""

import numpy as np
import pytest

import softgrad as sg
from contract_cases import FEATURES, LABELS, WEIGHTS, says


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample_axis": 2}, ("sample_axis", "2")),
        ({"block_size": 0}, ("block_size", "0")),
        ({"block_size": -1}, ("block_size", "-1")),
        ({"reduction": "average"}, ("reduction", "average")),
        ({"label_smoothing": 2.0}, ("label_smoothing", "2.0")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_linear_option_without_meaning(options, words, data):
    for function in (sg.linear_cross_entropy, sg.linear_cross_entropy_grad, sg.linear_cross_entropy_value_and_grad):
        with pytest.raises(ValueError, match=says(*words)):
            function(data["X"], data["labels"], data["W"], **options)


@pytest.mark.parametrize("wrt", ["w", "labels", ("W", "Y"), ("W", "W"), ()], ids=repr)
def test_wrt_without_meaning(wrt, data):
    for function in (sg.linear_cross_entropy_grad, sg.linear_cross_entropy_value_and_grad):
        with pytest.raises(ValueError, match="wrt"):
            function(data["X"], data["labels"], data["W"], wrt=wrt)


def test_gradient_of_a_bias_that_is_not_there(data):
    for wrt in ("bias", ("W", "bias")):
        with pytest.raises(ValueError, match=says("wrt", "bias")):
            sg.linear_cross_entropy_grad(data["X"], data["labels"], data["W"], wrt=wrt)


@pytest.mark.parametrize("classes", [[4], [-5], [0, 7]], ids=str)
def test_classes_out_of_range(classes, data):
    with pytest.raises((ValueError, IndexError), match=says("classes", str(classes[-1]))):
        sg.linear_cross_entropy_grad(data["X"], data["labels"], data["W"], classes=classes)


def test_matrices_that_do_not_fit(data, asarray):
    with pytest.raises(ValueError, match=says("X", "2", "W", "(4, 3)")):
        sg.linear_cross_entropy(data["X"], data["labels"], asarray(np.ones((4, 3))))
    with pytest.raises(ValueError, match=says("labels", "(4,)")):
        sg.linear_cross_entropy(data["X"], asarray(np.zeros(4), "int64"), data["W"])
    with pytest.raises(ValueError, match=says("labels", "3", "W", "4")):
        sg.linear_cross_entropy(data["X"], asarray(np.zeros((3, 3))), data["W"])
    with pytest.raises(ValueError, match=says("bias", "(3,)")):
        sg.linear_cross_entropy(data["X"], data["labels"], data["W"], asarray(np.ones(3)))
    with pytest.raises(ValueError, match=says("X", "(2,)")):
        sg.linear_cross_entropy(asarray(np.ones(2)), data["labels"], data["W"])
    with pytest.raises(ValueError, match=says("W", "(2,)")):
        sg.linear_cross_entropy(data["X"], data["labels"], asarray(np.ones(2)))
    with pytest.raises(ValueError, match=says("sample_weight", "(4,)")):
        sg.linear_cross_entropy(data["X"], data["labels"], data["W"], sample_weight=asarray(np.ones(4)))


def test_seed_matrices_that_do_not_fit(data, asarray):
    X, W = asarray(FEATURES.T), asarray(WEIGHTS.T)
    with pytest.raises(ValueError, match=says("labels", "(3, 4)")):
        sg.linear_cross_entropy(X, asarray(np.eye(4)[LABELS]), W, sample_axis=1)
    with pytest.raises(ValueError, match=says("X", "W", "(4, 2)")):
        sg.linear_cross_entropy(X, data["labels"], data["W"], sample_axis=1)


def test_linear_vectors_that_do_not_fit(data, asarray):
    with pytest.raises(ValueError, match=says("vector", "(4, 3)", "W")):
        sg.linear_cross_entropy_hvp(data["X"], data["labels"], data["W"], asarray(np.ones((4, 3))))
    X, W = asarray(FEATURES.T), asarray(WEIGHTS.T)
    with pytest.raises(ValueError, match=says("vector", "(5, 4)", "W")):
        sg.linear_cross_entropy_hvp(X, data["labels"], W, asarray(np.ones((5, 4))), sample_axis=1)
    bias = asarray(np.zeros(4))
    with pytest.raises((TypeError, ValueError), match="vector"):
        sg.linear_cross_entropy_hvp(data["X"], data["labels"], data["W"], (data["W"],), bias)
    with pytest.raises((TypeError, ValueError), match="vector"):
        sg.linear_cross_entropy_hvp(data["X"], data["labels"], data["W"], data["W"], bias)


def test_float_labels_of_the_linear_model(data, asarray):
    for dtype in ("float64", "bool"):
        with pytest.raises(TypeError, match=says("labels", dtype, "integer")):
            sg.linear_cross_entropy(data["X"], asarray(LABELS, dtype), data["W"])


LINEAR_LOG_PROBS = {
    "linear_log_probs": lambda X, y, W, bias=None, **options: sg.linear_log_probs(X, y, W, bias, **options),
    "linear_log_probs_vjp": lambda X, y, W, bias=None, **options: sg.linear_log_probs_vjp(
        X, y, W, bias, (None, sg.entropy(W[:3, :])), **options
    ),
}


@pytest.mark.parametrize("name", LINEAR_LOG_PROBS)
def test_linear_log_probs_name_what_is_wrong(name, data, asarray):
    function, X, y, W = LINEAR_LOG_PROBS[name], data["X"], data["labels"], data["W"]
    for error, call, words in (
        (ValueError, lambda: function(X, asarray(np.zeros(4), "int64"), W), ("labels", "(4,)")),
        (ValueError, lambda: function(X, asarray(np.zeros((3, 1, 1)), "int64"), W), ("labels", "(3, 1, 1)")),
        (TypeError, lambda: function(X, asarray(LABELS, "float64"), W), ("labels", "float64", "integer")),
        (ValueError, lambda: function(X, y, asarray(np.ones((4, 3)))), ("W", "(4, 3)", "2")),
        (ValueError, lambda: function(X, y, W, asarray(np.ones(3))), ("bias", "(3,)")),
        (ValueError, lambda: function(asarray(np.ones(2)), y, W), ("X", "(2,)")),
        (ValueError, lambda: function(X, y, W, sample_axis=2), ("sample_axis", "2")),
        (ValueError, lambda: function(X, y, W, block_size=0), ("block_size", "0")),
        (ValueError, lambda: function(X, y, W, temperature=0), ("temperature", "0")),
        (ValueError, lambda: function(X, y, W, softcap=-1.0), ("softcap", "-1.0")),
        (ValueError, lambda: function(X, y, W, precision="medium"), ("precision", "medium")),
    ):
        with pytest.raises(error, match=says(*words)):
            call()


def test_top_k_and_cotangents_of_linear_log_probs(data, asarray):
    given = data["X"], data["labels"], data["W"]
    for count in (-1, 5):
        with pytest.raises(ValueError, match=says("top_k", str(count), "4")):
            sg.linear_log_probs(*given, top_k=count)
    with pytest.raises(TypeError, match=says("top_k", "1.5")):
        sg.linear_log_probs(*given, top_k=1.5)
    ones = asarray(np.ones(3))
    for cotangents, words in (
        (ones, ("cotangents", "pair")),
        ((ones,), ("cotangents", "pair")),
        ((None, None), ("cotangents", "None")),
        ((asarray(np.ones((3, 1))), None), ("cotangents", "log-probabilities", "(3, 1)", "(3,)")),
        ((None, asarray(np.ones(4))), ("cotangents", "entropies", "(4,)", "(3,)")),
    ):
        with pytest.raises(ValueError, match=says(*words)):
            sg.linear_log_probs_vjp(*given, None, cotangents)
    with pytest.raises(ValueError, match=says("wrt", "bias")):
        sg.linear_log_probs_vjp(*given, None, (ones, None), wrt="bias")
