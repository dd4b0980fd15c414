"""Samples that are sparse, that stand in a file, or that come in batches."""

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse

import softgrad as sg
from marks import full, late_on_jax
from softgrad.partial import BatchedLinearCrossEntropy

N, M, K = 60, 7, 4
RNG = np.random.default_rng(5)
DENSE = np.where(RNG.random((N, M)) < 0.4, RNG.normal(size=(N, M)), 0.0)
DENSE[11] = 0.0
LABELS = RNG.integers(0, K, N)
SOFT = RNG.dirichlet(np.ones(K), size=N)
W, BIAS = RNG.normal(size=(K, M)), RNG.normal(size=K)
VECTORS = RNG.normal(size=(K, M)), RNG.normal(size=K)
WEIGHT = np.where(RNG.random(N) < 0.2, 0.0, RNG.random(N))
WHERE = RNG.random((N, K)) < 0.8
WHERE[np.arange(N), LABELS] = True
FORMATS = ("csr_array", "csc_array", "coo_array", "csr_matrix", "lil_matrix", "dia_array")
OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum", "l2": 0.3},
    "weights": {"sample_weight": WEIGHT, "class_weight": (0.5, 2.0, 1.0, 3.0), "l2": 0.3},
    "all": {"sample_weight": WEIGHT, "label_smoothing": 0.2, "z_loss": 0.1, "ignore_index": 1},
    "where": {"where": WHERE},
    "high": {"precision": "high"},
    "blocks": {"block_size": 7},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def close(found, expected, rtol=1e-12):
    for a, b in zip(flat(found), flat(expected), strict=True):
        assert isinstance(a, (np.ndarray, np.floating))
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-14)


def flat(a):
    return [c for b in a for c in flat(b)] if isinstance(a, tuple) else [a]


# --- scipy.sparse


def answers(loss):
    """All that a bound loss of (W, BIAS) gives."""
    if loss.loss.reduction == "none":
        return (loss.value(W, BIAS),)
    statistics = () if loss._where is not None else (sg.statistics.hessian_diag(loss, W, BIAS),)
    return (
        loss.value(W, BIAS),
        loss.value_and_grad(W, BIAS),
        loss.grad(W),
        loss.grad(W, BIAS, classes=[2, 0]),
        loss.hvp(W, VECTORS, BIAS),
        loss.hessian(W, BIAS),
        *statistics,
    )


@pytest.mark.libraries("numpy")
@every_option
@pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["indices", "weights by class"])
@pytest.mark.parametrize("name", ["sparse", "generic"])
def test_sparse_samples_give_what_dense_ones_give(name, options, labels):
    with sg.backends.use(name):
        found = answers(sg.LinearCrossEntropy(scipy.sparse.csr_array(DENSE), labels, **options))
    close(found, answers(sg.LinearCrossEntropy(DENSE, labels, **options)))


@pytest.mark.libraries("numpy")
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_every_format_and_layout(kind, sample_axis):
    turn = np.transpose if sample_axis else np.asarray
    given = getattr(scipy.sparse, kind)(turn(DENSE))
    before = given.toarray()
    options = {"sample_axis": sample_axis, "l2": 0.2}
    found = sg.linear_cross_entropy_value_and_grad(given, LABELS, turn(W), BIAS, **options)
    close(found, sg.linear_cross_entropy_value_and_grad(turn(DENSE), LABELS, turn(W), BIAS, **options))
    np.testing.assert_array_equal(given.toarray(), before)
    assert given.format == kind.split("_")[0]


@pytest.mark.libraries("numpy")
def test_entries_in_parts_are_one_entry():
    whole = scipy.sparse.csr_array(DENSE)
    data, indices = np.repeat(whole.data / 2, 2), np.repeat(whole.indices, 2)
    parts = scipy.sparse.csr_array((data, indices, whole.indptr * 2), shape=whole.shape)
    loss = sg.LinearCrossEntropy(parts, LABELS)
    close(sg.statistics.hessian_diag(loss, W), sg.statistics.hessian_diag(sg.LinearCrossEntropy(DENSE, LABELS), W))
    assert parts.nnz == 2 * whole.nnz


@pytest.mark.libraries("numpy")
@pytest.mark.parametrize(("dtype", "wanted"), [("float32", "float32"), ("int16", "float64"), ("uint8", "float64")])
def test_the_dtype_of_sparse_samples_decides(dtype, wanted):
    rounded = np.abs(DENSE * 4).round().astype(dtype)
    found = sg.linear_cross_entropy_value_and_grad(scipy.sparse.csr_array(rounded), LABELS, W, BIAS)
    expected = sg.linear_cross_entropy_value_and_grad(rounded, LABELS, W, BIAS)
    assert {a.dtype for a in flat(found)} == {np.dtype(wanted)}
    close(found, expected, rtol=1e-5 if wanted == "float32" else 1e-12)


