"""What public calls ask of a GPU: no copy to the host, no wait for the device, and a known number of kernels."""

from __future__ import annotations

import numpy as np
import pytest

import cupy_calls
import cupy_on_cpu
import softgrad as sg

pytestmark = [
    pytest.mark.libraries("cupy"),
    pytest.mark.usefixtures("usual_kernels"),
    pytest.mark.skipif(not cupy_on_cpu.installed(), reason="only the CPU emulation records what is asked of a device"),
]

DATA = cupy_calls.data()


@pytest.fixture(scope="module")
def on_device():
    """Every array of the data by name, on the device."""
    cupy = cupy_on_cpu.install()
    return {name: cupy.asarray(array) for name, array in DATA.items()}


#: What looks on the host for rows whose digits do not suffice.
WAITS = {"logsumexp high"}
NAMES = [name for name, _ in cupy_calls.calls(DATA) if name not in WAITS]


@pytest.mark.parametrize("name", NAMES)
def test_no_call_copies_to_the_host_or_waits(name, on_device):
    call = dict(cupy_calls.calls(on_device))[name]
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


ALONE = {"first_class": 0, "reduce": lambda array, op: array}
GENERIC = {
    "a share of the classes": (84, lambda d: sg.parallel.cross_entropy_value_and_grad(d["x"], d["labels"], **ALONE)),
    "softmax": (12, lambda d: sg.softmax(d["x"])),
    "cross_entropy_value_and_grad": (46, lambda d: sg.cross_entropy_value_and_grad(d["x"], d["labels"])),
    "top_k_kl_divergence": (216, lambda d: sg.top_k_kl_divergence(d["x"], d["x"][:, :2] - 9, d["several"])),
    "entropy": (18, lambda d: sg.entropy(d["x"])),
    "entropy_vjp": (21, lambda d: sg.entropy_vjp(d["x"], d["sample_weight"])),
    "linear_cross_entropy_value_and_grad": (
        55,
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


SEVERAL = {
    "log_probs": lambda x, few, labels: sg.log_probs(x, labels),
    "top_k_kl_divergence": sg.top_k_kl_divergence,
    "top_k_kl_divergence_grad": sg.top_k_kl_divergence_grad,
    "renormalized": lambda *arrays: sg.top_k_kl_divergence_value_and_grad(*arrays, rest="renormalize"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_the_number_of_kernels_does_not_grow_with_the_labels_of_a_sample(name, on_device):
    cupy, launches = cupy_on_cpu.install(), []
    x = cupy.asarray(np.random.default_rng(3).normal(size=(4, 30)))
    for k in (2, 9):
        labels = (-x).argsort(axis=1)[:, :k]
        arrays = x, sg.log_probs(x, labels), labels
        SEVERAL[name](*arrays)
        with cupy_on_cpu.count() as record:
            SEVERAL[name](*arrays)
        launches.append(len(record.launches))
    assert launches[0] == launches[1] < 250


REPLACED = {
    "softmax": (1, lambda d: sg.softmax(d["x"])),
    "log_softmax": (1, lambda d: sg.log_softmax(d["x"], axis=0)),
    "logsumexp": (1, lambda d: sg.logsumexp(d["x"], axis=-1)),
    "log_probs": (2, lambda d: sg.log_probs(d["x"], d["labels"])),
    "log_probs of several": (13, lambda d: sg.log_probs(d["x"], d["several"])),
    "log_probs_vjp": (2, lambda d: sg.log_probs_vjp(d["x"], d["labels"], d["sample_weight"])),
    "linear_log_probs": (40, lambda d: sg.linear_log_probs(d["X"], d["labels"], d["W"], entropy=True)),
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
    X, W = cupy.ones((n, 3)), cupy.ones((k, 3))
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


@pytest.mark.parametrize("name", ["softmax", "logsumexp", "cross_entropy"])
def test_kernels_run_on_the_device_that_their_arrays_are_on(name):
    cupy = cupy_on_cpu.install()

    def elsewhere(host):
        here = cupy.asarray(host)
        memory = cupy.cuda.UnownedMemory(here.data.ptr, here.nbytes, here, 1)
        return cupy.ndarray(here.shape, here.dtype, cupy.cuda.MemoryPointer(memory, 0))

    more = (elsewhere(np.asarray([0, 1])),) if name == "cross_entropy" else ()
    with pytest.raises(cupy_on_cpu.DeviceFaultError, match="device 0 alone, not 1"):
        getattr(sg, name)(elsewhere(np.ones((2, 3))), *more)
