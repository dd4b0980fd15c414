"""The compiled loops of the linear model against the generic kernels in extended precision, and where they give way."""

import numpy as np
import pytest
from array_api_compat import numpy as xp

import softgrad as sg
from extended import OPTIONS, WIDE, args_of, assert_near, exactly, widened
from softgrad._kernels import linear as linear_kernels
from softgrad.backends import _threads, numba
from softgrad.backends.numpy import blocks as numpy_blocks

pytestmark = pytest.mark.usefixtures("usual_kernels")

#: (samples, features, classes): around whole vectors, blocks, and tiles of the gradient.
MODELS = (
    (1, 1, 1), (1, 20, 3), (7, 3, 2), (16, 16, 16), (17, 17, 17), (70, 54, 7), (300, 1, 4), (301, 20, 3), (800, 31, 5),
    (513, 65, 10), (90, 130, 9), (64, 800, 6), (129, 47, 33), (50, 12, 200),
)  # fmt: skip
DTYPES = ("float32", "float64")
FAMILIES = {
    "usual": lambda r, n, m: r.normal(size=(n, m)),
    "equal": lambda r, n, m: np.zeros((n, m)),
    "far": lambda r, n, m: 30 * r.normal(size=(n, m)),
}


@pytest.fixture
def linear(monkeypatch):
    """The kernels, for arrays of any size; cut for three threads."""
    from softgrad.backends.numba import linear as numba_linear

    monkeypatch.setattr(numpy_blocks, "THREAD_ELEMENTS", 1)
    with _threads.workers(3):
        yield numba_linear


def check(linear, X, W, bias, args, block=None, classes=None, what=None):
    """Value and gradients of a kernel against the generic ones; those of a loss without reduction: the value alone."""
    dtype = str(W.dtype)
    counts = np.ones(len(X), bool) if args.sample_weight is None else args.sample_weight != 0
    if args.ignore_index is not None:
        counts &= args.labels != args.ignore_index
    # what stands in samples that do not count is nothing of the reference's business
    wide = np.where(counts[:, None], X, 0).astype(WIDE)
    others = W.astype(WIDE), None if bias is None else bias.astype(WIDE), widened(args)
    exact = exactly(linear_kernels.linear_cross_entropy, wide, *others, None)
    value = linear.linear_cross_entropy(xp, X, W, bias, args, block)
    assert_near(value, exact, dtype, of_all=16, what=what)
    if args.reduction == "none":
        return
    wrt = ("W",) if bias is None else ("bias", "W")
    got, grads = linear.linear_cross_entropy_value_and_grad(xp, X, W, bias, args, wrt, classes, block)
    np.testing.assert_array_equal(got, value)
    expected = exactly(linear_kernels.linear_cross_entropy_value_and_grad, wide, *others, wrt, classes, None)[1]
    for name, one, other in zip(wrt, grads, expected, strict=True):
        assert_near(one, other, dtype, of_all=32, what=(name, what))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize(
    "option", ["plain", "sample weights", "ignored", "ignored, no class", "out of range", "nothing counts"]
)
def test_linear_kernels(option, model, dtype, linear):
    n, m, k = model
    for seed, (family, reduction) in enumerate(zip(FAMILIES, ("mean", "sum", "none"), strict=True)):
        rng = np.random.default_rng(seed)
        X = FAMILIES[family](rng, n, m).astype(dtype)
        W = (rng.normal(size=(k, m)) / np.sqrt(m)).astype(dtype)
        bias = rng.normal(size=k).astype(dtype) if seed else None
        args = args_of(option, np.empty((n, k), dtype), 1, reduction, rng)
        for a in (X, W, args.labels):
            a.flags.writeable = False
        classes = (k - 1, 0) if seed else None
        check(linear, X, W, bias, args, (None, 9, 100)[seed], classes, what=(family, reduction))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_do_not_count_may_hold_anything(bad, dtype, linear):
    rng = np.random.default_rng(0)
    for option in ("sample weights", "ignored", "ignored, no class"):
        for n in (40, 300):
            args = args_of(option, np.empty((n, 5), dtype), 1, "mean", rng)
            X = rng.normal(size=(n, 20)).astype(dtype)
            nothing = args.labels == args.ignore_index if args.sample_weight is None else args.sample_weight == 0
            assert nothing.any()
            X[nothing, 3] = bad
            check(linear, X, rng.normal(size=(5, 20)).astype(dtype), None, args, what=option)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["sample", "bias"])
def test_what_is_not_finite_stays_in_its_sample(where, bad, dtype, linear):
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(300, 20)).astype(dtype), rng.normal(size=(5, 20)).astype(dtype)
    bias, labels = rng.normal(size=5).astype(dtype), rng.integers(0, 4, 300)
    if where == "sample":
        X[100, 3] = bad
    else:
        bias[4] = bad
    args = args_of("plain", np.empty((300, 5), dtype), 1, "none", rng)._replace(labels=labels)
    with np.errstate(all="ignore"):
        for reduction in ("none", "sum"):
            check(linear, X, W, bias, args._replace(reduction=reduction))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [2, 3, 16, 40])
