"""What public calls ask of a GPU: no copy to the host, no wait for the device, and a known number of kernels."""

from __future__ import annotations

import numpy as np
import pytest

import cupy_on_cpu
import softgrad as sg

pytestmark = [
    pytest.mark.libraries("cupy"),
    pytest.mark.skipif(not cupy_on_cpu.installed(), reason="only the CPU emulation records what is asked of a device"),
]

N, K, M = 6, 5, 3
RNG = np.random.default_rng(4)
DATA = {
    "x": RNG.standard_normal((N, K)),
    "other": RNG.standard_normal((N, K)),
    "labels": RNG.integers(0, K, N),
    "soft": RNG.dirichlet(np.ones(K), N),
    "where": np.arange(N * K).reshape(N, K) % 4 > 0,
    "class_weight": RNG.uniform(0.5, 2, K),
    "sample_weight": RNG.uniform(0.5, 2, N),
    "X": RNG.standard_normal((N, M)),
    "W": RNG.standard_normal((K, M)),
    "V": RNG.standard_normal((K, M)),
    "bias": RNG.standard_normal(K),
}


@pytest.fixture(scope="module")
def on_device():
    """Every array of the data by name, on the device."""
    cupy = cupy_on_cpu.install()
    return {name: cupy.asarray(array) for name, array in DATA.items()}


def loss_options(d):
    return {
        "plain": {},
        "smoothed": {"label_smoothing": 0.1},
        "weighted": {"class_weight": d["class_weight"], "sample_weight": d["sample_weight"]},
        "ignoring": {"ignore_index": 2, "z_loss": 0.01},
        "one loss a sample": {"reduction": "none"},
        "high": {"precision": "high"},
    }


def calls(d):
    """Yield a name and a public call on device arrays, over all functions and the options that change their code."""
    x, other, y, X, W = (d[name] for name in ("x", "other", "labels", "X", "W"))
    for name in ("softmax", "log_softmax", "logsumexp"):
        function = getattr(sg, name)
        for precision in (None, "high"):
            yield f"{name} {precision}", lambda f=function, p=precision: f(x, axis=-1, precision=p)
        yield f"{name} of halves", lambda f=function: f(x.astype("float16"), axis=0)
        yield f"{name} of integers", lambda f=function: f(y, axis=0)
        yield f"{name} of all", lambda f=function: f(x, axis=(0, 1))
        yield f"{name} where", lambda f=function: f(x, axis=-1, where=d["where"])
    yield "logsumexp with factors", lambda: sg.logsumexp(x, axis=1, b=other, return_sign=True)
    for name in ("softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"):
        yield name, lambda n=name: getattr(sg, n)(x, other)
    for label, options in loss_options(d).items():
        at_call = {key: options[key] for key in options if key == "sample_weight"}
        loss = sg.CrossEntropy(**{key: options[key] for key in options if key not in at_call})
        for labels in ("labels", "soft"):
            if labels == "soft" and "ignore_index" in options:
                continue
            t = d[labels]
            for method, more in [(loss, ()), (loss.grad, ()), (loss.value_and_grad, ()), (loss.hvp, (other,))]:
                name = getattr(method, "__name__", "value")
                yield f"loss {name} {label} {labels}", lambda f=method, t=t, m=more, a=at_call: f(x, t, *m, **a)
            yield f"loss diagonal {label} {labels}", lambda f=loss.hessian_diag, t=t, a=at_call: f(x, t, **a)
        if options.get("reduction") == "none":
            continue
        linear = sg.LinearCrossEntropy(X, y, **options, block_size=4)
        yield f"linear value {label}", lambda f=linear.value: f(W, d["bias"])
        yield f"linear gradient {label}", lambda f=linear.value_and_grad: f(W, d["bias"], wrt=("W", "bias", "X"))
        yield f"linear product {label}", lambda f=linear.hvp: f(W, (d["V"], d["bias"]), d["bias"])
        yield f"linear classes {label}", lambda f=linear.grad: f(W, classes=[1, 3])
        yield f"linear hessian {label}", lambda f=linear.hessian: f(W)
    yield "seed's layout", lambda: sg.linear_cross_entropy_value_and_grad(X.T, y, W.T, sample_axis=1, l2=0.1)


NAMES = [name for name, _ in calls(DATA)]


@pytest.mark.parametrize("name", NAMES)
def test_no_call_copies_to_the_host_or_waits(name, on_device):
    call = dict(calls(on_device))[name]
    # The first call may compile kernels and set up cuBLAS
    call()
    with cupy_on_cpu.count() as record, cupy_on_cpu.forbid_host_copies():
        call()
    assert (record.d2h, record.syncs) == (0, 0)
    assert record.h2d == 0, "the call carries an array from the host to the device"


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_value_and_grad"])
def test_validation_alone_looks_at_the_labels(name, on_device):
    function = getattr(sg, name)
    with cupy_on_cpu.count() as record:
        function(on_device["x"], on_device["labels"], validate=True)
    assert record.d2h > 0
    with cupy_on_cpu.forbid_host_copies(), pytest.raises(cupy_on_cpu.HostTransferError):
        function(on_device["x"], on_device["labels"], validate=True)


