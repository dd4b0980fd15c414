"""The linear softmax model: its loss and derivatives in both layouts, in blocks, by columns."""

import numpy as np
import pytest

import oracle
import softgrad as sg
from linear_cases import BIAS, DIRECTIONS, LABELS, OPTIONS, SOFT, WHERE, K, N, Problem, W, X, close
from marks import late_on_jax

# --- value and gradient


@pytest.mark.parametrize("sample_axis", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_value_and_gradient(options, bias, sample_axis, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS[options], bias=bias, sample_axis=sample_axis)
    names = ("W", "bias") if bias else ("W",)
    value = sg.linear_cross_entropy(*problem.arguments, **problem.keywords)
    expected = float(problem.value(**problem.host).item())
    close(to_numpy(value), expected)
    gradients = sg.linear_cross_entropy_grad(*problem.arguments, **problem.keywords)
    again, both = sg.linear_cross_entropy_value_and_grad(*problem.arguments, **problem.keywords)
    close(to_numpy(again), expected)
    if bias:
        assert isinstance(gradients, tuple)
        assert isinstance(both, tuple)
    else:
        gradients, both = (gradients,), (both,)
    for name, gradient, other in zip(names, gradients, both, strict=True):
        close(to_numpy(gradient), problem.grad(name), err_msg=name)
        close(to_numpy(other), problem.grad(name), err_msg=name)


@pytest.mark.parametrize("sample_axis", [0, 1])
@pytest.mark.parametrize("options", ["plain", "all"])
def test_soft_targets(options, sample_axis, asarray, to_numpy):
    options = {name: value for name, value in OPTIONS[options].items() if name != "ignore_index"}
    problem = Problem(asarray, options, sample_axis=sample_axis, labels=SOFT)
    value, gradients = sg.linear_cross_entropy_value_and_grad(*problem.arguments, **problem.keywords)
    close(to_numpy(value), float(problem.value(**problem.host).item()))
    for name, gradient in zip(("W", "bias"), gradients, strict=True):
        close(to_numpy(gradient), problem.grad(name), err_msg=name)


@pytest.mark.parametrize(
    "wrt",
    ["W", "bias", "X", ("W",), ("X", "W"), ("W", "bias", "X"), ("bias", "X")],
    ids=lambda w: "-".join(w),
)
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_wrt_chooses_and_orders_the_gradients(sample_axis, wrt, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS["all"], sample_axis=sample_axis)
    result = sg.linear_cross_entropy_grad(*problem.arguments, wrt=wrt, **problem.keywords)
    _, other = sg.linear_cross_entropy_value_and_grad(*problem.arguments, wrt=wrt, **problem.keywords)
    if isinstance(wrt, str):
        wrt, result, other = (wrt,), (result,), (other,)
    assert isinstance(result, tuple)
    for name, gradient, again in zip(wrt, result, other, strict=True):
        close(to_numpy(gradient), problem.grad(name), err_msg=name)
        close(to_numpy(again), problem.grad(name), err_msg=name)


def test_default_wrt(asarray, to_numpy):
    with_bias, without = Problem(asarray, {}), Problem(asarray, {}, bias=False)
    pair = sg.linear_cross_entropy_grad(*with_bias.arguments)
    explicit = sg.linear_cross_entropy_grad(*with_bias.arguments, wrt=("W", "bias"))
    assert isinstance(pair, tuple)
    for one, other in zip(pair, explicit, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    single = sg.linear_cross_entropy_grad(*without.arguments)
    np.testing.assert_array_equal(to_numpy(single), to_numpy(sg.linear_cross_entropy_grad(*without.arguments, wrt="W")))


@pytest.mark.parametrize("sample_axis", [0, 1])
@pytest.mark.parametrize("options", ["plain", "all"])
def test_reduction_none_keeps_the_samples_apart(options, sample_axis, asarray, to_numpy):
    options = {name: value for name, value in OPTIONS[options].items() if name != "l2"}
    problem = Problem(asarray, {**options, "reduction": "none"}, sample_axis=sample_axis)
    losses = to_numpy(sg.linear_cross_entropy(*problem.arguments, **problem.keywords))
    close(losses, oracle.rounded(problem.value(**problem.host)))


def test_penalty_leaves_the_bias_alone(asarray, to_numpy):
    problem = Problem(asarray, {})
    plain = sg.linear_cross_entropy_value_and_grad(*problem.arguments)
    penalised = sg.linear_cross_entropy_value_and_grad(*problem.arguments, l2=0.5)
    close(to_numpy(penalised[0]) - to_numpy(plain[0]), 0.25 * np.sum(W**2), rtol=1e-12)
    close(to_numpy(penalised[1][0]) - to_numpy(plain[1][0]), 0.5 * W, rtol=1e-12)
    np.testing.assert_array_equal(to_numpy(penalised[1][1]), to_numpy(plain[1][1]))


def test_gradient_against_finite_differences_of_the_code(asarray, to_numpy):
    problem, h = Problem(asarray, OPTIONS["all"]), 1e-5
    gradients = sg.linear_cross_entropy_grad(*problem.arguments, wrt=("W", "bias", "X"), **problem.keywords)
    for name, gradient in zip(("W", "bias", "X"), gradients, strict=True):
        d = DIRECTIONS[name]
        values = []
        for sign in (1, -1):
            moved = {**problem.host, name: problem.host[name] + sign * h * d}
            at = asarray(moved["X"]), problem.arguments[1], asarray(moved["W"]), asarray(moved["bias"])
            values.append(to_numpy(sg.linear_cross_entropy(*at, **problem.keywords)))
        slope = (values[0] - values[1]) / (2 * h)
        np.testing.assert_allclose(np.sum(to_numpy(gradient) * d), slope, rtol=1e-8, err_msg=name)


# --- blocks


@late_on_jax
@pytest.mark.parametrize("block_size", [1, 2, 7, 100])
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_block_size_changes_nothing(sample_axis, block_size, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS["all"], sample_axis=sample_axis)
    wrt = ("W", "bias", "X")
    names = ("W", "bias")
    vectors = tuple(asarray(d) for d in problem.directions(names).values())
    whole = [
        sg.linear_cross_entropy(*problem.arguments, **problem.keywords),
        *sg.linear_cross_entropy_grad(*problem.arguments, wrt=wrt, **problem.keywords),
        *sg.linear_cross_entropy_hvp(*problem.arguments[:3], vectors, problem.arguments[3], **problem.keywords),
    ]
    keywords = {**problem.keywords, "block_size": block_size}
    value, gradients = sg.linear_cross_entropy_value_and_grad(*problem.arguments, wrt=wrt, **keywords)
    blocks = [
        value,
        *gradients,
        *sg.linear_cross_entropy_hvp(*problem.arguments[:3], vectors, problem.arguments[3], **keywords),
    ]
    for one, other in zip(blocks, whole, strict=True):
        close(to_numpy(one), to_numpy(other), rtol=1e-13, atol=1e-15)
    close(to_numpy(sg.linear_cross_entropy(*problem.arguments, **keywords)), to_numpy(whole[0]), rtol=1e-13)


def test_blocks_keep_the_samples_apart(asarray, to_numpy):
    problem = Problem(asarray, {"reduction": "none"})
    whole = to_numpy(sg.linear_cross_entropy(*problem.arguments, **problem.keywords))
    for block_size in (1, 3):
        blocks = sg.linear_cross_entropy(*problem.arguments, block_size=block_size, **problem.keywords)
        close(to_numpy(blocks), whole, rtol=1e-14)


@pytest.mark.parametrize("weight", [2.0, np.array(2.0), np.array([2.0])], ids=["number", "()", "(1,)"])
@pytest.mark.parametrize("block_size", [None, 3])
def test_sample_weight_is_broadcast_to_the_samples(block_size, weight, asarray, to_numpy):
    problem = Problem(asarray, {"reduction": "sum"}, bias=False)
    given = weight if isinstance(weight, float) else asarray(weight)
    value, gradient = sg.linear_cross_entropy_value_and_grad(
        *problem.arguments, sample_weight=given, block_size=block_size, **problem.keywords
    )
    close(to_numpy(value), 2 * float(problem.value(**problem.host).item()))
    close(to_numpy(gradient), 2 * problem.grad("W"))


# --- hidden classes, labels out of range


@pytest.mark.parametrize("mask", [WHERE, WHERE[:1] | WHERE[-1:], np.array([True, True, True, True])], ids=str)
@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_where_hides_classes(sample_axis, block_size, mask, asarray, to_numpy):
    labels = np.argmax(np.broadcast_to(mask, (N, K)), axis=1)
    options = {"label_smoothing": 0.2, "l2": 0.7}
    problem = Problem(asarray, options, sample_axis=sample_axis, labels=labels)
    turned = mask.T if sample_axis and mask.ndim == 2 else mask[:, None] if sample_axis else mask
    value, gradients = sg.linear_cross_entropy_value_and_grad(
        *problem.arguments, where=asarray(turned, "bool"), block_size=block_size, **problem.keywords
    )

    def reference(**moved):
        full = np.broadcast_to(mask, (N, K))
        return oracle.linear(labels=labels, sample_axis=sample_axis, where=full, **options, **moved)

    close(to_numpy(value), float(reference(**problem.host).item()))
    for name, gradient in zip(("W", "bias"), gradients, strict=True):
        close(to_numpy(gradient), oracle.rounded(oracle.derivative(reference, problem.host, name)), err_msg=name)


def test_validate_names_the_label_and_its_place(asarray):
    labels = asarray([0, 3, 1, 9, 2, 0, 3], "int64")
    for function in (sg.linear_cross_entropy, sg.linear_cross_entropy_grad):
        with pytest.raises(IndexError, match=r"(?s)(?=.*\b9\b)(?=.*\b3\b)(?=.*labels)"):
            function(asarray(X), labels, asarray(W), validate=True)


# --- single columns


@pytest.mark.parametrize("classes", [[0], [3, 1], [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_classes_choose_parts_of_the_gradient(sample_axis, classes, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS["all"], bias=False, sample_axis=sample_axis)
    whole = problem.grad("W")
    expected = whole[:, classes] if sample_axis else whole[classes]
    part = sg.linear_cross_entropy_grad(*problem.arguments, classes=classes, **problem.keywords)
    close(to_numpy(part), expected)
    value, part = sg.linear_cross_entropy_value_and_grad(*problem.arguments, classes=classes, **problem.keywords)
    close(to_numpy(part), expected)
    close(to_numpy(value), float(problem.value(**problem.host).item()))


def test_classes_choose_parts_of_the_bias_too(asarray, to_numpy):
    problem = Problem(asarray, {})
    dW, db = sg.linear_cross_entropy_grad(*problem.arguments, classes=[2, 0])
    close(to_numpy(dW), problem.grad("W")[[2, 0]])
    close(to_numpy(db), problem.grad("bias")[[2, 0]])


# --- the object bound to its data


@late_on_jax
@pytest.mark.parametrize("sample_axis", [0, 1])
@pytest.mark.parametrize("options", ["plain", "all"])
def test_bound_object_equals_the_functions(options, sample_axis, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS[options], bias=False, sample_axis=sample_axis)
    features, labels, weights = problem.arguments
    vector = asarray(problem.directions(("W",))["W"])
    bound = sg.LinearCrossEntropy(features, labels, **problem.keywords)
    value, gradient = sg.linear_cross_entropy_value_and_grad(*problem.arguments, **problem.keywords)
    close(to_numpy(bound.value(weights)), to_numpy(value), rtol=1e-14)
    close(to_numpy(bound.grad(weights)), to_numpy(gradient), rtol=1e-14, atol=1e-16)
    again, slope = bound.value_and_grad(weights)
    close(to_numpy(again), to_numpy(value), rtol=1e-14)
    close(to_numpy(slope), to_numpy(gradient), rtol=1e-14, atol=1e-16)
    product = sg.linear_cross_entropy_hvp(*problem.arguments, vector, **problem.keywords)
    close(to_numpy(bound.hvp(weights, vector)), to_numpy(product), rtol=1e-13, atol=1e-16)
    hessian = sg.linear_cross_entropy_hessian(*problem.arguments, **problem.keywords)
    close(to_numpy(bound.hessian(weights)), to_numpy(hessian), rtol=1e-13, atol=1e-16)


def test_bound_object_takes_other_weights(asarray, to_numpy):
    bound = sg.LinearCrossEntropy(asarray(X), asarray(LABELS, "int64"))
    bound.value_and_grad(asarray(W))
    elsewhere = np.flip(W, axis=0).copy()
    fresh = sg.linear_cross_entropy(asarray(X), asarray(LABELS, "int64"), asarray(elsewhere))
    close(to_numpy(bound.value(asarray(elsewhere))), to_numpy(fresh), rtol=1e-14)


def test_bound_object_takes_a_bias(asarray, to_numpy):
    problem = Problem(asarray, OPTIONS["all"])
    features, labels, weights, bias = problem.arguments
    bound = sg.LinearCrossEntropy(features, labels, **problem.keywords)
    value, gradients = sg.linear_cross_entropy_value_and_grad(*problem.arguments, **problem.keywords)
    close(to_numpy(bound.value(weights, bias=bias)), to_numpy(value), rtol=1e-14)
    for one, other in zip(bound.grad(weights, bias=bias), gradients, strict=True):
        close(to_numpy(one), to_numpy(other), rtol=1e-14, atol=1e-16)


@pytest.mark.libraries("dask")
def test_parameters_of_the_chunks_library_stand_beside_dask(backend, asarray, to_numpy):
    problem = Problem(asarray, {})
    features, labels, weights, bias = problem.arguments
    expected = sg.linear_cross_entropy_value_and_grad(features, labels, weights, bias)
    value, gradients = sg.linear_cross_entropy_value_and_grad(features, labels, W, BIAS)
    close(to_numpy(value), to_numpy(expected[0]), rtol=1e-14)
    for one, other in zip(gradients, expected[1], strict=True):
        close(to_numpy(one), to_numpy(other), rtol=1e-13, atol=1e-16)


# --- against the library's own autodiff, and sizes at the edge


def test_identity_holds_against_autodiff(backend, xp, asarray, to_numpy):
    problem = Problem(asarray, OPTIONS["all"])
    features, labels, weights, bias = problem.arguments

    def value(W, bias, X):
        return sg.linear_cross_entropy(X, labels, W, bias, **problem.keywords)

    if backend == "torch":
        leaves = [array.clone().requires_grad_(True) for array in (weights, bias, features)]
        value(*leaves).backward()
        expected = [leaf.grad for leaf in leaves]
    elif backend == "jax":
        import jax

        expected = jax.grad(value, argnums=(0, 1, 2))(weights, bias, features)
    else:
        pytest.skip(f"{backend} has no autodiff")
    gradients = sg.linear_cross_entropy_grad(*problem.arguments, wrt=("W", "bias", "X"), **problem.keywords)
    for gradient, other in zip(gradients, expected, strict=True):
        error = np.max(np.abs(to_numpy(gradient) - to_numpy(other))) / np.max(np.abs(to_numpy(other)))
        assert error <= 1e-12


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (5, 1, 3), (5, 3, 1)], ids=str)
def test_smallest_sizes(shape, asarray, to_numpy):
    n, m, k = shape
    rng = np.random.default_rng(4)
    features, weights, labels = rng.normal(size=(n, m)), rng.normal(size=(k, m)), rng.integers(0, k, size=n)
    value, gradient = sg.linear_cross_entropy_value_and_grad(
        asarray(features), asarray(labels, "int64"), asarray(weights)
    )

    def reference(W):
        return oracle.linear(features, labels, W)

    close(to_numpy(value), float(reference(weights).item()))
    close(to_numpy(gradient), oracle.rounded(oracle.derivative(reference, {"W": weights}, "W")))


@pytest.mark.parametrize(("dtype", "goal"), [("float32", 1e-4), ("float64", 1e-13)])
def test_separated_fit_keeps_its_gradient(dtype, goal, asarray, to_numpy):
    # every sample sits deep in its class: p - y would cancel to nothing
    features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.25], [0.125, 1.0]])
    weights = {"float32": 16.0, "float64": 36.0}[dtype] * np.array([[1.0, -0.5], [-0.5, 1.0], [-1.0, -1.0]])
    labels = np.array([0, 1, 0, 1])

    def reference(W):
        return oracle.linear(features, labels, W, reduction="sum")

    exact = oracle.rounded(oracle.derivative(reference, {"W": weights}, "W"))
    value, gradient = sg.linear_cross_entropy_value_and_grad(
        asarray(features, dtype), asarray(labels, "int64"), asarray(weights, dtype), reduction="sum"
    )
    assert np.max(np.abs(to_numpy(gradient) - exact)) <= goal * np.max(np.abs(exact))
    np.testing.assert_allclose(to_numpy(value), float(reference(weights).item()), rtol=goal)
