"""Dask arrays: one task a chunk of rows, any cut of the samples, and more than one process."""

from __future__ import annotations

import logging
import os
import signal
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import softgrad as sg

RNG = np.random.default_rng(11)
N, M, K = 60, 4, 3
X = RNG.normal(size=(N, M))
LABELS = RNG.integers(0, K, N)
W = RNG.normal(size=(K, M))
BIAS = RNG.normal(size=K)
WEIGHT = RNG.uniform(0.5, 2, N)
WHERE = RNG.uniform(size=(N, K)) < 0.8
WHERE[np.arange(N), LABELS] = True
NAMES = ("W", "bias", "X")


@pytest.fixture(scope="module")
def da(dask):
    import dask.array

    return dask.array


CUTS = {
    "even": (15, M),
    "uneven": ((7, 20, 1, 32), M),
    "along features": (20, 1),
    "along both": ((50, 10), (1, 3)),
    "with an empty chunk": ((30, 0, 30), M),
    "one": (N, M),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_any_cut_gives_what_numpy_gives(cut, reduction, da):
    lazy = da.from_array(X, chunks=CUTS[cut])
    options = {"reduction": reduction, "wrt": NAMES, "l2": 0.3, "ignore_index": 1, "label_smoothing": 0.1}
    value, grads = sg.linear_cross_entropy_value_and_grad(
        lazy,
        da.from_array(LABELS, chunks=9),
        da.from_array(W, chunks=(2, 3)),
        BIAS,
        sample_weight=da.from_array(WEIGHT, chunks=25),
        where=da.from_array(WHERE, chunks=(11, 2)),
        **options,
    )
    expected, wanted = sg.linear_cross_entropy_value_and_grad(
        X, LABELS, W, BIAS, sample_weight=WEIGHT, where=WHERE, **options
    )
    np.testing.assert_allclose(value.compute(), expected, rtol=1e-13)
    for name, got, want in zip(NAMES, grads, wanted, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got.compute(), want, rtol=1e-11, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("cut", CUTS)
def test_any_cut_gives_numpys_second_derivatives(cut, da):
    lazy, labels = da.from_array(X, chunks=CUTS[cut]), da.from_array(LABELS, chunks=13)
    vectors = (W[::-1].copy(), BIAS[::-1].copy())
    got = sg.linear_cross_entropy_hvp(lazy, labels, W, vectors, BIAS)
    wanted = sg.linear_cross_entropy_hvp(X, LABELS, W, vectors, BIAS)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a.compute(), b, rtol=1e-11, atol=1e-14)
    hessian = sg.linear_cross_entropy_hessian(lazy, labels, W)
    np.testing.assert_allclose(hessian.compute(), sg.linear_cross_entropy_hessian(X, LABELS, W), rtol=1e-10, atol=1e-14)


def test_one_task_a_chunk_reads_the_rows(da):
    lazy, labels = da.from_array(X, chunks=(15, M)), da.from_array(LABELS, chunks=15)
    value, grad = sg.linear_cross_entropy_value_and_grad(lazy, labels, W)
    graph = {**value.__dask_graph__(), **grad.__dask_graph__()}
    assert sum("_part-" in str(key) for key in graph) == lazy.numblocks[0]


def test_a_merge_of_many_chunks_is_a_tree(da):
    lazy, labels = da.from_array(X, chunks=(1, M)), da.from_array(LABELS, chunks=1)
    value = sg.linear_cross_entropy(lazy, labels, W)
    merges = sum("_merge" in str(key) for key in value.__dask_graph__())
    # 60 parts by eights: 8, then 1
    assert merges == 9


def test_a_diagonal_takes_one_task_a_chunk(da):
    loss = sg.LinearCrossEntropy(da.from_array(X, chunks=(15, M)), da.from_array(LABELS, chunks=15), l2=0.1)
    found = sg.statistics.hessian_diag(loss, W, BIAS)
    assert sum("_sums_part-" in str(key) for key in found[0].__dask_graph__()) == 4
    wanted = sg.statistics.hessian_diag(sg.LinearCrossEntropy(X, LABELS, l2=0.1), W, BIAS)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a.compute(), b, rtol=1e-12)


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix"])
def test_chunks_may_be_sparse(kind, da):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(np.random.default_rng(3).random(X.shape) < 0.5, X, 0.0)
    lazy = da.from_array(dense, chunks=(15, M)).map_blocks(getattr(sparse, kind))
    labels = da.from_array(LABELS, chunks=15)
    options = {"l2": 0.3, "sample_weight": WEIGHT}
    given = {**options, "sample_weight": da.from_array(WEIGHT, chunks=15)}
    value, grads = sg.linear_cross_entropy_value_and_grad(lazy, labels, W, BIAS, **given)
    expected, wanted = sg.linear_cross_entropy_value_and_grad(dense, LABELS, W, BIAS, **options)
    np.testing.assert_allclose(value.compute(), expected, rtol=1e-13)
    vectors = (W[::-1].copy(), BIAS[::-1].copy())
    products = sg.linear_cross_entropy_hvp(lazy, labels, W, vectors, BIAS, **given)
    turned = sg.linear_cross_entropy_hvp(dense, LABELS, W, vectors, BIAS, **options)
    one, other = (sg.LinearCrossEntropy(a, y) for a, y in ((lazy, labels), (dense, LABELS)))
    pairs = [*zip(grads, wanted, strict=True), *zip(products, turned, strict=True)]
    pairs += [(one.hessian(W), other.hessian(W))]
    pairs += [(sg.statistics.hessian_diag(one, W), sg.statistics.hessian_diag(other, W))]
    for a, b in pairs:
        np.testing.assert_allclose(a.compute(), b, rtol=1e-11, atol=1e-14)
    assert isinstance(grads[0].compute(), np.ndarray)


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix"])
def test_an_estimator_takes_sparse_chunks(kind, da):
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(np.random.default_rng(3).random(X.shape) < 0.5, X, 0.0)
    lazy = da.from_array(dense, chunks=(15, 2)).map_blocks(getattr(sparse, kind))
    labels, weight = (da.from_array(a, chunks=15) for a in (LABELS, WEIGHT))
    model = sg.SoftmaxRegression(tol=1e-8, max_iter=1000).fit(lazy, labels, sample_weight=weight)
    wanted = sg.SoftmaxRegression(tol=1e-8, max_iter=1000).fit(dense, LABELS, sample_weight=WEIGHT)
    np.testing.assert_allclose(model.coef_.compute(), wanted.coef_, atol=1e-6)
    probs = model.predict_proba(lazy)
    np.testing.assert_allclose(probs.compute(), wanted.predict_proba(dense), atol=1e-6)
    assert model.score(lazy, labels) == wanted.score(dense, LABELS)
    broken = dense.copy()
    broken[40, 1] = np.nan
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        model.fit(da.from_array(broken, chunks=(15, M)).map_blocks(getattr(sparse, kind)), labels)


