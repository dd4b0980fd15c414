"""A row's bits depend on the row alone: a selection of what ``nox -s same_bits`` compares."""

import numpy as np
import pytest

import same_bits
import softgrad as sg
from marks import late
from same_bits import GROUPS

#: What "loss, all" and "dense, high" show too.
FURTHER = [f"loss, {name}" for name in ("sample_weight", "class_weight", "label_smoothing", "z_loss", "high")]


@pytest.mark.libraries("numpy", "torch", "dask", "array_api_strict")
@pytest.mark.usefixtures("usual_kernels")
@pytest.mark.parametrize(
    "group", [late(name, "dask", "array_api_strict") if name in FURTHER else name for name in GROUPS]
)
# NumPy's sums, which array-api-strict takes as they are, go by eights and by 128
@pytest.mark.parametrize("k", [late(3, "array_api_strict"), late(17, "array_api_strict"), 300])
def test_a_row_has_the_same_bits_in_any_company(k, group, backend):
    case = same_bits.Case(backend, k, "float32", calm=False, largest=9000)
    with np.errstate(all="ignore"):
        found = [each for each in case.differences(group, threads=(1,)) if each[2]]
    assert not found


@pytest.mark.libraries("numpy")
def test_the_comparison_sees_a_bit():
    case = same_bits.Case("numpy", 3, "float32", calm=True, largest=100)
    call = case.call

    def with_a_bit_less(group, layout, rows):
        out = call(group, layout, rows)
        if isinstance(rows, slice) and rows.stop is not None:
            out["softmax"] = np.nextafter(out["softmax"], np.float32(0))
        return out

    case.call = with_a_bit_less
    found = {function for function, _, rows in case.differences("dense", threads=(1,)) if rows}
    assert found == {"softmax"}


@pytest.mark.usefixtures("usual_kernels")
def test_a_value_has_the_same_bits_where_autograd_records_it(torch):
    x, labels = torch.randn(50, 30), torch.arange(50) % 30
    recorded = x.clone().requires_grad_()
    for function in (sg.softmax, sg.log_softmax, sg.logsumexp):
        assert torch.equal(function(recorded, axis=-1), function(x, axis=-1))
    loss = sg.cross_entropy(recorded, labels, reduction="none")
    assert torch.equal(loss, sg.cross_entropy(x, labels, reduction="none"))
    loss.sum().backward()
    assert torch.equal(recorded.grad, sg.cross_entropy_grad(x, labels, reduction="none"))


@pytest.mark.libraries("numpy", "torch")
@pytest.mark.usefixtures("usual_kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"precision": "high"}], ids=str)
@pytest.mark.parametrize("k", [3, 40, 5000])
def test_a_mean_does_not_depend_on_the_number_of_threads(k, options, dtype, library, to_numpy):
    rng = np.random.default_rng(k)
    n = 300_000 // k
    x = library.asarray(rng.normal(size=(n, k)) * 3, dtype)
    labels = library.asarray(rng.integers(0, k, n), None)
    found = set()
    for threads in (1, 2, 3, 5):
        with sg.backends.workers(threads):
            found.add(tuple(to_numpy(a).tobytes() for a in sg.cross_entropy_value_and_grad(x, labels, **options)))
    assert len(found) == 1


@pytest.mark.libraries("numpy", "torch")
@pytest.mark.usefixtures("usual_kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("shape", [(60_000, 20, 3), (3000, 200, 10), (3000, 50, 500)], ids=str)
def test_sums_of_the_linear_model_do_not_depend_on_the_number_of_threads(shape, options, dtype, library, to_numpy):
    n, m, k = shape
    rng = np.random.default_rng(k)
    X, W, bias = (library.asarray(rng.normal(size=size), dtype) for size in ((n, m), (k, m), (k,)))
    labels = library.asarray(rng.integers(0, k, n), None)
    found = set()
    for threads in (1, 2, 5):
        with sg.backends.workers(threads):
            value, grads = sg.linear_cross_entropy_value_and_grad(X, labels, W, bias, wrt=("W", "bias"), **options)
            hvp = sg.linear_cross_entropy_hvp(X, labels, W, W, **options)
        found.add(tuple(to_numpy(a).tobytes() for a in (value, *grads, hvp)))
    assert len(found) == 1


def _on_dask(da, chunks):
    rng = np.random.default_rng(0)
    X = da.from_array(rng.normal(size=(3000, 8)), chunks=(chunks, -1))
    labels = da.from_array(rng.integers(0, 5, 3000), chunks=chunks)
    W = rng.normal(size=(5, 8))
    logits = X @ W.T
    value, (grad,) = sg.linear_cross_entropy_value_and_grad(X, labels, W, wrt=("W",))
    return [sg.cross_entropy(logits, labels), value, grad]


@pytest.mark.libraries("dask")
def test_on_dask_the_order_of_the_workers_does_not_show(library):
    dask = pytest.importorskip("dask")
    found = set()
    for workers in (1, 2, 4, 4):
        with dask.config.set(scheduler="threads", num_workers=workers):
            found.add(tuple(np.asarray(a).tobytes() for a in dask.compute(*_on_dask(dask.array, 100))))
    assert len(found) == 1


@pytest.mark.libraries("dask")
def test_on_dask_a_worker_that_is_killed_does_not_show(library):
    distributed = pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    with dask.config.set(scheduler="synchronous"):
        expected = [np.asarray(a).tobytes() for a in dask.compute(*_on_dask(dask.array, 100))]
    settings = {"dashboard_address": None, "threads_per_worker": 1, "processes": False}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 9}),
        distributed.LocalCluster(n_workers=2, **settings) as cluster,
        distributed.Client(cluster) as client,
    ):
        futures = client.compute(_on_dask(dask.array, 100))
        # with it go the results that it holds
        cluster.sync(next(iter(cluster.workers.values())).close, nanny=False)
        assert [np.asarray(a).tobytes() for a in client.gather(futures)] == expected
