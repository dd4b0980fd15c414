"""What PyTorch's calls launch and move on CUDA tensors without values, and what a compiler's graph holds."""

from __future__ import annotations

import contextlib

import counting
import pytest
import torch
import triton
from ceilings import within
from torch._functorch.aot_autograd import aot_module_simplified
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

import softgrad as sg
from softgrad.backends.triton import loss, rows

ROWS, CLASSES = 8192, 128256
OPTIONS = {"label_smoothing": 0.1, "z_loss": 0.01, "ignore_index": -100}
#: By function: launches, and bytes moved in multiples of the logits', of many long rows and of few.
CEILINGS = {
    "softmax": ((1, 3.0), (2, 3.0)),
    "log_softmax": ((1, 3.0), (2, 3.0)),
    "logsumexp": ((1, 1.0), (2, 1.0)),
    "softmax_vjp": ((1, 5.0), (2, 5.0)),
    "log_softmax_vjp": ((1, 5.0), (2, 5.0)),
    "loss": ((2, 1.0), (3, 1.0)),
    "loss and gradient": ((2, 3.0), (3, 3.0)),
    "weighted": ((4, 3.0), (5, 3.0)),
    "with options": ((4, 3.0), (5, 3.01)),
    "smoothed loss": ((2, 1.0), (3, 1.01)),
    "scaled": ((2, 3.0), (3, 3.0)),
    "masked by class": ((8, 3.0), (9, 3.2)),
    "masked": ((8, 3.0), (9, 3.0)),
    "masked softmax": ((1, 3.0), (2, 3.0)),
    "shifted": ((2, 3.0), (3, 3.0)),
    "balanced": ((4, 3.0), (5, 3.01)),
    "targets": ((4, 6.0), (5, 6.01)),
}
#: How often a mask with a byte for each logit is read.
MASKS = {"masked": 3, "masked softmax": 2}
#: How often a number of each class is read.
VECTORS = {"shifted": 2, "balanced": 3}
SCALED = {"softcap": 30.0, "temperature": 0.7, "focal": 1.5}
CALLS = {
    "softmax": lambda x, y: sg.softmax(x),
    "log_softmax": lambda x, y: sg.log_softmax(x),
    "logsumexp": lambda x, y: sg.logsumexp(x, axis=-1),
    "softmax_vjp": lambda x, y: sg.softmax_vjp(x, torch.empty_like(x)),
    "log_softmax_vjp": lambda x, y: sg.log_softmax_vjp(x, torch.empty_like(x)),
    "loss": sg.cross_entropy,
    "loss and gradient": sg.cross_entropy_value_and_grad,
    "weighted": lambda x, y: sg.cross_entropy_value_and_grad(x, y, ignore_index=-100, z_loss=0.01),
    "with options": lambda x, y: sg.cross_entropy_value_and_grad(x, y, **OPTIONS),
    "smoothed loss": lambda x, y: sg.cross_entropy(x, y, label_smoothing=0.1),
    "scaled": lambda x, y: sg.cross_entropy_value_and_grad(x, y, **SCALED),
    "masked by class": lambda x, y: sg.cross_entropy_value_and_grad(x, y, where=mask(*x.shape[1:])),
    "masked": lambda x, y: sg.cross_entropy_value_and_grad(x, y, where=mask(*x.shape)),
    "masked softmax": lambda x, y: sg.softmax(x, where=mask(*x.shape)),
    "shifted": lambda x, y: sg.cross_entropy_value_and_grad(x, y, logit_shift=numbers(x.shape[1])),
    "balanced": lambda x, y: sg.cross_entropy_value_and_grad(
        x, y, class_weight=numbers(x.shape[1]), sample_weight=numbers(x.shape[0])
    ),
    "targets": lambda x, y: sg.cross_entropy_value_and_grad(x, torch.empty_like(x)),
}


def numbers(n):
    """One of each class, or sample."""
    return torch.empty(n, device="cuda")


def mask(*shape):
    """Classes that are kept."""
    return torch.empty(shape, dtype=torch.bool, device="cuda")