@pytest.mark.libraries("numpy")
def test_what_does_not_count_may_be_nan():
    broken = DENSE.copy()
    broken[WEIGHT == 0] = np.nan
    found = sg.linear_cross_entropy_value_and_grad(scipy.sparse.csr_array(broken), LABELS, W, sample_weight=WEIGHT)
    close(found, sg.linear_cross_entropy_value_and_grad(DENSE, LABELS, W, sample_weight=WEIGHT))
    value = sg.linear_cross_entropy(scipy.sparse.csr_array(broken), LABELS, W, reduction="none")
    np.testing.assert_array_equal(np.isnan(value), WEIGHT == 0)


@pytest.mark.libraries("numpy")
def test_statistics_of_sparse_samples():
    sparse = scipy.sparse.csr_array(DENSE)
    close(
        tuple(sg.statistics.coefficient_statistics(sparse, W, BIAS)),
        tuple(sg.statistics.coefficient_statistics(DENSE, W, BIAS)),
        rtol=1e-9,
    )
    one, other = (
        sg.statistics.BlockPreconditioner(sg.LinearCrossEntropy(X, LABELS, l2=0.1), W, BIAS) for X in (sparse, DENSE)
    )
    close(one(VECTORS), other(VECTORS), rtol=1e-9)


@pytest.mark.libraries("numpy")
def test_sparse_samples_are_refused_where_they_have_no_place():
    sparse = scipy.sparse.csr_array(DENSE)
    for call in (
        lambda: sg.linear_cross_entropy_grad(sparse, LABELS, W, wrt="X"),
        lambda: sg.linear_cross_entropy_hvp(sparse, LABELS, W, (VECTORS[0], sparse), wrt=("W", "X")),
    ):
        with pytest.raises(ValueError, match=r"wrt names X, which is sparse.*toarray"):
            call()
    with pytest.raises(TypeError, match=r"x is a sparse matrix.*toarray"):
        sg.softmax(sparse)
    with pytest.raises(TypeError, match=r"W is a sparse matrix.*toarray"):
        sg.linear_cross_entropy(DENSE, LABELS, scipy.sparse.csr_array(W))
    with pytest.raises(TypeError, match=r"X must be a real array of numbers, got dtype bool"):
        sg.linear_cross_entropy(sparse != 0, LABELS, W)
    with pytest.raises(TypeError, match=r"X must be a real array of numbers, got dtype complex"):
        sg.linear_cross_entropy(sparse * 1j, LABELS, W)
    with pytest.raises(ValueError, match=r"labels of shape \(4,\) and X of shape \(60, 7\)"):
        sg.linear_cross_entropy(sparse, LABELS[:4], W)
    with pytest.raises(ValueError, match=r"needs 6 features, X has 7"):
        sg.linear_cross_entropy(sparse, LABELS, W[:, :6])


def test_arrays_of_other_libraries_beside_sparse_samples_are_refused(asarray, backend):
    if backend == "numpy":
        pytest.skip("NumPy's are those that belong there")
    with pytest.raises(TypeError, match=r"an array of \w+, (X|the first|logits).* numpy"):
        sg.linear_cross_entropy(scipy.sparse.csr_array(DENSE), LABELS, asarray(W))


@pytest.mark.libraries("numpy")
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_smallest_sparse_samples(shape):
    X, labels, w = np.ones(shape), np.zeros(shape[0], int), np.ones((2, shape[1]))
    options = {"reduction": "sum"}
    found = sg.linear_cross_entropy_value_and_grad(scipy.sparse.csr_array(X), labels, w, np.zeros(2), **options)
    close(found, sg.linear_cross_entropy_value_and_grad(X, labels, w, np.zeros(2), **options))


@pytest.mark.libraries("numpy")
def test_sparse_samples_are_never_made_dense():
    import tracemalloc

    n, m = 20_000, 50_000
    rows = np.arange(n)
    X = scipy.sparse.csr_array((np.ones(n), (rows, rows % m)), shape=(n, m))
    w, labels = np.zeros((2, m)), rows % 2
    for call in (
        lambda: sg.linear_cross_entropy_value_and_grad(X, labels, w, np.zeros(2)),
        lambda: sg.linear_cross_entropy_hvp(X, labels, w, w),
    ):
        tracemalloc.start()
        call()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 100 * n * 8 < n * m  # dense samples are 8 GB


@pytest.mark.libraries("numpy")
def test_blocks_of_sparse_rows_are_bounded():
    from softgrad.backends.sparse import linear as sparse_linear

    full = scipy.sparse.csr_array(np.ones((4000, 3000), dtype="float32"))
    rows = sparse_linear.rows_of_block(full, 2)
    assert rows * 3000 * 8 <= sparse_linear.BLOCK_BYTES
    assert rows < 4000


