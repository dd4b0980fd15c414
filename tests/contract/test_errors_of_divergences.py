"""Bad input of divergences and log-probabilities: the error names the argument, what came, what was expected."""

import numpy as np
import pytest

import softgrad as sg
from contract_cases import LABELS, LOGITS, says

# --- divergences


@pytest.mark.parametrize("function", [sg.kl_divergence, sg.js_divergence_value_and_grad])
def test_divergences_name_what_is_wrong(function, data, asarray, foreign, backend):
    make, name = foreign
    x, y = data["logits"], asarray(LOGITS[:, ::-1].copy())
    for error, words, call in (
        (TypeError, ("logits", "list"), lambda: function(LOGITS.tolist(), y)),
        (TypeError, ("target_logits", name, backend), lambda: function(x, make(LOGITS))),
        (TypeError, ("target_logits", "bool"), lambda: function(x, asarray(LOGITS > 0, "bool"))),
        (ValueError, ("target_logits", "(3, 3)", "(3, 4)"), lambda: function(x, y[:, :3])),
        (ValueError, ("logits", "no dimensions"), lambda: function(asarray(1.0), asarray(1.0))),
        (ValueError, ("logits", "(3, 0)", "classes"), lambda: function(x[:, :0], y[:, :0])),
        (sg.AxisError, ("axis 2", "2 dimensions"), lambda: function(x, y, axis=2)),
        (ValueError, ("temperature", "positive", "0"), lambda: function(x, y, temperature=0)),
        (ValueError, ("temperature", "-1"), lambda: function(x, y, temperature=-1.0)),
        (TypeError, ("temperature", "'2'"), lambda: function(x, y, temperature="2")),
        (ValueError, ("reduction", "batchmean"), lambda: function(x, y, reduction="batchmean")),
        (ValueError, ("where", "(2, 4)", "(3, 4)"), lambda: function(x, y, where=asarray(LOGITS[:2] > 0, "bool"))),
        (ValueError, ("sample_weight", "(4,)", "(3,)"), lambda: function(x, y, sample_weight=asarray(np.ones(4)))),
        (ValueError, ("precision", "full"), lambda: function(x, y, precision="full")),
        (TypeError, ("label_smoothing",), lambda: function(x, y, label_smoothing=0.1)),
    ):
        with pytest.raises(error, match=says(*words)):
            call()


def test_divergences_name_a_wrong_option_of_their_own(data):
    x = data["logits"]
    with pytest.raises(ValueError, match=says("direction", "backward", "forward", "reverse")):
        sg.kl_divergence(x, x, direction="backward")
    with pytest.raises(ValueError, match=says("beta", "1.5")):
        sg.js_divergence(x, x, beta=1.5)
    with pytest.raises(ValueError, match=says("wrt", "targets", "target_logits")):
        sg.kl_divergence_grad(x, x, wrt=("logits", "targets"))
    for wrt in ((), ("logits", "logits")):
        with pytest.raises(ValueError, match=says("wrt", "once", repr(wrt))):
            sg.js_divergence_grad(x, x, wrt=wrt)
    with pytest.raises(TypeError, match=says("js_divergence", "direction", "beta")):
        sg.js_divergence_grad(x, x, direction="reverse")


