"""Arrays in the other byte order, as NumPy reads them from a file, give what native ones do, in native order."""

import numpy as np
import pytest

import calls
import softgrad as sg
from marks import late
from softgrad import partial

pytestmark = pytest.mark.libraries("numpy", "dask")
RNG = np.random.default_rng(3)
#: Arrays of kernels for small and for large ones.
ROWS = (6, 3000)
#: Functions whose chunks Dask computes in ways of their own.
OF_EACH_KIND = (
    "softmax",
    "logsumexp, b",
    "log_softmax_vjp",
    "log_probs_vjp",
    "entropy",
    "cross_entropy_hvp",
    "cross_entropy_value_and_grad, all options",
    "cross_entropy, weights by class",
    "kl_divergence_value_and_grad",
    "top_k_kl_divergence_value_and_grad",
    "linear_cross_entropy_value_and_grad",
    "linear_cross_entropy_grad, block_size",
    "linear_log_probs",
    "partial.cross_entropy_partial",
    "partial.linear_partial",
    "parallel.cross_entropy_value_and_grad",
    "identity.gradient_column",
    "SoftmaxRegression.fit",
)


def swapped(a):
    a = np.asarray(a)
    return a.astype(a.dtype.newbyteorder())


def _alike(got, expected, to_numpy):
    for ours, theirs in zip(calls.flat(got), calls.flat(expected), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.dtype.isnative
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


@pytest.mark.parametrize(
    "name",
    [each if each in OF_EACH_KIND else late(each, "dask") for each in calls.CALLS],
)
def test_every_function_takes_the_other_byte_order(name, backend, asarray, to_numpy):
    if "bfloat16" in name or name == "SoftmaxRegression.predict":
        pytest.skip("no dtype of NumPy's, and classes that no fit made")

    def place(change):
        return lambda host, dtype=None, samples=True: asarray(change(np.asarray(host, dtype)), None)

    _alike(calls.CALLS[name](place(swapped)), calls.CALLS[name](place(np.asarray)), to_numpy)


@pytest.mark.parametrize("rows", [ROWS[0], late(ROWS[1], "dask")])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("labels", ["int64", "int16", "uint8", "by weight"])
def test_losses_with_all_their_arguments(labels, dtype, rows, asarray, to_numpy):
    logits, direction = RNG.normal(size=(2, rows, 4)).astype(dtype)
    y = RNG.dirichlet(np.ones(4), rows).astype(dtype) if labels == "by weight" else RNG.integers(0, 4, rows)
    y = y if labels == "by weight" else y.astype(labels)
    weight, class_weight = RNG.random(rows).astype(dtype), np.array([1.0, 2.0, 0.5, 1.0], dtype)

    def results(change):
        def put(a):
            return asarray(change(a), None)

        x, target = put(logits), put(y)
        for options in ({}, {"class_weight": change(class_weight), "label_smoothing": 0.1, "ignore_index": 2}):
            loss = sg.CrossEntropy(**options)
            beside = {"sample_weight": put(weight), "where": put(logits < 1)} if options else {}
            yield loss.value_and_grad(x, target, **beside)
            yield loss(x, target, **beside)
            yield loss.hvp(x, target, put(direction), **beside)
        yield sg.logsumexp(x, axis=0, b=put(direction), return_sign=True)
        yield sg.softmax(x, dtype=np.dtype("float64") if change is np.asarray else swapped(np.zeros(1)).dtype)

    for got, expected in zip(results(swapped), results(np.asarray), strict=True):
        _alike(got, expected, to_numpy)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_linear_model_and_its_estimator(dtype, rows, asarray, to_numpy):
    X, W, bias = (RNG.normal(size=shape).astype(dtype) for shape in ((rows, 3), (4, 3), 4))
    y, weight = np.resize(np.arange(4), rows), RNG.random(rows).astype(dtype)

    def results(change):
        def put(a):
            return asarray(change(a), None)

        given = put(X), put(y), put(W), put(bias)
        yield sg.linear_cross_entropy_value_and_grad(*given, sample_weight=put(weight), wrt=("W", "bias", "X"))
        yield sg.linear_cross_entropy_hvp(*given[:3], put(W))
        yield partial.linear_partial(*given)
        model = sg.SoftmaxRegression(solver="newton-cg", max_iter=20, tol=1e-2).fit(given[0], given[1])
        yield model.coef_, model.classes_, model.predict_proba(given[0]), model.predict(given[0])

    for got, expected in zip(results(swapped), results(np.asarray), strict=True):
        _alike(got, expected, to_numpy)


@pytest.mark.parametrize("kernels", ["generic", "numpy"])
@pytest.mark.libraries("numpy")
def test_a_file_in_the_other_byte_order_is_not_read_whole(kernels, backend, tmp_path):
    X, W, y = RNG.normal(size=(5000, 3)), RNG.normal(size=(4, 3)), np.resize(np.arange(4), 5000)
    swapped(X).tofile(tmp_path / "X")
    held = np.memmap(tmp_path / "X", X.dtype.newbyteorder(), "r", shape=X.shape)
    with sg.backends.use(kernels):
        got = sg.linear_cross_entropy_value_and_grad(held, y, W, block_size=64)
        expected = sg.linear_cross_entropy_value_and_grad(X, y, W, block_size=64)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.dtype.isnative
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)
