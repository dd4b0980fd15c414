"""Bad input: the error names the argument, what came and what was expected; input is never written to."""

import numpy as np
import pytest

import softgrad as sg
from contract_cases import DENSE, LABELS, LOGITS, WEIGHTS, says

METHODS = ["__call__", "grad", "value_and_grad", "hvp", "hessian_diag"]


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
