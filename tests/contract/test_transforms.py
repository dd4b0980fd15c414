"""The transforms of the libraries: compiling, differentiating, batching, and computing late."""

import contextlib
import re

import numpy as np
import pytest

import oracle
import softgrad as sg
from marks import late, some
from softgrad import backends
from torch_second_order import second_order_holds

LOGITS = np.array([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
LABELS = np.array([2, 0, 3])
SOFT = np.array([[0.5, 0.0, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
VECTOR = np.array([[1.0, -0.5, 0.25, 2.0], [0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 1.0, 0.0]])
WHERE = np.array([[True, False, True, True], [True, True, False, True], [False, True, True, True]])
FEATURES = np.array([[1.0, -0.5], [0.25, 2.0], [-1.5, 0.75]])
WEIGHTS = np.array([[0.5, -0.25], [1.0, 0.75], [-0.5, 2.0], [0.0, -1.25]])
BIAS = np.array([0.5, 0.0, -0.5, 1.0])
OPTIONS = {
    "plain": {},
    "all": {"label_smoothing": 0.1, "z_loss": 0.2, "class_weight": (1.0, 2.0, 0.5, 3.0), "ignore_index": 1},
    "scaled": {"softcap": 2.5, "temperature": 0.7, "focal": 1.5},
    "every one": {
        "softcap": 2.5,
        "temperature": 0.7,
        "logit_shift": (0.5, -1.0, 0.25, 2.0),
        "label_smoothing": 0.1,
        "class_weight": (1.0, 2.0, 0.5, 3.0),
        "focal": 1.5,
        "z_loss": 0.2,
    },
}


@pytest.fixture
def calls(asarray):
    """Programs that a user would transform: {name: (function, its arrays)}, a tuple or an array each."""
    x, labels, soft, vector = asarray(LOGITS), asarray(LABELS, "int64"), asarray(SOFT), asarray(VECTOR)
    where, weights = asarray(WHERE, "bool"), asarray([0.5, 1.0, 2.0])
    X, W, bias = asarray(FEATURES), asarray(WEIGHTS), asarray(BIAS)
    plain, full = sg.CrossEntropy(), sg.CrossEntropy(**OPTIONS["all"])
    return {
        "softmax": (lambda x: sg.softmax(x), (x,)),
        "softmax, first axis, where": (lambda x, w: sg.softmax(x, axis=0, where=w), (x, where)),
        "softmax, high": (lambda x: sg.softmax(x, precision="high"), (x,)),
        "log_softmax": (lambda x: sg.log_softmax(x, axis=(0, 1)), (x,)),
        "logsumexp": (lambda x: sg.logsumexp(x, axis=-1, keepdims=True), (x,)),
        "logsumexp, b": (lambda x, b, w: sg.logsumexp(x, b=b, where=w, return_sign=True), (x, soft, where)),
        "softmax_vjp": (lambda p, g: sg.softmax_vjp(p, g), (soft, vector)),
        "log_softmax_jvp": (lambda p, t: sg.log_softmax_jvp(p, t), (sg.log_softmax(soft), vector)),
        "loss": (lambda x, y: plain(x, y), (x, labels)),
        "loss, all options": (lambda x, y, s, w: full(x, y, sample_weight=s, where=w), (x, labels, weights, where)),
        "loss, soft targets": (lambda x, y: full(x, y), (x, soft)),
        "value_and_grad": (lambda x, y: full.value_and_grad(x, y), (x, labels)),
        "hvp": (lambda x, y, v: full.hvp(x, y, v), (x, labels, vector)),
        "hessian_diag": (lambda x, y: full.hessian_diag(x, y), (x, labels)),
        "linear loss": (lambda X, y, W: sg.linear_cross_entropy(X, y, W), (X, labels, W)),
        "linear value_and_grad": (
            lambda X, y, W, b: sg.linear_cross_entropy_value_and_grad(X, y, W, b, l2=0.5, block_size=2),
            (X, labels, W, bias),
        ),
        "linear hvp": (lambda X, y, W, V: sg.linear_cross_entropy_hvp(X, y, W, V), (X, labels, W, W)),
    }


NAMES = [
    "softmax",
    "softmax, first axis, where",
    "softmax, high",
    "log_softmax",
    "logsumexp",
    "logsumexp, b",
    "softmax_vjp",
    "log_softmax_jvp",
    "loss",
    "loss, all options",
    "loss, soft targets",
    "value_and_grad",
    "hvp",
    "hessian_diag",
    "linear loss",
    "linear value_and_grad",
    "linear hvp",
]
#: Of each kind of function one.
TOLD = ["log_softmax", "softmax_vjp", "loss, all options", "hvp", "linear value_and_grad"]
TOLD += ["logsumexp, b", "softmax, high", "loss, soft targets"]


def flat(result):
    return [leaf for part in result for leaf in flat(part)] if isinstance(result, tuple) else [result]


def same(results, expected, to_numpy, **keywords):
    for one, other in zip(flat(results), flat(expected), strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), **{"rtol": 1e-13, "atol": 1e-15, **keywords})


# --- torch


@pytest.mark.parametrize("name", some(NAMES, *TOLD[:5]))
def test_torch_compiles_into_one_graph(name, torch, calls, to_numpy):
    function, arrays = calls[name]
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    same(compiled(*arrays), function(*arrays), to_numpy)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # raised inside torch
def test_torch_differentiates_a_compiled_loss(torch, asarray, to_numpy):
    torch._dynamo.reset()
    loss, labels = sg.CrossEntropy(**OPTIONS["all"]), asarray(LABELS, "int64")
    x = asarray(LOGITS).requires_grad_(True)
    torch.compile(lambda x: loss(x, labels), fullgraph=True, backend="aot_eager")(x).backward()
    same(x.grad, loss.grad(asarray(LOGITS), labels), to_numpy)


def test_torch_compiles_while_kernels_are_chosen(torch, asarray, to_numpy):
    torch._dynamo.reset()
    x, labels = asarray(LOGITS), asarray(LABELS, "int64")
    for kernels in ("generic", "torch"):
        with sg.backends.use(kernels):
            compiled = torch.compile(
                lambda x, y: sg.cross_entropy_value_and_grad(x, y), fullgraph=True, backend="eager"
            )
            same(compiled(x, labels), sg.cross_entropy_value_and_grad(x, labels), to_numpy)


def test_torch_compiles_for_sizes_not_known_yet(torch, asarray, to_numpy):
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x, y: sg.cross_entropy_value_and_grad(x, y), fullgraph=True, dynamic=True, backend="eager"
    )
    for rows in (3, 2):
        x, labels = asarray(LOGITS[:rows]), asarray(LABELS[:rows], "int64")
        same(compiled(x, labels), sg.cross_entropy_value_and_grad(x, labels), to_numpy)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # raised inside torch
@pytest.mark.parametrize("options", OPTIONS)
def test_torch_func_grad(options, torch, asarray, to_numpy):
    loss, labels = sg.CrossEntropy(**OPTIONS[options]), asarray(LABELS, "int64")
    x = asarray(LOGITS)
    same(torch.func.grad(lambda x: loss(x, labels))(x), loss.grad(x, labels), to_numpy)
    forward = torch.func.jvp(lambda x: loss(x, labels), (x,), (asarray(VECTOR),))[1]
    np.testing.assert_allclose(to_numpy(forward), np.sum(to_numpy(loss.grad(x, labels)) * VECTOR), rtol=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_torch_func_vmap(options, torch, asarray, to_numpy):
    loss = sg.CrossEntropy(reduction="sum", **OPTIONS[options])
    each = sg.CrossEntropy(reduction="none", **OPTIONS[options])
    x, labels = asarray(LOGITS), asarray(LABELS, "int64")
    same(torch.func.vmap(lambda x, y: loss(x, y))(x, labels), each(x, labels), to_numpy)
    same(torch.func.vmap(torch.func.grad(lambda x, y: loss(x, y)))(x, labels), each.grad(x, labels), to_numpy)
    same(torch.func.vmap(lambda x, y: loss.grad(x, y))(x, labels), each.grad(x, labels), to_numpy)
    same(torch.func.vmap(lambda x: sg.softmax(x))(x), sg.softmax(x), to_numpy)
    same(torch.func.vmap(lambda x: sg.logsumexp(x))(x), sg.logsumexp(x, axis=-1), to_numpy)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # raised inside torch
def test_torch_func_jacrev_and_jacfwd(torch, asarray, to_numpy):
    x = asarray(LOGITS[0])
    p = oracle.rounded(oracle.softmax(LOGITS[0]))
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        same(jacobian(lambda x: sg.softmax(x))(x), asarray(np.diag(p) - np.outer(p, p)), to_numpy)
        same(jacobian(lambda x: sg.log_softmax(x))(x), asarray(np.eye(4) - p), to_numpy)
        same(jacobian(lambda x: sg.logsumexp(x))(x), asarray(p), to_numpy)


def test_torch_gradcheck_of_the_dense_functions(torch, asarray):
    where = asarray(WHERE, "bool")
    for function in (
        lambda x: sg.softmax(x),
        lambda x: sg.softmax(x, axis=0, where=where),
        lambda x: sg.log_softmax(x, axis=(0, 1)),
        lambda x: sg.logsumexp(x, axis=-1),
        lambda x: sg.logsumexp(x, where=where, b=asarray(SOFT)),
        lambda x: sg.softmax_vjp(sg.softmax(x), x),
    ):
        x = asarray(LOGITS).requires_grad_(True)
        assert torch.autograd.gradcheck(function, (x,))
        assert second_order_holds(function, (x,))


@pytest.mark.parametrize("options", OPTIONS)
def test_torch_gradcheck_of_the_losses(options, torch, asarray):
    loss, options = sg.CrossEntropy(**OPTIONS[options]), OPTIONS[options]
    labels, where = asarray(LABELS, "int64"), asarray(WHERE, "bool")
    x = asarray(LOGITS).requires_grad_(True)
    for function in (
        lambda x: loss(x, labels, where=where),
        lambda x: loss(x, asarray(SOFT)),
        lambda x: loss.grad(x, labels),
    ):
        assert torch.autograd.gradcheck(function, (x,))
        assert second_order_holds(function, (x,))
    leaves = [asarray(array).requires_grad_(True) for array in (FEATURES, WEIGHTS, BIAS)]

    def linear(X, W, b):
        return sg.linear_cross_entropy(X, labels, W, b, l2=0.5, block_size=2, **options)

    assert torch.autograd.gradcheck(linear, leaves)
    assert second_order_holds(linear, leaves)


def test_torch_differentiates_by_weights_and_targets(torch, asarray):
    x, targets = asarray(LOGITS), asarray(SOFT).requires_grad_(True)
    weights = asarray([0.5, 1.0, 2.0]).requires_grad_(True)
    loss = sg.CrossEntropy(label_smoothing=0.1)
    assert torch.autograd.gradcheck(lambda q, w: loss(x, q, sample_weight=w), (targets, weights))


# --- jax


@pytest.mark.parametrize("name", some(NAMES, *TOLD))
def test_jax_jit(name, jax, calls, to_numpy):
    function, arrays = calls[name]
    same(jax.jit(function)(*arrays), function(*arrays), to_numpy, rtol=1e-12)


@pytest.mark.parametrize("options", some(OPTIONS, "all", "every one"))
def test_jax_grad_and_jvp(options, jax, asarray, to_numpy):
    loss, labels = sg.CrossEntropy(**OPTIONS[options]), asarray(LABELS, "int64")
    x, vector = asarray(LOGITS), asarray(VECTOR)
    gradient = loss.grad(x, labels)
    same(jax.jit(jax.grad(lambda x: loss(x, labels)))(x), gradient, to_numpy, rtol=1e-12)
    slope = jax.jvp(lambda x: loss(x, labels), (x,), (vector,))[1]
    np.testing.assert_allclose(to_numpy(slope), np.sum(to_numpy(gradient) * VECTOR), rtol=1e-12)
    product = jax.jvp(jax.grad(lambda x: loss(x, labels)), (x,), (vector,))[1]
    same(product, loss.hvp(x, labels, vector), to_numpy, rtol=1e-12)


@pytest.mark.parametrize("options", some(OPTIONS, "all", "every one"))
def test_jax_vmap(options, jax, asarray, to_numpy):
    loss = sg.CrossEntropy(reduction="sum", **OPTIONS[options])
    each = sg.CrossEntropy(reduction="none", **OPTIONS[options])
    x, labels = asarray(LOGITS), asarray(LABELS, "int64")
    same(jax.vmap(lambda x, y: loss(x, y))(x, labels), each(x, labels), to_numpy)
    same(jax.vmap(jax.grad(lambda x, y: loss(x, y)))(x, labels), each.grad(x, labels), to_numpy)
    same(jax.vmap(lambda x: sg.softmax(x))(x), sg.softmax(x), to_numpy)


def test_jax_jacobians(jax, asarray, to_numpy):
    x = asarray(LOGITS[0])
    p = oracle.rounded(oracle.softmax(LOGITS[0]))
    for jacobian in (jax.jacrev, jax.jacfwd):
        same(jacobian(lambda x: sg.softmax(x))(x), asarray(np.diag(p) - np.outer(p, p)), to_numpy)
        same(jacobian(lambda x: sg.log_softmax(x))(x), asarray(np.eye(4) - p), to_numpy)


def test_jax_differentiates_the_linear_model(jax, asarray, to_numpy):
    X, labels, W, bias = asarray(FEATURES), asarray(LABELS, "int64"), asarray(WEIGHTS), asarray(BIAS)

    def value(W, bias, X):
        return sg.linear_cross_entropy(X, labels, W, bias, l2=0.5, block_size=2)

    expected = sg.linear_cross_entropy_grad(X, labels, W, bias, l2=0.5, wrt=("W", "bias", "X"))
    same(jax.jit(jax.grad(value, argnums=(0, 1, 2)))(W, bias, X), expected, to_numpy, rtol=1e-12)
    hessian = jax.hessian(lambda W: value(W, bias, X))(W)
    same(hessian, sg.linear_cross_entropy_hessian(X, labels, W, bias, l2=0.5, wrt="W"), to_numpy, rtol=1e-12)


# --- autodiff where it goes wrong


@pytest.fixture
def autodiff(backend):
    """(gradient, Hessian) of a function of one array, by the library under test."""
    if backend == "torch":
        import torch

        return torch.func.grad, lambda f: torch.func.jacrev(torch.func.grad(f))
    if backend == "jax":
        import jax

        return jax.grad, jax.hessian
    return pytest.skip(f"{backend} has no autodiff")


@pytest.mark.parametrize("x", [[0.0, 0.0], [2.0, 2.0, 2.0], [1.0, 3.0, 3.0, -1.0]], ids=str)
def test_ties_do_not_spoil_derivatives(x, autodiff, asarray, to_numpy):
    gradient, hessian = autodiff
    p = oracle.rounded(oracle.softmax(np.array(x)))
    curvature = np.diag(p) - np.outer(p, p)
    label = asarray(len(x) - 1, "int64")
    for function in (lambda x: sg.logsumexp(x), lambda x: sg.cross_entropy(x, label)):
        np.testing.assert_allclose(to_numpy(hessian(function)(asarray(x))), curvature, rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(to_numpy(gradient(lambda x: sg.logsumexp(x))(asarray(x))), p, rtol=1e-14)
    first = gradient(lambda x: sg.log_softmax(x)[0])(asarray(x))
    np.testing.assert_allclose(to_numpy(first), np.eye(len(x))[0] - p, rtol=1e-14, atol=1e-16)


def test_junk_under_where_does_not_reach_autodiff(autodiff, xp, asarray, to_numpy):
    gradient, hessian = autodiff
    junk = np.where(WHERE, LOGITS, [[np.nan], [np.inf], [-np.inf]])
    where, labels = asarray(WHERE, "bool"), asarray(LABELS, "int64")
    loss = sg.CrossEntropy(**OPTIONS["all"])
    for function in (
        lambda x: loss(x, labels, where=where),
        lambda x: sg.logsumexp(x, where=where),
        lambda x: xp.sum(sg.softmax(x, where=where) ** 2),
    ):
        for derivative in (gradient, hessian):
            expected = to_numpy(derivative(function)(asarray(np.where(WHERE, LOGITS, 0.0))))
            result = to_numpy(derivative(function)(asarray(junk)))
            np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-16)
            np.testing.assert_array_equal(result[~WHERE], 0.0)


@pytest.mark.parametrize("kernels", [None, late("generic", "jax")])
@pytest.mark.parametrize("focal", [0.5, 1.5, 2.0])
def test_a_focal_loss_is_constant_where_one_class_is_shown(focal, kernels, autodiff, asarray, to_numpy):
    x, where, label = asarray([[0.5, 2.0, 1.0]]), asarray([[False, True, False]], "bool"), asarray([1], "int64")
    with backends.use(kernels) if kernels else contextlib.nullcontext():
        for derivative in autodiff:
            found = derivative(lambda x: sg.cross_entropy(x, label, where=where, focal=focal))(x)
            np.testing.assert_array_equal(to_numpy(found), 0.0)


def test_zero_weight_times_minus_inf_does_not_reach_autodiff(autodiff, asarray, to_numpy):
    gradient, hessian = autodiff
    cut = np.where(SOFT == 0, -np.inf, LOGITS)
    labels = asarray(SOFT)
    for options in ({}, {"z_loss": 0.2, "class_weight": (1.0, 2.0, 0.5, 3.0)}):
        loss = sg.CrossEntropy(**options)
        reference = oracle.cross_entropy(cut, SOFT, vector=VECTOR, **options)
        first = to_numpy(gradient(lambda x, loss=loss: loss(x, labels))(asarray(cut)))
        np.testing.assert_allclose(first, oracle.rounded(reference.grad()), rtol=1e-12, atol=1e-16)
        second = to_numpy(hessian(lambda x, loss=loss: loss(x, labels))(asarray(cut)))
        product = np.einsum("abcd,cd->ab", second, VECTOR)
        np.testing.assert_allclose(product, oracle.rounded(reference.hvp()), rtol=1e-12, atol=1e-16)


def test_minus_inf_does_not_reach_the_derivative_of_logsumexp(autodiff, asarray, to_numpy):
    gradient, hessian = autodiff
    x = asarray([0.5, -np.inf, 1.5])
    p = oracle.rounded(oracle.softmax(np.array([0.5, -np.inf, 1.5])))
    np.testing.assert_allclose(to_numpy(gradient(lambda x: sg.logsumexp(x))(x)), p, rtol=1e-14)
    curvature = to_numpy(hessian(lambda x: sg.logsumexp(x))(x))
    np.testing.assert_allclose(curvature, np.diag(p) - np.outer(p, p), rtol=1e-13, atol=1e-17)


def test_ignored_junk_does_not_reach_autodiff(autodiff, asarray, to_numpy):
    gradient, _ = autodiff
    junk = LOGITS.copy()
    junk[1] = np.nan
    labels, weights = asarray([2, -100, 3], "int64"), asarray([1.0, 0.0, 2.0])
    for loss, arguments in (
        (sg.CrossEntropy(ignore_index=-100), {}),
        (sg.CrossEntropy(ignore_index=-100, z_loss=0.2), {"sample_weight": weights}),
    ):
        result = to_numpy(gradient(lambda x, loss=loss, a=arguments: loss(x, labels, **a))(asarray(junk)))
        np.testing.assert_array_equal(result[1], np.zeros(4))
        expected = to_numpy(loss.grad(asarray(LOGITS), labels, **arguments))
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-16)


def test_autodiff_keeps_the_digits_of_a_dominant_class(autodiff, asarray, to_numpy):
    gradient, _ = autodiff
    label = asarray(0, "int64")
    row = to_numpy(gradient(lambda x: sg.cross_entropy(x, label))(asarray([50.0, 0.0])))
    np.testing.assert_allclose(row, [-np.exp(-50.0), np.exp(-50.0)], rtol=1e-13)


# --- dask


class Counting:
    """A scheduler that counts how often it is asked to compute."""

    def __init__(self, dask):
        self.dask, self.count = dask, 0

    def __call__(self, graph, keys, **keywords):
        self.count += 1
        return self.dask.get(graph, keys, **keywords)


@pytest.mark.parametrize("name", NAMES)
def test_dask_computes_nothing_early(name, dask, calls):
    function, arrays = calls[name]
    scheduler = Counting(dask)
    with dask.config.set(scheduler=scheduler):
        results = flat(function(*arrays))
        assert scheduler.count == 0
        computed = [result.compute() for result in results]
        assert scheduler.count == len(results)
        expected = flat(function(*(array.compute() for array in arrays)))
    for one, other in zip(computed, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


def test_dask_computes_labels_where_they_are_to_be_validated(dask, asarray):
    scheduler = Counting(dask)
    with dask.config.set(scheduler=scheduler), pytest.raises(IndexError, match="7"):
        sg.cross_entropy(asarray(LOGITS), asarray([2, 7, 3], "int64"), validate=True)
    assert scheduler.count > 0


def test_labels_cannot_be_validated_in_a_trace(jax, asarray):
    with pytest.raises(TypeError, match="validate reads the labels"):
        jax.jit(lambda x, y: sg.cross_entropy(x, y, validate=True))(asarray(LOGITS), asarray(LABELS, "int64"))


def test_what_needs_values_says_so_in_a_trace(jax, asarray):
    x, y = asarray(LOGITS), asarray(LABELS, "int64")
    calls = [
        lambda x: sg.SoftmaxRegression().fit(x, y).coef_,
        lambda x: sg.statistics.coefficient_statistics(x, x[:, : x.shape[1]]),
        lambda x: sg.calibration.temperature(x, y).temperature,
    ]
    for call in calls:
        with pytest.raises(TypeError, match="a traced array was given where values are wanted"):
            jax.jit(call)(x)
    with pytest.raises(TypeError, match=r"temperature must be a number, got .*an array"):
        jax.jit(lambda t: sg.cross_entropy(x, y, temperature=t))(2.0)


def test_dask_unknown_sizes_are_never_silently_wrong(dask, asarray, to_numpy):
    keep = LABELS != 0
    x, labels = asarray(LOGITS), asarray(LABELS, "int64")
    x, labels = x[labels != 0], labels[labels != 0]
    assert np.isnan(x.shape[0])
    expected = sg.cross_entropy_value_and_grad(LOGITS[keep], LABELS[keep])
    cases = [
        (r"\blogits\b|\blabels\b", lambda: sg.cross_entropy_value_and_grad(x, labels), expected),
        (r"\bx\b", lambda: sg.softmax(x), sg.softmax(LOGITS[keep])),
    ]
    for argument, call, right in cases:
        try:
            results = call()
        except ValueError as refusal:
            message = str(refusal)
            assert re.search(argument, message)
        else:
            same(results, right, to_numpy)
