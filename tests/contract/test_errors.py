"""Bad input: the error names the argument, what came and what was expected; input is never written to."""

import re

import numpy as np
import pytest

import oracle
import softgrad as sg

LOGITS = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
LABELS = np.array([2, 0, 3])
FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
WEIGHTS = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0], [0.0, -1.25]])
DENSE = [sg.softmax, sg.log_softmax, sg.logsumexp]
METHODS = ["__call__", "grad", "value_and_grad", "hvp", "hessian_diag"]


def says(*words):
    """A pattern that holds when each word is in the message, in any order; a single letter stands alone."""
    patterns = (rf"\b{word}\b" if len(word) == 1 and word.isalpha() else re.escape(word) for word in words)
    return "(?s)" + "".join(f"(?=.*{pattern})" for pattern in patterns)


@pytest.fixture
def data(asarray):
    return {
        "logits": asarray(LOGITS),
        "labels": asarray(LABELS, "int64"),
        "X": asarray(FEATURES),
        "W": asarray(WEIGHTS),
    }


def ask(method, data, loss=None, **changed):
    """Call one method of a loss with some of its arguments replaced."""
    arguments = {"logits": data["logits"], "labels": data["labels"], **changed}
    first = [arguments.pop("logits"), arguments.pop("labels")]
    vector = arguments.pop("vector", data["logits"])
    if method == "hvp":
        first.append(vector)
    return getattr(loss or sg.CrossEntropy(), method)(*first, **arguments)


# --- what is no array of ours


@pytest.mark.parametrize("function", DENSE)
@pytest.mark.parametrize(
    ("x", "came"),
    [([1.0, 2.0], "list"), ((1.0, 2.0), "tuple"), ("logits", "str"), (None, "NoneType"), ({1: 2.0}, "dict")],
    ids=["list", "tuple", "str", "None", "dict"],
)
def test_dense_refuses_what_is_no_array(x, came, function):
    with pytest.raises(TypeError, match=says("x", came)):
        function(x)


@pytest.mark.parametrize("dtype", ["softmin", int, object()], ids=["str", "int", "object"])
@pytest.mark.parametrize("function", DENSE)
def test_dense_refuses_what_is_no_floating_dtype_of_the_library(dtype, function, asarray):
    with pytest.raises(TypeError, match="dtype must be"):
        function(asarray(LOGITS), dtype=dtype)


@pytest.mark.libraries("torch", "array_api_strict")
def test_dense_refuses_a_dtype_of_another_library(asarray):
    with pytest.raises(TypeError, match=says("dtype must be", "numpy.float32")):
        sg.softmax(asarray(LOGITS), dtype=np.float32)


def test_dense_takes_a_dtype_by_its_name(asarray, xp):
    assert sg.softmax(asarray(LOGITS), dtype="float32").dtype == xp.float32


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("function", DENSE)
def test_dense_refuses_matrices_and_masked_arrays(function):
    with pytest.raises(TypeError, match=says("x", "matrix")):
        function(np.matrix([[1.0, 2.0]]))
    with pytest.raises(TypeError, match=says("x", "masked array")):
        function(np.ma.masked_array([1.0, 2.0], mask=[True, False]))


@pytest.mark.parametrize("function", DENSE)
def test_dense_refuses_objects_and_strings_of_numpy(function):
    for x in (np.array([1.0, None], dtype=object), np.array(["a", "b"]), np.array([1, 2], dtype="datetime64[s]")):
        with pytest.raises(TypeError, match=says("x", str(x.dtype))):
            function(x)


@pytest.mark.libraries("torch")
def test_torch_refuses_sparse_and_nested_tensors(backend):
    import torch

    sparse = torch.eye(3).to_sparse()
    with pytest.raises(TypeError, match=says("x", "sparse")):
        sg.softmax(sparse)
    with pytest.raises(TypeError, match=says("logits", "sparse")):
        sg.cross_entropy(sparse, torch.tensor([0, 1, 2]))
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged)
    with pytest.raises(TypeError, match=says("x", "nested")):
        sg.softmax(nested)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_loss_refuses_what_is_no_array(method, data):
    for logits, came in (
        ([[1.0, 2.0]], "list"),
        (np.matrix(LOGITS), "matrix"),
        (np.ma.masked_array(LOGITS), "masked array"),
    ):
        with pytest.raises(TypeError, match=says("logits", came)):
            ask(method, data, logits=logits)
    for labels, came in (([2, 0, 3], "list"), (np.ma.masked_array(LABELS), "masked array")):
        with pytest.raises(TypeError, match=says("labels", came)):
            ask(method, data, labels=labels)