# --- in a file

LIMITED = """
import resource, sys
import numpy as np
import softgrad as sg

path, case, n, m, dtype = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
X = np.memmap(path, dtype, "r", shape=(n, m))
k = 40 if case == "many classes" else 3
labels, W = np.arange(n) % k, np.zeros((k, m), np.float32 if X.dtype.itemsize == 4 else np.float64)
small = np.ascontiguousarray(X[:200])


def run(X, labels):
    loss = sg.LinearCrossEntropy(X, labels, **({"precision": "high"} if case == "high" else {}))
    if case == "weights":
        loss = sg.LinearCrossEntropy(X, labels, ignore_index=1, where=np.ones(k, bool))
    value, grad = loss.value_and_grad(W)
    if case == "hvp":
        grad = loss.hvp(W, grad)
    if case == "statistics":
        sg.statistics.hessian_diag(loss, W)
    if case == "fit":
        sg.SoftmaxRegression(max_iter=1, tol=1e9).fit(X, labels)
    return value


run(small, labels[:200])  # imports, and the memory that BLAS keeps
used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
limit = used + 160 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
assert X.nbytes > 2 * 160 * 2**20 or X.dtype.itemsize < 4 and n * m * 8 > 2 * 160 * 2**20
print(float(run(X, labels)))
"""


@pytest.mark.libraries("numpy")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on a process's own memory is Linux's")
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        ("many classes", "int16"),
        *full(
            ("few classes", "float32"),
            ("many classes", "float32"),
            ("few classes", "uint8"),
            ("high", "float64"),
            ("weights", "float32"),
            ("hvp", "float32"),
            ("statistics", "float64"),
            ("fit", "float32"),
        ),
    ],
)
def test_a_file_larger_than_memory_is_read_in_blocks(case, dtype, tmp_path):
    m, size = 500, np.dtype(dtype).itemsize
    n = (360 << 20) // (m * (size if size >= 4 else 8))
    path = tmp_path / "X"
    with path.open("wb") as file:  # a file with a hole: zeros that take no room on the disk
        file.truncate(n * m * size)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(path), case, str(n), str(m), dtype],
        capture_output=True,
        text=True,
        check=False,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) == pytest.approx(np.log(40 if case == "many classes" else 3), rel=1e-5)


@pytest.mark.libraries("numpy")
@pytest.mark.parametrize("dtype", ["uint8", "int32", ">i4"])
@pytest.mark.parametrize("k", [3, 40])
@pytest.mark.parametrize("options", [{}, {"precision": "high"}, {"where": np.ones(1, bool)}, {"block_size": 7}])
def test_integers_in_a_file_are_what_they_are_in_memory(dtype, k, options, tmp_path):
    rng = np.random.default_rng(0)
    X, w, labels = rng.integers(0, 200, (N, M)).astype(dtype), rng.normal(size=(k, M)) / 99, rng.integers(0, k, N)
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", dtype, "r", shape=X.shape)
    one, other = (sg.LinearCrossEntropy(a, labels, l2=0.1, **options) for a in (mapped, X))
    close(one.value_and_grad(w, wrt=("W", "X")), other.value_and_grad(w, wrt=("W", "X")))
    close(one.hvp(w, w), other.hvp(w, w))
    if k == 3:
        close(one.hessian(w), other.hessian(w))
    turned = sg.LinearCrossEntropy(mapped.T, labels, sample_axis=1, l2=0.1, **options)
    close(turned.grad(w.T), other.grad(w).T)
    close(one.value(w), other.value(w))
    assert sg.LinearCrossEntropy(mapped, labels, reduction="none").value(w).dtype == np.float64


# --- in batches

CUTS = {"one": (0, N), "two": (0, 25, N), "seven": (0, 1, 2, 10, 11, 30, 59, N), "with an empty one": (0, 30, 30, N)}


def batched(asarray, cuts, weight=None, labels=LABELS, dtype="float64", sample_axis=0):
    turn = np.transpose if sample_axis else np.asarray

    def batches():
        for a, b in itertools.pairwise(cuts):
            share = labels[a:b]
            batch = (
                asarray(turn(DENSE[a:b]), dtype),
                asarray(share, "int64") if share.ndim == 1 else asarray(turn(share), dtype),
            )
            yield batch if weight is None else (*batch, asarray(weight[a:b], dtype))

    return batches


