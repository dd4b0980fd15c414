"""Log-probabilities of the linear model: what the dense functions give of its logits, with one block of them held."""

import subprocess
import sys

import numpy as np
import pytest

import softgrad as sg
from marks import full, late_on_jax
from torch_second_order import second_order_holds

RNG = np.random.default_rng(18)
N, M, K = 11, 3, 6
X, W, BIAS = RNG.normal(size=(N, M)), RNG.normal(size=(K, M)), RNG.normal(size=K)
LABELS = RNG.integers(0, K, (N, 2))
C, CE = RNG.normal(size=(N, 2)), RNG.normal(size=N)
OPTIONS = [{}, {"temperature": 0.5}, {"temperature": 2.0, "softcap": 3.0}]


def logits(bias=True):
    return X @ W.T + (BIAS if bias else 0)


def near(got, expected, rtol=1e-12, atol=1e-14):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


@pytest.fixture
def data(asarray):
    return asarray(X), asarray(LABELS, "int64"), asarray(W), asarray(BIAS)


@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_results_are_those_of_the_logits(options, block_size, data, to_numpy):
    z = logits()
    scaled = z if options.get("softcap") is None else options["softcap"] * np.tanh(z / options["softcap"])
    scaled = scaled / options.get("temperature", 1.0)
    found = sg.linear_log_probs(*data, entropy=True, top_k=3, block_size=block_size, **options)
    assert isinstance(found, sg.LinearLogProbs)
    near(to_numpy(found.log_probs), sg.log_probs(z, LABELS, **options))
    near(to_numpy(found.log_normalizer), sg.logsumexp(scaled, axis=1))
    near(to_numpy(found.entropy), sg.entropy(z, **options))
    top = np.argsort(-z, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(to_numpy(found.top_labels), top)
    near(to_numpy(found.top_log_probs), sg.log_probs(z, top, **options))


@late_on_jax
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("which", ["both", "log_probs", "entropy"])
def test_vjp_is_the_logits_own_times_their_factors(which, options, data, asarray, to_numpy):
    z, slope = logits(), np.zeros((N, K))
    given = [None, None]
    if which != "entropy":
        given[0], slope = asarray(C), slope + sg.log_probs_vjp(z, LABELS, C, **options)
    if which != "log_probs":
        given[1], slope = asarray(CE), slope + sg.entropy_vjp(z, CE, **options)
    expected = {"W": slope.T @ X, "bias": slope.sum(0), "X": slope @ W}
    for block_size in (None, 4):
        got = sg.linear_log_probs_vjp(*data, given, wrt=("X", "W", "bias"), block_size=block_size, **options)
        for name, a in zip(("X", "W", "bias"), got, strict=True):
            near(to_numpy(a), expected[name])


def test_one_label_no_bias_and_the_other_layout(asarray, to_numpy):
    z, one = logits(bias=False), LABELS[:, 0]
    found = sg.linear_log_probs(asarray(X), asarray(one, "int64"), asarray(W))
    assert found[2:] == (None, None, None)
    near(to_numpy(found.log_probs), sg.log_probs(z, one))
    across = asarray(X.T), asarray(LABELS.T, "int64"), asarray(W.T)
    turned = sg.linear_log_probs(*across, top_k=2, sample_axis=1)
    near(to_numpy(turned.log_probs), sg.log_probs(z, LABELS).T)
    np.testing.assert_array_equal(to_numpy(turned.top_labels), np.argsort(-z, axis=1, kind="stable")[:, :2].T)
    slope = sg.log_probs_vjp(z, LABELS, C)
    gW, gX = sg.linear_log_probs_vjp(*across, None, (asarray(C.T), None), wrt=("W", "X"), sample_axis=1)
    near(to_numpy(gW), (slope.T @ X).T)
    near(to_numpy(gX), (slope @ W).T)
    single = sg.linear_log_probs_vjp(
        asarray(X), asarray(one, "int64"), asarray(W), None, (asarray(C[:, 0]), asarray(CE))
    )
    near(to_numpy(single), (sg.log_probs_vjp(z, one, C[:, 0]) + sg.entropy_vjp(z, CE)).T @ X)


def test_of_equal_logits_the_lowest_classes_come_first(asarray, to_numpy):
    W = asarray([[0.0], [1.0], [1.0], [0.0], [1.0], [-np.inf], [-np.inf]])
    found = sg.linear_log_probs(asarray([[1.0], [2.0]]), asarray([0, 0], "int64"), W, top_k=7)
    np.testing.assert_array_equal(to_numpy(found.top_labels), [[1, 2, 4, 0, 3, 5, 6]] * 2)
    few = sg.linear_log_probs(asarray([[1.0], [2.0]]), asarray([0, 0], "int64"), W, top_k=2)
    np.testing.assert_array_equal(to_numpy(few.top_labels), [[1, 2]] * 2)


def test_rows_without_a_sum_and_labels_that_are_no_class(asarray, to_numpy):
    X, W = asarray([[1.0], [np.nan], [1.0]]), asarray([[0.0], [0.0], [-np.inf]])
    labels = asarray([[0, 2], [0, 1], [3, 1]], "int64")
    found = sg.linear_log_probs(X, labels, W, entropy=True)
    half = np.log(0.5)
    near(to_numpy(found.log_probs), [[half, -np.inf], [np.nan, np.nan], [np.nan, half]])
    near(to_numpy(found.log_normalizer), [-half, np.nan, -half])
    near(to_numpy(found.entropy), [-half, np.nan, -half])
    ones = asarray(np.ones((3, 2)))
    got = sg.linear_log_probs_vjp(X[:1, :], labels[:1, :], W, None, (ones[:1, :], ones[:1, 0]))
    near(to_numpy(got), [[0.0], [-1.0], [1.0]])
    with pytest.raises(sg.LabelError, match="3"):
        sg.linear_log_probs(X, labels, W, validate=True)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_narrow_dtypes_and_high_precision(dtype, asarray, to_numpy, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype}")
    x, w = asarray(X / 4, dtype), asarray(W / 4, dtype)
    z = to_numpy(x).astype(np.float64) @ to_numpy(w).astype(np.float64).T
    labels = asarray(LABELS, "int64")
    for precision, rtol in ((None, 1e-5), ("high", 1e-7)):
        rtol = 1e-3 if dtype == "float16" else rtol
        found = sg.linear_log_probs(x, labels, w, entropy=True, precision=precision)
        assert found.log_probs.dtype == x.dtype
        near(to_numpy(found.log_probs), sg.log_probs(z, LABELS), rtol)
        near(to_numpy(found.entropy), sg.entropy(z), rtol)
        got = sg.linear_log_probs_vjp(x, labels, w, None, (asarray(C, dtype), asarray(CE, dtype)), precision=precision)
        assert got.dtype == w.dtype
        slope = sg.log_probs_vjp(z, LABELS, C) + sg.entropy_vjp(z, CE)
        near(to_numpy(got), slope.T @ to_numpy(x).astype(np.float64), 10 * rtol, 1e-2 if dtype == "float16" else 1e-6)


@pytest.mark.libraries("numpy", "torch")
def test_many_classes_and_threads_give_what_the_generic_kernels_give(asarray, to_numpy):
    random = np.random.default_rng(3)
    n, m, k = 700, 8, 1500
    arrays = [asarray(random.normal(size=s).astype("float32"), "float32") for s in ((n, m), (k, m), (k,))]
    x, w, b = arrays
    labels = asarray(random.integers(0, k, (n, 2)), "int64")
    c = asarray(random.normal(size=(n, 2)), "float32"), asarray(random.normal(size=n), "float32")

    def call():
        found = sg.linear_log_probs(x, labels, w, b, entropy=True, top_k=4, block_size=300)
        slopes = sg.linear_log_probs_vjp(x, labels, w, b, c, wrt=("W", "bias", "X"), block_size=300)
        return [to_numpy(a) for a in (*found, *slopes)]

    got = call()
    with sg.backends.use("generic"):
        for a, expected in zip(got, call(), strict=True):
            near(a, expected, 2e-5, 2e-5)


def test_a_sure_label_keeps_its_digits(asarray, to_numpy):
    x, w = np.array([[40.0]], "float32"), np.array([[1.0], [0.0], [0.25]], "float32")
    z = (x.astype(np.float64) @ w.T.astype(np.float64)).astype(np.float64)
    given = asarray(x, "float32"), asarray([0], "int64"), asarray(w, "float32")
    found = sg.linear_log_probs(*given, entropy=True)
    near(to_numpy(found.log_probs), sg.log_probs(z, np.array([0])), 1e-5, 0)
    near(to_numpy(found.entropy), sg.entropy(z), 1e-5, 0)
    one = asarray([1.0], "float32")
    got = to_numpy(sg.linear_log_probs_vjp(*given, None, (one, None)))
    near(got, sg.log_probs_vjp(z, np.array([0]), np.ones(1)).T @ x, 1e-5, 0)


# --- transforms


def results(data, **options):
    X, labels, W, bias = data
    found = sg.linear_log_probs(X, labels, W, bias, entropy=True, top_k=2, block_size=4, **options)
    return found.log_probs, found.log_normalizer, found.entropy, found.top_log_probs


@pytest.mark.parametrize("options", [*full(OPTIONS[0]), OPTIONS[2]], ids=str)
def test_torch_differentiates_twice(options, torch, data):
    X, labels, W, bias = data
    # two blocks, the second not whole
    x, labels, w, b = X[:5].clone(), labels[:5], W.clone(), bias.clone()
    for a in (x, w, b):
        a.requires_grad_(True)

    def function(x, w, b):
        return results((x, labels, w, b), **options)

    assert torch.autograd.gradcheck(function, (x, w, b))
    assert second_order_holds(function, (x, w, b))


def test_torch_keeps_no_logits_for_its_backward_pass(torch):
    n, m, k = 512, 4, 4096
    X, W = torch.randn(n, m), torch.randn(k, m, requires_grad=True)
    kept = 0

    def pack(a):
        nonlocal kept
        kept += a.numel()
        return a

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda a: a):
        found = sg.linear_log_probs(X, torch.zeros(n, dtype=torch.int64), W, entropy=True)
    (found.log_probs.mean() + found.entropy.mean()).backward()
    assert kept < n * k / 8