@pytest.fixture
def foreign(backend):
    """A way to make arrays of another library, and what it is called."""
    if backend == "numpy":
        other = pytest.importorskip("array_api_strict")
        return other.asarray, "array_api_strict"
    return np.asarray, "numpy"


@pytest.mark.parametrize("method", METHODS)
def test_loss_refuses_a_mixture_of_libraries(method, data, foreign, backend):
    make, name = foreign
    here = "array_api_strict" if backend == "array_api_strict" else backend
    for changed in (
        {"labels": make(LABELS)},
        {"labels": make(np.eye(4)[LABELS])},
        {"sample_weight": make(np.ones(3))},
        {"where": make(np.ones((3, 4), dtype=bool))},
    ):
        with pytest.raises(TypeError, match=says(name, here)) as caught:
            ask(method, data, **changed)
        assert next(iter(changed)) in str(caught.value)


def test_other_functions_refuse_a_mixture_of_libraries(data, foreign, backend):
    make, name = foreign
    calls = {
        "vector": lambda: sg.CrossEntropy().hvp(data["logits"], data["labels"], make(LOGITS)),
        "cotangent": lambda: sg.softmax_vjp(data["logits"], make(LOGITS)),
        "tangent": lambda: sg.log_softmax_jvp(data["logits"], make(LOGITS)),
        "where": lambda: sg.softmax(data["logits"], where=make(LOGITS > 0)),
        "cotangent of log_probs": lambda: sg.log_probs_vjp(data["logits"], data["labels"], make(np.ones(3))),
        "cotangent of entropy": lambda: sg.entropy_vjp(data["logits"], make(np.ones(3))),
        "labels of log_probs": lambda: sg.log_probs(data["logits"], make(LABELS)),
        "b": lambda: sg.logsumexp(data["logits"], b=make(LOGITS)),
        "W": lambda: sg.linear_cross_entropy(data["X"], data["labels"], make(WEIGHTS)),
        "bias": lambda: sg.linear_cross_entropy(data["X"], data["labels"], data["W"], make(np.zeros(4))),
        "labels": lambda: sg.linear_cross_entropy(data["X"], make(LABELS), data["W"]),
    }
    if backend == "dask":
        # a solver holds its parameters whole, in the library of the chunks
        del calls["W"], calls["bias"]
    for argument, call in calls.items():
        with pytest.raises(TypeError, match=says(argument.partition(" ")[0], name, backend)):
            call()


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


# --- axis


@pytest.mark.parametrize("function", DENSE)
@pytest.mark.parametrize("axis", [2, -3, (0, 2)], ids=str)
def test_axis_out_of_range(axis, function, data):
    with pytest.raises((ValueError, IndexError), match=says("axis", str(axis if isinstance(axis, int) else 2), "2")):
        function(data["logits"], axis=axis)


@pytest.mark.parametrize("function", DENSE)
def test_axis_twice(function, data):
    with pytest.raises(ValueError, match="axis"):
        function(data["logits"], axis=(1, -1))


@pytest.mark.parametrize("function", DENSE)
@pytest.mark.parametrize("axis", [1.0, "1", (0, 1.0)], ids=repr)
def test_axis_of_another_type(axis, function, data):
    with pytest.raises(TypeError, match=says("axis", "1.0" if axis != "1" else "'1'", "int")):
        function(data["logits"], axis=axis)


@pytest.mark.parametrize("function", DENSE)
def test_axis_of_an_array_without_dimensions(function, asarray):
    for axis in (1, -2):
        with pytest.raises((ValueError, IndexError), match=says("axis", str(axis))):
            function(asarray(1.5), axis=axis)


@pytest.mark.parametrize("method", METHODS)
def test_axis_of_the_loss_out_of_range(method, data):
    with pytest.raises((ValueError, IndexError), match=says("axis", "5")):
        ask(method, data, sg.CrossEntropy(axis=5))


@pytest.mark.parametrize("axis", [None, (0, 1), 1.0], ids=repr)
def test_axis_of_the_loss_is_one_integer(axis, data):
    with pytest.raises(TypeError, match="axis"):
        ask("__call__", data, sg.CrossEntropy(axis=axis))


# --- labels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_class_indices_must_be_integers(dtype, method, data, asarray):
    with pytest.raises(TypeError, match=says("labels", dtype, "integer")):
        ask(method, data, labels=asarray(LABELS, dtype))