@pytest.mark.parametrize("function", [sg.top_k_kl_divergence, sg.top_k_kl_divergence_grad])
def test_divergences_from_some_classes_name_what_is_wrong(function, data, asarray, foreign, backend):
    make, name = foreign
    x, y, labels = data["logits"], asarray(LOGITS[:, :2].copy()), asarray(LABELS[:, None] * [1, 0], "int64")
    for error, words, call in (
        (TypeError, ("logits", "list"), lambda: function(LOGITS.tolist(), y, labels)),
        (TypeError, ("target_log_probs", name, backend), lambda: function(x, make(LOGITS[:, :2]), labels)),
        (TypeError, ("target_labels", "integers"), lambda: function(x, y, y)),
        (ValueError, ("target_labels", "(3, m)", "(3,)"), lambda: function(x, y, labels[:, 0])),
        (ValueError, ("target_labels", "(3, m)", "(3, 0)"), lambda: function(x, y[:, :0], labels[:, :0])),
        (ValueError, ("target_log_probs", "(3, 1)", "(3, 2)"), lambda: function(x, y[:, :1], labels)),
        (sg.AxisError, ("axis 2", "2 dimensions"), lambda: function(x, y, labels, axis=2)),
        (ValueError, ("rest", "drop", "lump", "renormalize"), lambda: function(x, y, labels, rest="drop")),
        (ValueError, ("direction", "back"), lambda: function(x, y, labels, direction="back")),
        (ValueError, ("temperature", "0"), lambda: function(x, y, labels, temperature=0)),
        (ValueError, ("reduction", "max"), lambda: function(x, y, labels, reduction="max")),
        (TypeError, ("beta",), lambda: function(x, y, labels, beta=0.5)),
    ):
        with pytest.raises(error, match=says(*words)):
            call()
    features = asarray(np.ones((3, 2))), asarray(np.ones((4, 2)))
    with pytest.raises(ValueError, match=says("target_labels", "(3, m)", "(2, 2)")):
        sg.linear_top_k_kl_divergence(*features, y[:2, :], labels[:2, :])
    with pytest.raises(ValueError, match=says("reduction='none'")):
        sg.linear_top_k_kl_divergence_value_and_grad(*features, y, labels, reduction="none")


# --- the other arrays of the loss


LOG_PROBS = {
    "log_probs": lambda x, y, c, **options: sg.log_probs(x, y, **options),
    "log_probs_vjp": lambda x, y, c, **options: sg.log_probs_vjp(x, y, c, **options),
    "entropy": lambda x, y, c, **options: sg.entropy(x, **options),
    "entropy_vjp": lambda x, y, c, **options: sg.entropy_vjp(x, c, **options),
}


@pytest.mark.parametrize("name", LOG_PROBS)
def test_log_probs_and_entropy_name_what_is_wrong(name, data, asarray):
    function, x, y, c = LOG_PROBS[name], data["logits"], data["labels"], asarray(np.ones(3))
    for logits, words in (([[1.0]], ("logits", "list")), (asarray(LOGITS > 0, "bool"), ("logits", "bool"))):
        with pytest.raises(TypeError, match=says(*words)):
            function(logits, y, c)
    for error, options, words in (
        (ValueError, {"axis": 2}, ("axis", "2")),
        (TypeError, {"axis": None}, ("axis", "None")),
        (ValueError, {"where": asarray(np.ones(3), "bool")}, ("where", "(3,)", "logits")),
        (ValueError, {"temperature": 0.0}, ("temperature", "0.0", "positive")),
        (ValueError, {"temperature": -1}, ("temperature", "-1")),
        (TypeError, {"temperature": None}, ("temperature", "None")),
        (ValueError, {"softcap": 0}, ("softcap", "0", "positive")),
        (TypeError, {"softcap": "30"}, ("softcap", "'30'")),
        (ValueError, {"precision": "medium"}, ("precision", "medium")),
    ):
        with pytest.raises(error, match=says(*words)):
            function(x, y, c, **options)
    with pytest.raises(ValueError, match=says("logits", "no dimensions")):
        function(asarray(1.5), 0, asarray(1.0))
    with pytest.raises(ValueError, match=says("logits", "(3, 0)", "classes")):
        function(asarray(np.zeros((3, 0))), y, c)


def test_labels_and_cotangents_of_log_probs(data, asarray):
    x, y = data["logits"], data["labels"]
    for shape in ((4,), (2, 1), (3, 1, 1), ()):
        with pytest.raises(ValueError, match=says("labels", str(shape), "(3, 4)")):
            sg.log_probs(x, asarray(np.zeros(shape), "int64"))
    for dtype in ("float64", "bool"):
        with pytest.raises(TypeError, match=says("labels", dtype, "integer")):
            sg.log_probs(x, asarray(LABELS, dtype))
    for labels, shape in ((y, (3, 1)), (asarray(np.zeros((3, 2)), "int64"), (3,))):
        with pytest.raises(ValueError, match=says("cotangent", str(shape))):
            sg.log_probs_vjp(x, labels, asarray(np.ones(shape)))
    with pytest.raises(ValueError, match=says("cotangent", "(3, 4)", "(3,)")):
        sg.entropy_vjp(x, x)