@pytest.mark.parametrize("rows", [ROWS, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CEILINGS)
def test_launches_and_bytes(name, dtype, rows, monkeypatch):
    most_launches, most_passes = CEILINGS[name][rows < ROWS]
    with counting.counted(monkeypatch) as count:
        x = torch.empty((rows, CLASSES), dtype=dtype, device="cuda")
        y = torch.empty(rows, dtype=torch.int64, device="cuda")
        CALLS[name](x, y)
    # a reduced loss is rounded to half precision
    rounds = not name.endswith(("softmax", "logsumexp", "vjp")) and dtype.itemsize < 4
    most_passes += (MASKS.get(name, 0) + 4 * VECTORS.get(name, 0) / rows) / dtype.itemsize
    # beside the logits only labels and losses, and 16 bytes for 4096 classes of a row that is split
    passes = round(count.bytes / (x.numel() * x.element_size()), 2)
    within(
        {"launches": most_launches + rounds, "passes": most_passes},
        {"launches": count.launches.total(), "passes": passes},
    )


#: The linear model of (4096, 4096, 128256), gradients by X and W; by dtype, GB of the device and whether samples may be
#: ignored: blocks, launches, GB.
LINEAR = {
    ("bfloat16", 141, False): (2, 15, 13.9),
    ("bfloat16", 141, True): (2, 29, 16.2),
    ("bfloat16", 80, False): (4, 25, 22.3),
    ("bfloat16", 42, False): (7, 40, 34.9),
    ("float16", 141, False): (2, 25, 28.9),
    ("float16", 141, True): (2, 39, 33.4),
    ("float32", 141, False): (4, 24, 44.4),
}


@pytest.mark.parametrize(("dtype", "memory", "ignores"), LINEAR)
def test_blocks_launches_and_bytes_of_the_linear_model(dtype, memory, ignores, monkeypatch):
    n, m = 4096, 4096
    monkeypatch.setattr("softgrad._array.memory._cuda_memory", lambda index: memory * 10**9)
    with counting.counted(monkeypatch) as count:
        X, W = (torch.empty((rows, m), dtype=getattr(torch, dtype), device="cuda") for rows in (n, CLASSES))
        y = torch.empty(n, dtype=torch.int64, device="cuda")
        options = {"ignore_index": -100} if ignores else {}
        sg.linear_cross_entropy_value_and_grad(X, y, W, wrt=("W", "X"), **options)
    figures = count.launches["loss_loop"], count.launches.total(), count.bytes / 1e9
    names = "blocks", "launches", "GB"
    within(dict(zip(names, LINEAR[dtype, memory, ignores], strict=True)), dict(zip(names, figures, strict=True)))


class _Driver:
    """What a compiler asks of a GPU that is not there."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


class _CapturedError(Exception):
    pass


def graph(function, *args):
    """The operations of a function's one graph, as a compiler is given it."""

    def backend(module, inputs):
        def stop(traced, _):
            raise _CapturedError([str(node.target) for node in traced.graph.nodes if node.op == "call_function"])

        return aot_module_simplified(module, inputs, fw_compiler=stop)

    torch._dynamo.reset()
    try:
        torch.compile(function, fullgraph=True, backend=backend)(*args)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        return error.inner_exception.args[0]
    raise AssertionError("nothing was compiled")


@pytest.mark.parametrize("name", ["softmax", "logsumexp", "loss and gradient", "with options", "scaled"])
@pytest.mark.parametrize("classes", [64, CLASSES])
def test_a_compiled_graph_holds_the_kernels(name, classes, monkeypatch):
    monkeypatch.setattr(triton.runtime.driver, "_active", _Driver())
    for module in (rows, loss):
        monkeypatch.setattr(module, "on_device_of", lambda x: contextlib.nullcontext())
    with FakeTensorMode():
        x = torch.empty((16, classes), dtype=torch.bfloat16, device="cuda")
        y = torch.empty(16, dtype=torch.int64, device="cuda")
        operations = graph(CALLS[name], x, y)
    kernels = [each for each in operations if each.startswith("triton_kernel_wrapper")]
    # few long rows are split, and a mean with ignored samples has a kernel for its divisor
    assert len(kernels) == 1 + (name == "with options") + (classes == CLASSES), operations
    # what a row's classes are computed by is the kernel alone
    assert not any(word in each for each in operations for word in ("exp", "log", "amax", "where"))