@pytest.mark.parametrize("dtype", ["bool", "complex128"])
def test_class_weights_in_labels_must_be_real(dtype, data, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype} here")
    with pytest.raises(TypeError, match=says("labels", dtype)):
        ask("__call__", data, labels=asarray(np.eye(4)[LABELS], dtype))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.zeros(4), "int64"),
        (np.zeros(()), "int64"),
        (np.zeros((3, 1)), "int64"),
        (np.zeros((3, 3)), "float64"),
        (np.zeros((4, 3)), "float64"),
        (np.zeros((3, 4, 1)), "float64"),
    ],
    ids=lambda value: str(np.shape(value)) if not isinstance(value, str) else value,
)
def test_labels_of_another_shape(labels, dtype, method, data, asarray):
    with pytest.raises(ValueError, match=says("labels", str(labels.shape), "logits", "(3, 4)")):
        ask(method, data, labels=asarray(labels, dtype))


def test_logits_without_dimensions(asarray):
    with pytest.raises((ValueError, IndexError), match="logits"):
        sg.cross_entropy(asarray(1.5), asarray(0, "int64"))


# --- the other arrays of the loss


@pytest.mark.parametrize("method", METHODS)
def test_arrays_of_another_shape(method, data, asarray):
    for argument, array in (
        ("sample_weight", asarray(np.ones(4))),
        ("sample_weight", asarray(np.ones((3, 4)))),
        ("where", asarray(np.ones(3), "bool")),
        ("where", asarray(np.ones((2, 3, 4)), "bool")),
    ):
        with pytest.raises(ValueError, match=says(argument, str(tuple(array.shape)))):
            ask(method, data, **{argument: array})
    for weight in ([1.0, 2.0], asarray(np.ones(5)), asarray(np.ones((3, 4)))):
        with pytest.raises(ValueError, match=says("class_weight", "4")):
            ask(method, data, sg.CrossEntropy(class_weight=weight))


def test_vector_of_another_shape(data, asarray):
    with pytest.raises(ValueError, match=says("vector", "(3, 3)", "(3, 4)")):
        ask("hvp", data, vector=asarray(np.ones((3, 3))))


def test_arrays_of_another_kind(data, asarray):
    for argument, array in (
        ("where", asarray(np.ones((3, 4)), "float64")),
        ("where", asarray(np.ones((3, 4)), "int64")),
    ):
        with pytest.raises(TypeError, match=says(argument, str(array.dtype).rpartition(".")[2])):
            ask("__call__", data, **{argument: array})
    with pytest.raises(TypeError, match="where"):
        sg.softmax(data["logits"], where=asarray(np.ones((3, 4)), "int64"))
    with pytest.raises(TypeError, match="vector"):
        ask("hvp", data, vector=asarray(LOGITS > 0, "bool"))


@pytest.mark.parametrize("function", DENSE)
def test_where_of_another_shape(function, data, asarray):
    with pytest.raises(ValueError, match=says("where", "(3,)", "(3, 4)")):
        function(data["logits"], where=asarray(np.ones(3), "bool"))