def test_torch_compiles_and_transforms(torch, data, asarray, to_numpy):
    X, labels, W, bias = data
    torch._dynamo.reset()
    compiled = torch.compile(lambda X, W, b: results((X, labels, W, b)), fullgraph=True, backend="eager")
    for a, expected in zip(compiled(X, W, bias), results(data), strict=True):
        near(to_numpy(a), to_numpy(expected))
    got = torch.func.grad(lambda W: sg.linear_log_probs(X, labels, W, bias, entropy=True).entropy.sum())(W)
    ones = asarray(np.ones(N))
    near(to_numpy(got), to_numpy(sg.linear_log_probs_vjp(X, labels, W, bias, (None, ones), wrt="W")))


def test_jax_differentiates_and_compiles(jax, data, to_numpy):
    X, labels, W, bias = data

    def function(W):
        own, lse, entropy, top = results((X, labels, W, bias))
        return (own * C).sum() + (lse * CE).sum() + (entropy * CE).sum() + top.sum()

    v, step = jax.numpy.asarray(RNG.normal(size=W.shape)), 1e-5
    value, slope = jax.jit(function), jax.jit(jax.grad(function))
    bend = jax.jit(lambda x: jax.jvp(slope, (x,), (v,))[1])
    for of, got in ((value, jax.numpy.vdot(slope(W), v)), (slope, bend(W))):
        near(to_numpy(got), to_numpy((of(W + step * v) - of(W - step * v)) / (2 * step)), 1e-6, 1e-7)