def unknown(da, array):
    """The array in chunks of which Dask does not know the sizes."""
    kept = da.from_array(np.ones(len(array), dtype=bool), chunks=20)
    return da.from_array(array, chunks=(20, *array.shape[1:]))[kept]


def test_unknown_sizes_cut_alike(da):
    value, grad = sg.linear_cross_entropy_value_and_grad(unknown(da, X), unknown(da, LABELS), W)
    expected, wanted = sg.linear_cross_entropy_value_and_grad(X, LABELS, W)
    np.testing.assert_allclose(value.compute(), expected, rtol=1e-13)
    np.testing.assert_allclose(grad.compute(), wanted, rtol=1e-12)


def test_unknown_sizes_cut_differently(da):
    labels = da.from_array(LABELS, chunks=30)[da.from_array(np.ones(N, dtype=bool), chunks=30)]
    with pytest.raises(ValueError, match=r"labels.*compute_chunk_sizes"):
        sg.linear_cross_entropy(unknown(da, X), labels, W)


@pytest.mark.parametrize("function", [sg.softmax, sg.log_softmax, sg.logsumexp])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_dense_functions_across_chunks(function, axis, da):
    x = RNG.normal(size=(30, 200))
    lazy = da.from_array(x, chunks=(7, 33))
    np.testing.assert_allclose(function(lazy, axis=axis).compute(), function(x, axis=axis), rtol=1e-12)


def test_rows_are_put_together_within_dasks_limit(da):
    import dask

    from softgrad.backends.dask.chunks import whole_rows

    lazy = da.zeros((1000, 800), chunks=(1000, 100))
    with dask.config.set({"array.chunk-size": "1MiB"}):
        whole = whole_rows(lazy, 1)
    assert whole.numblocks[1] == 1
    assert max(whole.chunks[0]) * 800 * 8 <= 2**20


# --- numbers at the edge, on the scheduler's own threads