def test_b_of_another_shape_or_kind(data, asarray):
    with pytest.raises(ValueError, match=says("b", "(3,)", "(3, 4)")):
        sg.logsumexp(data["logits"], b=asarray(np.ones(3)))
    with pytest.raises(TypeError, match=says("b", "bool")):
        sg.logsumexp(data["logits"], b=asarray(np.ones((3, 4)), "bool"))


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (sg.softmax_vjp, "cotangent"),
        (sg.softmax_jvp, "tangent"),
        (sg.log_softmax_vjp, "cotangent"),
        (sg.log_softmax_jvp, "tangent"),
    ],
    ids=["softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"],
)
def test_direction_of_another_shape(function, argument, data, asarray):
    with pytest.raises(ValueError, match=says(argument, "(3, 3)", "(3, 4)")):
        function(data["logits"], asarray(np.ones((3, 3))))
    with pytest.raises((ValueError, IndexError), match="axis"):
        function(data["logits"], data["logits"], axis=2)


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


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "average"}, ("reduction", "average", "mean", "sum", "none")),
        ({"precision": "medium"}, ("precision", "medium", "high")),
        ({"label_smoothing": 1.5}, ("label_smoothing", "1.5")),
        ({"label_smoothing": -0.1}, ("label_smoothing", "-0.1")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("method", METHODS)
def test_option_without_meaning(method, options, words, data):
    with pytest.raises(ValueError, match=says(*words)):
        ask(method, data, sg.CrossEntropy(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ignore_index": 1.5}, ("ignore_index", "1.5", "int")),
        ({"ignore_index": "1"}, ("ignore_index", "'1'", "int")),
        ({"label_smoothing": "0.1"}, ("label_smoothing", "'0.1'", "number")),
        ({"z_loss": None}, ("z_loss", "None")),
        ({"reduction": None}, ("reduction", "None")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_option_of_another_type(options, words, data):
    with pytest.raises((TypeError, ValueError), match=says(*words)):
        ask("__call__", data, sg.CrossEntropy(**options))


@pytest.mark.parametrize("function", DENSE)
def test_precision_without_meaning(function, data):
    with pytest.raises(ValueError, match=says("precision", "medium", "high")):
        function(data["logits"], precision="medium")


def test_unknown_option_is_named(data):
    for call in (
        lambda: sg.cross_entropy(data["logits"], data["labels"], label_smothing=0.1),
        lambda: sg.linear_cross_entropy(data["X"], data["labels"], data["W"], label_smothing=0.1),
    ):
        with pytest.raises(TypeError, match="label_smothing"):
            call()


def test_dim_is_called_axis(data):
    with pytest.raises(TypeError, match="dim"):
        sg.softmax(data["logits"], dim=-1)


# --- the linear model


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


# --- input is never written to


def test_no_input_is_written_to(asarray, to_numpy):
    hosts = {
        "logits": (LOGITS, "float64"),
        "labels": (LABELS, "int64"),
        "soft": (np.eye(4)[LABELS], "float64"),
        "vector": (LOGITS[::-1], "float64"),
        "sample_weight": (np.array([1.0, 0.0, 2.0]), "float64"),
        "class_weight": (np.array([1.0, 2.0, 0.5, 3.0]), "float64"),
        "where": (LOGITS > -1.5, "bool"),
        "b": (LOGITS - 1, "float64"),
        "X": (FEATURES, "float64"),
        "W": (WEIGHTS, "float64"),
        "bias": (np.array([0.5, 0.0, -0.5, 1.0]), "float64"),
        "narrow": (LOGITS, "float32"),
    }
    given = {name: asarray(value, dtype) for name, (value, dtype) in hosts.items()}
    before = {name: to_numpy(array).tobytes() for name, array in given.items()}
    for x in (given["logits"], given["narrow"]):
        for axis in (0, -1, None):
            for function in DENSE:
                for precision in (None, "high"):
                    to_numpy(function(x, axis=axis, precision=precision))
                    to_numpy(function(x, axis=axis, where=given["where"], precision=precision))
            to_numpy(sg.logsumexp(x, axis=axis, b=given["b"], return_sign=True)[0])
    for function in (sg.softmax_vjp, sg.softmax_jvp, sg.log_softmax_vjp, sg.log_softmax_jvp):
        to_numpy(function(given["logits"], given["vector"]))
    several = asarray(np.stack([LABELS, LABELS[::-1]], axis=1), "int64")
    for options in ({}, {"where": given["where"], "temperature": 0.5}):
        to_numpy(sg.entropy(given["logits"], **options))
        to_numpy(sg.entropy_vjp(given["logits"], given["sample_weight"], **options))
        to_numpy(sg.log_probs(given["logits"], several, **options))
        to_numpy(sg.log_probs_vjp(given["logits"], several, given["vector"][:, :2], **options))
        to_numpy(sg.log_probs_vjp(given["logits"], given["labels"], given["sample_weight"], **options))
    loss = sg.CrossEntropy(label_smoothing=0.1, z_loss=0.2, class_weight=given["class_weight"], ignore_index=2)
    for labels in (given["labels"], given["soft"]):
        for arguments in ({}, {"sample_weight": given["sample_weight"], "where": given["where"]}):
            for array, _ in oracle.every_order(loss, given["logits"], labels, given["vector"], **arguments).values():
                to_numpy(array)
    X, labels, W, bias = (given[name] for name in ("X", "labels", "W", "bias"))
    pair = (given["sample_weight"], given["sample_weight"])
    for array in (
        *sg.linear_log_probs(X, labels, W, bias, entropy=True, top_k=2),
        *sg.linear_log_probs_vjp(X, labels, W, bias, pair, wrt=("W", "bias", "X")),
    ):
        to_numpy(array)
    for block_size in (None, 2):
        options = {"l2": 0.5, "block_size": block_size, "class_weight": given["class_weight"]}
        value, gradients = sg.linear_cross_entropy_value_and_grad(X, labels, W, bias, wrt=("W", "bias", "X"), **options)
        products = sg.linear_cross_entropy_hvp(X, labels, W, (W, bias), bias, **options)
        for array in (value, *gradients, *products, sg.linear_cross_entropy_hessian(X, labels, W, **options)):
            to_numpy(array)
    after = {name: to_numpy(array).tobytes() for name, array in given.items()}
    assert after == before


@pytest.mark.libraries("numpy")
def test_result_shares_no_memory_with_its_input(backend, asarray):
    x, one = asarray(LOGITS), asarray(LOGITS[:, :1])
    results = [sg.softmax(x), sg.log_softmax(x), sg.logsumexp(one, axis=-1), sg.cross_entropy_grad(x, LABELS)]
    for result in results:
        assert not np.shares_memory(result, x)
        assert not np.shares_memory(result, one)
        assert result.flags.writeable