# JAX compiles everything for every size of a batch
@late_on_jax
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("options", ["plain", "all"])
def test_batches_make_the_whole(cuts, reduction, options, asarray, to_numpy):
    given = {name: value for name, value in OPTIONS[options].items() if name != "sample_weight"}
    given |= {"reduction": reduction, "l2": 0.3}
    weight = OPTIONS[options].get("sample_weight")
    loss = BatchedLinearCrossEntropy(batched(asarray, cuts, weight), **given)
    whole = sg.LinearCrossEntropy(DENSE, LABELS, sample_weight=weight, **given)
    w, bias, vectors = asarray(W), asarray(BIAS), tuple(asarray(v) for v in VECTORS)
    value, grads = loss.value_and_grad(w, bias)
    home = (to_numpy(value), tuple(to_numpy(g) for g in grads))
    close(home, whole.value_and_grad(W, BIAS))
    close(to_numpy(loss.value(w, bias)), whole.value(W, BIAS))
    close(to_numpy(loss.grad(w)), whole.grad(W))
    close(tuple(to_numpy(h) for h in loss.hvp(w, vectors, bias)), whole.hvp(W, VECTORS, BIAS))
    close(to_numpy(loss.hvp(w, vectors[0])), whole.hvp(W, VECTORS[0]))


@late_on_jax
def test_batches_in_the_other_layout_and_with_weights_by_class(asarray, to_numpy):
    loss = BatchedLinearCrossEntropy(batched(asarray, CUTS["seven"], labels=SOFT, sample_axis=1), sample_axis=1, l2=0.1)
    value, grad = loss.value_and_grad(asarray(W.T))
    expected = sg.linear_cross_entropy_value_and_grad(DENSE, SOFT, W, l2=0.1)
    close((to_numpy(value), to_numpy(grad).T), expected)


@late_on_jax
def test_batches_of_half_precision_are_summed_in_float32(asarray, to_numpy, has_dtype):
    if not has_dtype("float16"):
        pytest.skip("no float16")
    loss = BatchedLinearCrossEntropy(batched(asarray, CUTS["two"], dtype="float16"), l2=0.1)
    value, grad = loss.value_and_grad(asarray(W, "float16"))
    assert "float32" in str(value.dtype)
    assert "float32" in str(grad.dtype)
    np.testing.assert_allclose(to_numpy(value), sg.linear_cross_entropy(DENSE, LABELS, W, l2=0.1), rtol=1e-2)


@pytest.mark.full("dask")
def test_many_batches_lose_no_digits(asarray, to_numpy):
    n = 1000  # of which plain sums lose ten times what is allowed
    x, y = asarray([[1.0]], "float32"), asarray([0], "int64")
    loss = BatchedLinearCrossEntropy([(x, y)] * n, reduction="sum")
    expected = n * np.log(2)
    np.testing.assert_allclose(to_numpy(loss.value(asarray(np.zeros((2, 1)), "float32"))), expected, rtol=1e-6)


@pytest.mark.libraries("numpy")
def test_batches_that_are_sparse(backend):
    rows = scipy.sparse.csr_array(DENSE)
    batches = [(rows[:20], LABELS[:20], WEIGHT[:20]), (rows[20:], LABELS[20:], WEIGHT[20:])]
    expected = sg.linear_cross_entropy_value_and_grad(DENSE, LABELS, W, BIAS, sample_weight=WEIGHT)
    close(BatchedLinearCrossEntropy(batches).value_and_grad(W, BIAS), expected)
    parts = [sg.partial.linear_partial(X, y, W, BIAS, sample_weight=weight) for X, y, weight in batches]
    close(sg.partial.finish(sg.partial.merge(*parts)), expected)


def test_an_iterator_is_read_once(asarray, to_numpy):
    loss = BatchedLinearCrossEntropy(batched(asarray, CUTS["two"])())
    assert np.isfinite(to_numpy(loss.value(asarray(W))))
    with pytest.raises(ValueError, match=r"batches is an iterator, and has been read.*function"):
        loss.value(asarray(W))


def test_batches_that_are_none_are_named(asarray):
    w = asarray(W)
    x, y = next(batched(asarray, CUTS["two"])())
    with pytest.raises(TypeError, match="batches must be an iterable or a function that returns one, got int"):
        BatchedLinearCrossEntropy(3)
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', got 'none'"):
        BatchedLinearCrossEntropy([], reduction="none")
    with pytest.raises(TypeError, match="sample_weight comes with each batch"):
        BatchedLinearCrossEntropy([], sample_weight=WEIGHT)
    with pytest.raises(ValueError, match="batches holds no batch"):
        BatchedLinearCrossEntropy([]).value(w)
    with pytest.raises(TypeError, match=r"batch 1 must be \(X, labels\).*got a tuple of 1"):
        BatchedLinearCrossEntropy([(x, y), (x,)]).value(w)
    with pytest.raises(TypeError, match=r"batch 0 must be \(X, labels\)"):
        BatchedLinearCrossEntropy([x]).value(w)
    with pytest.raises(ValueError, match="differ in the number of samples") as caught:
        BatchedLinearCrossEntropy([(x, y), (x, y[:3])]).value(w)
    assert caught.value.__notes__ == ["in batch 1"]
