"""The linear model as it runs on a GPU, in blocks by the device's memory, by Triton's interpreter on CPU tensors."""

from __future__ import annotations

import pytest
import torch

import softgrad as sg
from softgrad import backends
from softgrad._kernels import dense as dense_kernels
from softgrad._kernels import linear as linear_kernels
from softgrad.backends.torch.blocks import XP
from softgrad.backends.triton import loss
from triton_cases import wide

pytestmark = pytest.mark.libraries("torch")

N, M, K = 21, 6, 40
LABELS = torch.randint(K, (N,), generator=torch.Generator().manual_seed(3))
OPTIONS = {
    "plain": {},
    "sum": {"reduction": "sum"},
    "ignoring": {"ignore_index": 5},
    "weighted": {"sample_weight": torch.linspace(0, 2, N), "class_weight": torch.linspace(0.5, 2, K)},
    "smoothed": {"label_smoothing": 0.1, "z_loss": 0.01},
    "masked": {"where": (torch.arange(K) != 7) | (LABELS == 7)[:, None]},
    "scaled": {"softcap": 3.0, "temperature": 0.5, "logit_shift": torch.linspace(-1, 1, K), "focal": 1.0},
    # no kernel has it: PyTorch's operations, in the same blocks
    "smoothed focal": {"label_smoothing": 0.1, "focal": 1.0},
}
#: Of a gradient, in units of its largest: logits are rounded to half precision, and so are slopes.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch):
    """CPU tensors taken for those of a small GPU: blocks of 8 rows."""
    monkeypatch.setitem(dense_kernels.MEMORY, XP.__name__, lambda x: 1)
    monkeypatch.setattr(linear_kernels, "BLOCK_BYTES", 1)
    monkeypatch.setattr(linear_kernels, "DEVICE_ROWS", (8, 16))


def data(dtype, bias=True):
    generator = torch.Generator().manual_seed(0)
    X, W, b = (torch.randn(shape, generator=generator) for shape in ((N, M), (K, M), (K,)))
    return X.to(dtype), W.to(dtype), b.to(dtype) if bias else None


def exact(function, X, W, b, *more, **options):
    with backends.use("generic"):
        options = {name: wide(a) for name, a in options.items()}
        return getattr(sg, function)(wide(X), LABELS, wide(W), *map(wide, more), wide(b), **options)


def assert_near(got, want, dtype):
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert (a.double() - b).abs().max() <= TOLERANCE[dtype] * b.abs().max().clamp_min(1e-3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_value_and_gradients(dtype, name, bias, monkeypatch):
    launches = []
    monkeypatch.setattr(loss, "launched", lambda *a, run=loss.launched: launches.append(a[0].shape[0]) or run(*a))
    X, W, b = data(dtype, bias)
    before = [each.clone() for each in (X, W)]
    wrt = ("X", "W", "bias") if bias else ("X", "W")
    value, got = sg.linear_cross_entropy_value_and_grad(X, LABELS, W, b, wrt=wrt, **OPTIONS[name])
    assert launches == ([] if name == "smoothed focal" else [7, 7, 7])
    want_value, want = exact("linear_cross_entropy_value_and_grad", X, W, b, wrt=wrt, **OPTIONS[name])
    assert {each.dtype for each in (value, *got)} == {dtype}
    assert_near([value, *got], [want_value, *want], dtype)
    assert all(torch.equal(a, b) for a, b in zip((X, W), before, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_autograd_records_has_every_derivative(dtype):
    leaves = [each.requires_grad_() for each in data(dtype)]

    def derivatives(X, W, b):
        first = torch.autograd.grad(2 * sg.linear_cross_entropy(X, LABELS, W, b), (X, W, b), create_graph=True)
        return first, torch.autograd.grad(sum(g.float().square().sum() for g in first), (X, W, b))

    first, second = derivatives(*leaves)
    with backends.use("generic"):
        want, want_second = derivatives(*(each.detach().double().requires_grad_() for each in leaves))
    assert [g.dtype for g in first] == [dtype] * 3
    assert_near(first, want, dtype)
    for a, b in zip(second, want_second, strict=True):
        assert (a.double() - b).norm() <= 4 * TOLERANCE[dtype] * b.norm()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_second_derivative(dtype):
    X, W, b = data(dtype)
    vectors = tuple(torch.ones_like(each) / 8 + each / 4 for each in (X, W, b))
    wrt = ("X", "W", "bias")
    got = sg.linear_cross_entropy_hvp(X, LABELS, W, vectors, b, wrt=wrt)
    want = exact("linear_cross_entropy_hvp", X, W, b, tuple(map(wide, vectors)), wrt=wrt)
    assert [each.dtype for each in got] == [dtype] * 3
    assert_near(got, want, dtype)


def test_autocast_takes_operands_in_half_precision_and_gives_gradients_as_the_parameters():
    leaves = [each.requires_grad_() for each in data(torch.float32)]
    with torch.autocast("cpu", torch.bfloat16):
        value = sg.linear_cross_entropy(leaves[0], LABELS, leaves[1], leaves[2])
    value.backward()
    assert value.dtype is torch.float32
    want = exact("linear_cross_entropy_value_and_grad", *leaves, wrt=("X", "W", "bias"))
    assert {each.grad.dtype for each in leaves} == {torch.float32}
    assert_near([value, *(each.grad for each in leaves)], [want[0], *want[1]], torch.bfloat16)


def test_a_sample_that_does_not_count_may_hold_anything():
    X, W, b = data(torch.bfloat16)
    X[LABELS[4] == LABELS] = float("nan")
    _, grads = sg.linear_cross_entropy_value_and_grad(
        X, LABELS, W, b, wrt=("X", "W", "bias"), ignore_index=int(LABELS[4])
    )
    assert all(each.isfinite().all() for each in grads)
    W[3, 3] = float("nan")
    nothing = sg.linear_cross_entropy_value_and_grad(X, LABELS, W, b, wrt="X", sample_weight=torch.zeros(N))
    assert not any(each.any() for each in nothing)


def test_gradients_of_float16_keep_what_a_mean_over_many_samples_makes_small():
    X, W, _ = data(torch.float16, False)
    rows = 1 << 12
    X, labels = X[:1].expand(rows, M).contiguous(), LABELS[:1].expand(rows).contiguous()
    with torch.no_grad():
        _, got = sg.linear_cross_entropy_value_and_grad(X, labels, W, block_size=rows)
        with backends.use("generic"):
            _, want = sg.linear_cross_entropy_value_and_grad(X[:1].double(), labels[:1], W.double())
    assert_near([got], [want], torch.float16)


@pytest.mark.parametrize(
    ("memory", "k", "itemsize", "rows"),
    [(141 << 30, 128256, 2, 2048), (40 << 30, 128256, 2, 512), (24 << 30, 128256, 4, 512), (80 << 30, 1000, 2, 4096)],
)
def test_rows_of_a_block_follow_the_memory_of_the_device(memory, k, itemsize, rows, monkeypatch):
    monkeypatch.undo()
    assert linear_kernels.block_rows(4096, k, itemsize, None, memory) == pytest.approx(rows, rel=0.25)
    assert linear_kernels.block_rows(4096, k, itemsize, 7, memory) == 7