def test_dask_computes_nothing_early(dask, data, to_numpy):
    import dask.array as da

    _, labels, W_, bias = data
    x = da.from_array(X, chunks=(3, 2))

    def refuse(*args, **kwargs):
        raise AssertionError("computed early")

    with dask.config.set(scheduler=refuse):
        found = sg.linear_log_probs(x, labels, W_, bias, entropy=True, top_k=2)
        c = da.from_array(C, chunks=(5, 1)), da.from_array(CE, chunks=2)
        slopes = sg.linear_log_probs_vjp(x, labels, W_, bias, c, wrt=("W", "bias", "X"))
    expected = sg.linear_log_probs(X, LABELS, W, BIAS, entropy=True, top_k=2)
    pulled = sg.linear_log_probs_vjp(X, LABELS, W, BIAS, (C, CE), wrt=("W", "bias", "X"))
    for a, want in zip((*found, *slopes), (*expected, *pulled), strict=True):
        assert a.shape == want.shape
        near(to_numpy(a), want)


# --- memory

_PROGRAM = """
import sys
import numpy as np
import softgrad as sg

def read(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024

random = np.random.default_rng(0)
X, W = (random.standard_normal(shape, dtype="float32") for shape in ((1024, 32), (50_000, 32)))
labels = random.integers(0, 50_000, 1024)
if sys.argv[1] == "torch":
    import torch
    X, W, labels = map(torch.from_numpy, (X, W, labels))
sg.linear_log_probs(X[:300], labels[:300], W[:2000], entropy=True, top_k=4)
open("/proc/self/clear_refs", "w").write("5")
before = read("VmRSS")
sg.linear_log_probs(X, labels, W, entropy=True, top_k=4)
print(read("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
@pytest.mark.libraries("numpy", "torch")
@pytest.mark.full("torch")
def test_a_process_holds_one_block_of_logits(backend):
    run = subprocess.run([sys.executable, "-c", _PROGRAM, backend], capture_output=True, text=True, check=True)
    # all logits are 195 MiB
    assert float(run.stdout) < 64


@pytest.mark.libraries("numpy")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("sample_axis", "block_size"), [(0, 4), (1, None)])
def test_samples_in_a_sparse_matrix(sample_axis, block_size, options):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    dense, weights, labels, c = np.where(X > 0, X, 0.0), W, LABELS, C
    if sample_axis:
        dense, weights, labels, c = dense.T, W.T, LABELS.T, C.T
    given = {"sample_axis": sample_axis, **options}
    expected = sg.linear_log_probs(dense, labels, weights, BIAS, entropy=True, top_k=2, **given)
    slopes = sg.linear_log_probs_vjp(dense, labels, weights, BIAS, (c, CE), **given)
    given["block_size"] = block_size
    for rows in (scipy_sparse.csc_array(dense), scipy_sparse.csr_matrix(dense)):
        found = sg.linear_log_probs(rows, labels, weights, BIAS, entropy=True, top_k=2, **given)
        got = sg.linear_log_probs_vjp(rows, labels, weights, BIAS, (c, CE), **given)
        for a, b in zip((*found, *got), (*expected, *slopes), strict=True):
            near(a, b)
    with pytest.raises(ValueError, match="wrt names X, which is sparse"):
        sg.linear_log_probs_vjp(rows, labels, weights, BIAS, (c, CE), wrt="X", **given)