def edge_rows(family, dtype):
    big = float(np.finfo(dtype).max)
    rows = {
        "huge": [[big, big / 2, -big], [big, big, big], [-big, -big, big], [0, big, 1]],
        "infinite": [[np.inf, 0, 1], [-np.inf, 0, 1], [-np.inf] * 3, [np.inf, -np.inf, np.inf]],
        "nan": [[np.nan, 0, 1], [1, 2, 3], [np.nan] * 3, [np.inf, -np.inf, np.nan]],
        "tiny": [[1e-7, 0, 1], [-30, 0, 1], [-87, -90, -104], [-700, -745, 1]],
    }[family]
    return np.array(rows * 2, dtype=dtype)


def silently(results):
    import dask

    with dask.config.set(scheduler="threads", num_workers=2):
        return dask.compute(*results)


every_edge = [
    pytest.mark.parametrize("dtype", ["float16", "float32", "float64"]),
    pytest.mark.parametrize("family", ["huge", "infinite", "nan", "tiny"]),
]


@every_edge[0]
@every_edge[1]
def test_dense_results_at_the_edge_bring_no_warning(family, dtype, da):
    rows = edge_rows(family, dtype)
    x = da.from_array(rows, chunks=(3, 2))
    calls = [f(x, axis=axis) for f in (sg.softmax, sg.log_softmax, sg.logsumexp) for axis in (0, 1, None)]
    calls += [f(x, x) for f in (sg.softmax_vjp, sg.softmax_jvp, sg.log_softmax_vjp, sg.log_softmax_jvp)]
    results = silently(calls)
    np.testing.assert_allclose(results[1].astype("float64"), sg.softmax(rows, axis=1).astype("float64"), rtol=1e-3)


@every_edge[0]
@every_edge[1]
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses_at_the_edge_bring_no_warning(family, dtype, reduction, da):
    rows, big = edge_rows(family, dtype), float(np.finfo(dtype).max)
    host = (rows, np.array([0, 1, 2, 0] * 2))
    x, labels = da.from_array(rows, chunks=(3, 2)), da.from_array(host[1], chunks=3)
    W, bias = rows[:3], rows[0]
    weight = np.array([1, big, 0, big] * 2, dtype=dtype)
    plain = {"reduction": reduction}
    heavy = {"label_smoothing": 0.1, "z_loss": big / 10, "class_weight": (big, 1, big), **plain}
    calls = []
    for options in (plain, heavy):
        heavy_rows = {**options, "sample_weight": da.from_array(weight, chunks=4)}
        loss = sg.CrossEntropy(**options)
        calls += [sg.cross_entropy(x, labels, **heavy_rows), *sg.cross_entropy_value_and_grad(x, labels, **heavy_rows)]
        calls += [sg.cross_entropy_hvp(x, labels, x, **options), loss.hessian_diag(x, labels)]
        linear = sg.LinearCrossEntropy(x, labels, l2=min(big, 1e308), **heavy_rows)
        value, grads = linear.value_and_grad(W, bias, wrt=NAMES)
        calls += [linear.value(W), value, *grads, *linear.hvp(W, (W, bias), bias), linear.hessian(W)]
        calls += sg.statistics.hessian_diag(linear, W, bias)
    results = silently([sg.cross_entropy(x, labels, **plain), *calls])
    # the sums of huge losses, taken in the dtype of the logits, are infinite before they are divided
    if family != "huge":
        rtol = 2e-3 if dtype == "float16" else 1e-5
        np.testing.assert_allclose(float(results[0]), float(sg.cross_entropy(*host, **plain)), rtol=rtol)


@every_edge[0]
@every_edge[1]
def test_partial_results_at_the_edge_bring_no_warning(family, dtype, da):
    rows = edge_rows(family, dtype)
    W, bias = da.from_array(rows[:3]), da.from_array(rows[0])
    shares = [
        sg.partial.linear_partial(da.from_array(rows, chunks=(3, 2)), da.from_array(labels, chunks=3), W, bias)
        for labels in (np.array([0, 1, 2, 0] * 2), np.array([2, 2, 1, 0] * 2))
    ]
    value, grads = sg.partial.finish(sg.partial.merge(*shares), W=W, l2=3.0)
    assert len(silently([value, *grads])) == 3


# --- more than one process

#: A worker is forked from a process that has imported what it needs, whose memory then counts as its own.
QUICK_START = {"distributed.worker.multiprocessing-method": "forkserver"}