def test_a_dominant_class_keeps_its_digits(k, dtype, linear):
    gap = 30.0 if dtype == "float32" else 600.0
    X, W = np.ones((1, 4), dtype), np.zeros((k, 4), dtype)
    W[k - 1] = gap / 4
    args = args_of("plain", np.empty((1, k), dtype), 1, "sum", np.random.default_rng(0))
    args = args._replace(labels=np.asarray([k - 1]))
    value, (grad,) = linear.linear_cross_entropy_value_and_grad(xp, X, W, None, args, ("W",))
    rest = (k - 1) * np.exp(-gap)
    np.testing.assert_allclose(value, rest, rtol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(grad[k - 1], -rest, rtol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(grad[0], np.exp(-gap), rtol=100 * np.finfo(dtype).eps)


def test_a_million_samples_lose_nothing(linear):
    n, k = 1_000_003, 3
    X, labels = np.full((n, 2), 0.1, np.float32), np.zeros(n, np.int64)
    W = np.asarray([[0.0, 0.0], [1.0, 0.5], [-1.0, 0.25]], np.float32)
    args = args_of("plain", np.empty((1, k), np.float32), 1, "sum", np.random.default_rng(0))._replace(labels=labels)
    value, (grad,) = linear.linear_cross_entropy_value_and_grad(xp, X, W, None, args, ("W",))
    one = args._replace(labels=labels[:1])
    exact, (slope,) = exactly(
        linear_kernels.linear_cross_entropy_value_and_grad, X[:1].astype(WIDE), W.astype(WIDE), None, one, ("W",)
    )
    np.testing.assert_allclose(value, n * np.float64(exact), rtol=1e-6)
    # equal terms, all rounded to the same side
    np.testing.assert_allclose(grad, n * slope.astype(np.float64), rtol=70 * np.finfo(np.float32).eps)


def large(dtype="float32", m=20):
    rng = np.random.default_rng(0)
    n = -(-numba.LEAST // m)
    return rng.normal(size=(n, m)).astype(dtype), rng.integers(0, 3, n), rng.normal(size=(3, m)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", numba.LINEAR)
def test_large_arrays_come_here(name, dtype):
    X, labels, W = large(dtype)
    assert sg.backends.explain(name, X, labels, W).backend == "numba"
    ours = getattr(sg, name)(X, labels, W)
    with sg.backends.use("generic"):
        others = getattr(sg, name)(X, labels, W)
    for got, wanted in zip(*((r if isinstance(r, tuple) else (r,)) for r in (ours, others)), strict=True):
        assert got.dtype == wanted.dtype == dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-4 if dtype == "float32" else 1e-11, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda X, y, W: ((X[:10], y[:10], W), {}), "elements"),
        (lambda X, y, W: ((np.asfortranarray(X), y, W), {}), "memory"),
        (lambda X, y, W: ((np.ascontiguousarray(X.T), y, W.T), {"sample_axis": 1}), "memory"),
        (lambda X, y, W: ((X.astype(np.float16), y, W.astype(np.float16)), {}), "dtype"),
        (lambda X, y, W: ((X, y, np.zeros((1000, 20), X.dtype)), {}), "classes"),
        (lambda X, y, W: ((X, y, W), {"wrt": ("W", "X")}), "with respect to X"),
        (lambda X, y, W: ((X, y, W), {"precision": "high"}), "precision"),
        (lambda X, y, W: ((X, y, W), {"where": np.ones((len(X), 3), bool)}), "where"),
        (lambda X, y, W: ((X, y.astype(np.uint64), W), {"ignore_index": 1}), "int64"),
        *(
            (lambda X, y, W, option=option: ((X, y, W), option), next(iter(option)))
            for option in ({"label_smoothing": 0.1}, {"z_loss": 0.1}, {"class_weight": np.ones(3, np.float32)})
        ),
        (lambda X, y, W: ((X, np.full((len(X), 3), 1 / 3, X.dtype), W), {}), "labels"),
    ],
)
def test_what_has_no_loop_goes_on(change, reason):
    arguments, options = change(*large())
    name = "linear_cross_entropy_value_and_grad"
    explained = sg.backends.explain(name, *arguments, **options)
    assert explained.backend != "numba"
    assert reason in dict(explained.declined)["numba"]
    assert np.isfinite(getattr(sg, name)(*arguments, **options)[0]).all()


def test_a_processor_with_shorter_vectors_takes_fewer_classes(monkeypatch):
    X, labels, _ = large()
    name = "linear_cross_entropy_value_and_grad"
    for whole, k, expected in ((True, 100, "numba"), (False, 100, "numpy"), (False, 16, "numba")):
        monkeypatch.setattr(numba, "_vectors_are_whole", lambda whole=whole: whole)
        assert sg.backends.explain(name, X, labels, np.zeros((k, 20), X.dtype)).backend == expected


@pytest.mark.parametrize("option", sorted(set(OPTIONS) - {"nothing counts"}))
def test_every_option_gives_what_it_gives_elsewhere(option):
    X, _, W = large("float64")
    options = args_of(option, np.empty((len(X), 3)), 1, "mean", np.random.default_rng(3))._asdict()
    labels = options.pop("labels")
    for name in ("axis", "dense", "precision"):
        del options[name]
    value, grad = sg.linear_cross_entropy_value_and_grad(X, labels, W, **options)
    with sg.backends.use("generic"):
        wanted, wanted_grad = sg.linear_cross_entropy_value_and_grad(X, labels, W, **options)
    np.testing.assert_allclose(value, wanted, rtol=1e-12)
    np.testing.assert_allclose(grad, wanted_grad, rtol=1e-10, atol=1e-15)