GENERIC = {
    "softmax": (12, lambda d: sg.softmax(d["x"])),
    "cross_entropy_value_and_grad": (48, lambda d: sg.cross_entropy_value_and_grad(d["x"], d["labels"])),
    "linear_cross_entropy_value_and_grad": (
        57,
        lambda d: sg.linear_cross_entropy_value_and_grad(d["X"], d["labels"], d["W"], d["bias"]),
    ),
}


@pytest.mark.parametrize("name", GENERIC)
def test_number_of_kernels_of_the_generic_code(name, on_device):
    expected, call = GENERIC[name]
    with sg.backends.use("generic"):
        call(on_device)
        with cupy_on_cpu.count() as record:
            call(on_device)
    assert len(record.launches) == expected, f"{record.launches}: lower the number if it fell, defend it if it rose"


REPLACED = {
    "softmax": (1, lambda d: sg.softmax(d["x"])),
    "log_softmax": (1, lambda d: sg.log_softmax(d["x"], axis=0)),
    "logsumexp": (1, lambda d: sg.logsumexp(d["x"], axis=-1)),
    "cross_entropy": (2, lambda d: sg.cross_entropy(d["x"], d["labels"])),
    "cross_entropy_grad": (1, lambda d: sg.cross_entropy_grad(d["x"], d["labels"])),
    "cross_entropy_value_and_grad": (2, lambda d: sg.cross_entropy_value_and_grad(d["x"], d["labels"])),
    "weighted": (
        4,
        lambda d: sg.cross_entropy_value_and_grad(
            d["x"], d["labels"], sample_weight=d["sample_weight"], class_weight=d["class_weight"]
        ),
    ),
    "cupyx softmax, for comparison": (5, lambda d: _cupyx().softmax(d["x"], axis=-1)),
}


def _cupyx():
    return pytest.importorskip("cupyx.scipy.special")


@pytest.mark.parametrize("name", REPLACED)
def test_number_of_kernels(name, on_device):
    expected, call = REPLACED[name]
    call(on_device)
    with cupy_on_cpu.count() as record:
        call(on_device)
    assert len(record.launches) == expected, record.launches


def row_calls(x, labels, weight, axis):
    """Calls of all kernels that take whole rows."""
    options = {"axis": axis, "ignore_index": -1, "sample_weight": weight}
    yield lambda: sg.softmax(x, axis=axis)
    yield lambda: sg.log_softmax(x, axis=axis)
    yield lambda: sg.logsumexp(x, axis=axis)
    for function in (sg.cross_entropy, sg.cross_entropy_grad):
        for reduction in ("none", "mean", "sum"):
            yield lambda f=function, r=reduction: f(x, labels, reduction=r, **options)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 3), (5, 64), (3, 65), (2, 700), (1, 1), (4, 6, 5), (2, 300, 3)])
def test_kernels_of_whole_rows_agree_with_the_generic_code(shape, dtype):
    cupy = cupy_on_cpu.install()
    rng = np.random.default_rng(7)
    tolerance = {"float16": 2e-3, "float32": 3e-6, "float64": 1e-14}[dtype]
    for axis in range(len(shape)):
        x = cupy.asarray((3 * rng.standard_normal(shape)).astype(dtype))
        samples = shape[:axis] + shape[axis + 1 :]
        labels = cupy.asarray(rng.integers(-1, shape[axis] + 1, samples))
        weight = cupy.asarray(rng.uniform(0, 2, samples).astype(dtype))
        for call in row_calls(x, labels, weight, axis):
            with sg.backends.use("generic"):
                expected = cupy.asnumpy(call()).astype("float64")
            got = call()
            assert got.dtype == dtype
            np.testing.assert_allclose(
                cupy.asnumpy(got).astype("float64"), expected, rtol=tolerance, atol=tolerance, equal_nan=True
            )


def test_blocks_bound_the_memory_of_the_linear_model(on_device):
    cupy = cupy_on_cpu.install()
    n, k = 1024, 64
    X, W = cupy.ones((n, M)), cupy.ones((k, M))
    labels = cupy.zeros(n, "int64")
    peaks = {}
    for rows in (n, 32):
        sg.linear_cross_entropy_value_and_grad(X, labels, W, block_size=rows)
        with cupy_on_cpu.count() as record:
            sg.linear_cross_entropy_value_and_grad(X, labels, W, block_size=rows)
        peaks[rows] = record.peak_bytes
    logits = n * k * 8
    assert peaks[n] > logits, "the measure has to see the whole logits where they are stored"
    assert peaks[32] < logits / 2