@pytest.fixture(scope="module")
def cluster(da, dask):
    """Two workers in processes of their own, over TCP."""
    distributed = pytest.importorskip("distributed")
    with (
        dask.config.set(QUICK_START),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, protocol="tcp", dashboard_address=":0"
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


OPTIONS = {"C": 0.5, "tol": 1e-10, "max_iter": 200}


@pytest.fixture(scope="module")
def fitted():
    return sg.SoftmaxRegression(**OPTIONS).fit(X, LABELS)


def lazily(da):
    return da.from_array(X, chunks=(15, M)), da.from_array(LABELS, chunks=15)


def test_a_fit_on_a_cluster_equals_numpys(cluster, da, fitted):
    model = sg.SoftmaxRegression(**OPTIONS).fit(*lazily(da))
    np.testing.assert_allclose(model.coef_.compute(), fitted.coef_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.predict_proba(lazily(da)[0]).compute(), fitted.predict_proba(X), atol=1e-8)


def test_tasks_of_one_name_are_the_same_in_every_step_of_a_fit(cluster, da):
    """A cluster remembers names, and warns that another task of a name that it knows "can cause deadlocks"."""
    told = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger("distributed.scheduler")
    logger.addHandler(handler)
    try:
        rng = np.random.default_rng(0)
        samples, classes = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
        for cut, solver in ((80, "lbfgs"), (50, "newton-cg"), (80, "trust-ncg")):
            x, labels = da.from_array(samples, chunks=(50, 3)), da.from_array(classes, chunks=cut)
            model = sg.SoftmaxRegression(solver=solver, C=1.0, max_iter=2, tol=1e-12)
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
                model.fit(x, labels)
    finally:
        logger.removeHandler(handler)
    assert [line for line in told if "run_spec" in line] == []


def test_a_chunk_that_fails_for_a_moment_is_read_again(cluster, da, fitted, tmp_path):
    """``dask.annotate(retries=...)`` around a fit reaches its tasks."""
    from dask import annotate

    fault = tmp_path / "fault"

    def hiccup(block):
        try:
            fault.touch(exist_ok=False)
        except FileExistsError:
            return block
        raise OSError("the storage is away")

    def data(name):
        samples, labels = lazily(da)
        return samples.map_blocks(hiccup, meta=np.zeros((0, 0)), name=name), labels

    with pytest.raises(OSError, match="storage"):
        sg.SoftmaxRegression(**OPTIONS).fit(*data("once"))
    fault.unlink()
    # under another name: Dask remembers what failed as long as somebody holds it
    again = data("again")
    with annotate(retries=3):
        model = sg.SoftmaxRegression(**OPTIONS).fit(*again)
    np.testing.assert_allclose(model.coef_.compute(), fitted.coef_, rtol=0, atol=1e-8)


def test_a_killed_worker_loses_nothing(cluster, da, fitted, monkeypatch):
    whole = sg.LinearCrossEntropy.value_and_grad
    calls = []

    def value_and_grad(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == 3:
            os.kill(next(iter(cluster.run(os.getpid).values())), signal.SIGKILL)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(sg.LinearCrossEntropy, "value_and_grad", value_and_grad)
    model = sg.SoftmaxRegression(**OPTIONS).fit(*lazily(da))
    assert len(calls) > 3, "the worker has to be killed within the fit"
    np.testing.assert_allclose(model.coef_.compute(), fitted.coef_, rtol=0, atol=1e-8)


def on_disk(dask_worker):
    """What a worker spilled."""
    return len(getattr(dask_worker.data, "disk", ()))


def test_data_beyond_a_workers_memory_are_not_spilled(da):
    import dask
    from distributed import Client, LocalCluster

    rows, columns, size = 400_000, 100, 8
    limit = 280 * 2**20
    assert rows * columns * size > limit
    # bytes that the allocator keeps would be taken for ours, and pause the worker
    settings = {"distributed.worker.memory.pause": False, "distributed.worker.memory.spill": 0.9}
    settings["distributed.worker.multiprocessing-method"] = "spawn"
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=limit, dashboard_address=":0") as local,
        Client(local) as client,
    ):
        made = da.random.default_rng(0).standard_normal((rows, columns), chunks=(20_000, columns))
        labels = (made[:, 0] > 0).astype("int64")
        value, grad = dask.compute(
            *sg.linear_cross_entropy_value_and_grad(made, labels, np.zeros((2, columns)), block_size=5000)
        )
        spilled = client.run(on_disk)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-12)
    # at W = 0 it is -E[x_0 1{x_0 <= 0}], of a standard normal x_0 the density at 0
    np.testing.assert_allclose(grad[0, 0], 1 / np.sqrt(2 * np.pi), rtol=1e-2)
    assert set(spilled.values()) == {0}
