"""What PyTorch's calls launch and move on CUDA tensors without values, and what a compiler's graph holds."""

from __future__ import annotations

import contextlib

import counting
import pytest
import torch
import triton
from torch._functorch.aot_autograd import aot_module_simplified
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

import softgrad as sg
from softgrad.backends.triton import loss, rows

ROWS, CLASSES = 8192, 128256
OPTIONS = {"label_smoothing": 0.1, "z_loss": 0.01, "ignore_index": -100}
#: By function: launches at most, and bytes moved in multiples of the logits'.
CEILINGS = {
    "softmax": (1, 3.0),
    "log_softmax": (1, 3.0),
    "logsumexp": (1, 1.0),
    "loss": (2, 1.0),
    "loss and gradient": (2, 3.0),
    "with options": (4, 3.0),
}
CALLS = {
    "softmax": lambda x, y: sg.softmax(x),
    "log_softmax": lambda x, y: sg.log_softmax(x),
    "logsumexp": lambda x, y: sg.logsumexp(x, axis=-1),
    "loss": sg.cross_entropy,
    "loss and gradient": sg.cross_entropy_value_and_grad,
    "with options": lambda x, y: sg.cross_entropy_value_and_grad(x, y, **OPTIONS),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CEILINGS)
def test_launches_and_bytes(name, dtype, monkeypatch):
    most_launches, most_passes = CEILINGS[name]
    with counting.counted(monkeypatch) as count:
        x = torch.empty((ROWS, CLASSES), dtype=dtype, device="cuda")
        y = torch.empty(ROWS, dtype=torch.int64, device="cuda")
        CALLS[name](x, y)
    # a reduced loss is rounded to half precision
    rounds = "loss" in name or "options" in name
    assert count.launches.total() <= most_launches + (rounds and dtype.itemsize < 4), count.launches
    # beside the logits only labels and losses
    assert count.bytes <= (most_passes + 1e-3) * x.numel() * x.element_size()


#: The linear model of (4096, 4096, 128256), gradients by X and W; by dtype and the device's GB: blocks, launches, GB.
LINEAR = {
    ("bfloat16", 141): (2, 15, 13.9),
    ("bfloat16", 80): (4, 25, 22.3),
    ("bfloat16", 42): (7, 40, 34.9),
    ("float16", 141): (2, 25, 28.9),
    ("float32", 141): (4, 24, 44.4),
}


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize(("dtype", "memory"), LINEAR)
def test_blocks_launches_and_bytes_of_the_linear_model(dtype, memory, ignores, monkeypatch):
    blocks, most_launches, most_bytes = LINEAR[dtype, memory]
    n, m = 4096, 4096
    monkeypatch.setattr("softgrad._array.memory._cuda_memory", lambda index: memory * 10**9)
    with counting.counted(monkeypatch) as count:
        X, W = (torch.empty((rows, m), dtype=getattr(torch, dtype), device="cuda") for rows in (n, CLASSES))
        y = torch.empty(n, dtype=torch.int64, device="cuda")
        options = {"ignore_index": -100} if ignores else {}
        sg.linear_cross_entropy_value_and_grad(X, y, W, wrt=("W", "X"), **options)
    assert count.launches["loss_loop"] == blocks
    assert count.launches.total() <= most_launches + 14 * ignores, count.launches
    # samples that do not count are masked in X and its gradient, a mean of nothing in both gradients
    masks = ignores * (2 * W.numel() + 6 * X.numel()) * max(W.element_size(), 4 if dtype == "float16" else 0)
    assert count.bytes <= 1e9 * most_bytes + masks


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


@pytest.mark.parametrize("name", CEILINGS)
@pytest.mark.parametrize("classes", [64, CLASSES])
def test_a_compiled_graph_holds_the_kernel(name, classes, monkeypatch):
    monkeypatch.setattr(triton.runtime.driver, "_active", _Driver())
    for module in (rows, loss):
        monkeypatch.setattr(module, "on_device_of", lambda x: contextlib.nullcontext())
    with FakeTensorMode():
        x = torch.empty((16, classes), dtype=torch.bfloat16, device="cuda")
        y = torch.empty(16, dtype=torch.int64, device="cuda")
        operations = graph(CALLS[name], x, y)
    kernels = [each for each in operations if each.startswith("triton_kernel_wrapper")]
    assert len(kernels) == (2 if name == "with options" else 1), operations
    # what a row's classes are computed by is the kernel alone
    assert not any(word in each for each in operations for word in ("exp", "log", "amax", "where"))
