"""Masks and scaled logits in Triton's kernels, by its interpreter on CPU tensors."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
import triton
import triton.language as tl

import oracle
import softgrad as sg
from marks import some
from softgrad import backends
from softgrad.backends.triton import layout, mathematics
from triton_cases import DENSE, assert_close, drawn, exact, in_chunks, wide

pytestmark = pytest.mark.libraries("torch")

N, K = 4, 40
VALUE_AND_GRAD = ("cross_entropy", "cross_entropy_value_and_grad")


@pytest.fixture(params=["registers", "split"])
def kind(request, monkeypatch):
    """Rows in registers, and those whose chunks have programs of their own, to the bits of a loop over them."""
    if request.param == "split":
        in_chunks(monkeypatch, SPLIT_PARTS=2)
    return request.param


LABELS = torch.tensor([0, 3, 39, 7])
TARGETS = drawn((N, K), seed=6).abs()
#: Hidden are classes of each row, but not its label, and all of the first chunk of the second.
WHERE = (drawn((N, K), seed=3) < 2).scatter_(1, LABELS[:, None], True)
WHERE[2, :16] = False
SHIFT = drawn((K,), seed=4, scale=2.0)
OPTIONS = {
    "mask": {"where": WHERE},
    "mask by class": {"where": torch.arange(K) % 5 != 1},
    "softcap": {"softcap": 3.0},
    "temperature": {"temperature": 0.3},
    "shift": {"logit_shift": SHIFT},
    "scaled": {"softcap": 5.0, "temperature": 2.0, "logit_shift": SHIFT, "z_loss": 0.01},
    "focal": {"focal": 1.7, "class_weight": drawn((K,), seed=5).abs(), "z_loss": 0.1},
    "all": {
        "where": WHERE, "softcap": 5.0, "temperature": 0.7, "logit_shift": SHIFT, "label_smoothing": 0.1,
        "z_loss": 0.01, "class_weight": drawn((K,), seed=5).abs(), "sample_weight": torch.linspace(0, 2, N),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("target", ["index", "weights"])
def test_losses_are_those_of_float64(name, target, kind):
    x, options = drawn((N, K)), OPTIONS[name]
    labels = LABELS if target == "index" else TARGETS
    if "focal" in options and target == "weights":
        options = options | {"focal": 0.0}
    for function, reduction in zip(VALUE_AND_GRAD, ("none", "mean"), strict=True):
        options = options | {"reduction": reduction}
        assert backends.explain(function, x, labels, **options).backend == "triton"
        assert_close(getattr(sg, function)(x, labels, **options), exact(function, x, labels, **options), 1e-5)


@pytest.mark.parametrize("by", [2.0**-120, 3e38])
def test_temperatures_of_the_whole_range(by, kind):
    x, options = drawn((N, K)), {"temperature": by, "softcap": 3e38, "focal": 1.5, "reduction": "none"}
    assert_close(sg.cross_entropy(x, LABELS, **options), exact("cross_entropy", x, LABELS, **options), 1e-5)


def test_classes_apart_in_memory(kind):
    """Another axis than the last, a mask of another layout, and half precision."""
    x, options = drawn((2, 7, 3)), {"axis": 1, "softcap": 3.0, "temperature": 0.5, "logit_shift": drawn((7,), seed=4)}
    where, labels = torch.tensor([True, False, True])[:, None].expand(2, 3, 7).movedim(2, 1), torch.zeros(2, 3).long()
    for function in VALUE_AND_GRAD:
        assert_close(
            getattr(sg, function)(x, labels, where=where, **options),
            exact(function, x, labels, where=where, **options), 1e-5,
        )  # fmt: skip
    y = x.to(torch.bfloat16)
    got = sg.cross_entropy_value_and_grad(y, labels, **options)
    assert_close(got, exact("cross_entropy_value_and_grad", y, labels, **options), 1.6e-2)


@pytest.mark.parametrize("function", DENSE)
def test_dense_functions_hide_classes(function, kind):
    x, where = drawn((N, K)), WHERE.clone()
    where[1] = False
    x[0, ~where[0]] = math.nan
    x[3, 5], where[3, 5] = math.inf, False
    assert backends.explain(function, x, axis=1, where=where).backend == "triton"
    assert_close(getattr(sg, function)(x, axis=1, where=where), exact(function, x, axis=1, where=where), 3e-6)


@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_derivatives_of_split_rows_keep_their_digits(function, kind):
    """Of a row that is sure of one class, and of one in which chunks have their largest at either end."""
    x, c = drawn((2, K)), drawn((2, K), seed=2, scale=1.0)
    x[0, 33] = 40.0
    a = getattr(sg, function)(x)
    got = getattr(sg, f"{function}_vjp")(a, c)
    want = exact(f"{function}_vjp", getattr(torch, function)(x.double(), 1), c)
    torch.testing.assert_close(got.double(), want, rtol=3e-5, atol=1e-12)


def test_special_rows_are_those_of_the_generic_kernel(kind):
    inf, nan = math.inf, math.nan
    x, labels = drawn((12, 24)), torch.tensor([2, 3, 5, 5, 2, 22, 20, 2, 2, 24, -1, 5])
    x[0, :] = -inf
    x[1, 3] = nan
    x[2, 5] = inf
    x[3, 1:23] = -inf
    x[4, :] = nan
    x[5, 0:20] = -inf
    x[6, 20] = -inf
    x[7, 2] = 1e30
    where = torch.ones(12, 24, dtype=torch.bool)
    where[6], where[8, 2], where[1, 3] = False, False, False
    shift = torch.linspace(-1, 1, 24)
    shift[4:8] = -inf
    cases = [
        {"where": where},
        {"softcap": 2.0, "logit_shift": shift, "where": where},
        {"softcap": 2.0, "logit_shift": torch.full((24,), -inf)},
        {"temperature": 1e-3, "focal": 2.0}, {"logit_shift": shift, "label_smoothing": 0.1, "where": where},
    ]  # fmt: skip
    for options in cases:
        got = sg.cross_entropy_value_and_grad(x, labels, reduction="none", **options)
        assert_close(got, exact("cross_entropy_value_and_grad", x, labels, reduction="none", **options), 1e-5)


@pytest.mark.parametrize("name", some(OPTIONS, "focal", "all"))
def test_a_row_has_the_same_bits_in_any_batch_and_split_over_programs(name, monkeypatch):
    in_chunks(monkeypatch)
    x, options = drawn((N, K)), OPTIONS[name]

    def everything(row):
        own = {each: a[row] if getattr(a, "ndim", 0) and a.shape[0] == N else a for each, a in options.items()}
        targets = (LABELS,) if "focal" in options else (LABELS, TARGETS)
        for labels in targets:
            yield sg.cross_entropy(x[row], labels[row], reduction="none", **own)
            yield sg.cross_entropy_grad(x[row], labels[row], reduction="sum", **own)
        if "where" in options:
            shown = own["where"]
            yield from (getattr(sg, function)(x[row], axis=1, where=shown) for function in DENSE)

    whole = list(everything(slice(None)))
    monkeypatch.setattr(layout, "SPLIT_PARTS", 3)
    for a, b in zip(whole, everything(slice(1, 2)), strict=True):
        assert torch.equal(a[1:2], b)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_digits_are_those_that_the_logits_hold(softcap, kind):
    """Logits that a softcap squeezes, or a low temperature pulls apart: of the exact loss of what came."""
    x = torch.tensor([[20.0, 20.25, 19.5, *([-30.0] * 20)], [1e-3, 2e-3, -1e-3, *([-0.5] * 20)]])
    labels, options = torch.tensor([1, 1]), {"softcap": softcap, "temperature": 1 / 64, "focal": 1.5}
    got = sg.cross_entropy(x, labels, reduction="none", **options)
    with mpmath.workdps(60):
        for i in range(2):
            z = [mpmath.mpf(float(a)) for a in x[i]]
            z = [a if softcap is None else softcap * mpmath.tanh(a / softcap) for a in z]
            others = mpmath.fsum(mpmath.exp(64 * (a - z[1])) for j, a in enumerate(z) if j != 1)
            want = mpmath.log1p(others) * (others / (1 + others)) ** mpmath.mpf(1.5)
            assert abs(float(got[i]) - want) <= 2e-5 * want


def test_the_gradient_is_that_of_differences_in_multiprecision():
    row = oracle._Row(
        [mpmath.mpf(j == 2) for j in range(6)], [True] * 5 + [False], [mpmath.mpf(1)] * 6, 0, 0.01, mpmath.mpf(1),
        focal=1.5, scaled=lambda x: [3 * mpmath.tanh(a / 3) / mpmath.mpf(0.5) + j for j, a in enumerate(x)],
    )  # fmt: skip
    x = drawn((1, 6))
    with mpmath.workdps(60):
        want = [float(g) for g in oracle._gradient(row, [mpmath.mpf(float(a)) for a in x[0]])]
    options = {"softcap": 3.0, "temperature": 0.5, "logit_shift": torch.arange(6.0), "focal": 1.5, "z_loss": 0.01}
    got = sg.cross_entropy_grad(x, torch.tensor([2]), where=torch.arange(6) < 5, **options)
    np.testing.assert_allclose(got[0].double(), want, rtol=3e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["mask", "scaled", "focal", "all"])
def test_every_derivative_under_autograd(name, kind):
    def derivatives(x, options):
        value = sg.cross_entropy(x, LABELS, reduction="none", **options)
        (first,) = torch.autograd.grad(value.square().sum(), x, create_graph=True)
        return value, first, torch.autograd.grad(first.square().sum(), x)[0]

    got = derivatives(drawn((N, K)).requires_grad_(), OPTIONS[name])
    with backends.use("generic"):
        options = {each: wide(a) for each, a in OPTIONS[name].items()}
        want = derivatives(drawn((N, K)).double().requires_grad_(), options)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_nothing_beside_the_arrays_is_read_or_written(kind):
    around, shown = torch.full((9, 60), math.nan), torch.zeros(9, 60, dtype=torch.bool)
    x, where = around[3:5, 7:47], shown[3:5, 7:47]
    x[...], where[...] = drawn((2, K)), WHERE[:2]
    before = around.clone()
    options = OPTIONS["all"] | {"sample_weight": None}
    got = sg.cross_entropy_grad(x, LABELS[:2], **options | {"where": where})
    assert torch.equal(got, sg.cross_entropy_grad(x.contiguous(), LABELS[:2], **options | {"where": WHERE[:2]}))
    assert torch.equal(around.nan_to_num(7.0), before.nan_to_num(7.0))


def test_what_has_no_kernel_goes_on():
    x, smoothed = drawn((N, K)), {"label_smoothing": 0.1, "focal": 1.0}
    for options in (smoothed, {"precision": "high"}):
        assert backends.explain("cross_entropy", x, LABELS, **options).backend != "triton"
        assert_close(sg.cross_entropy(x, LABELS, **options), exact("cross_entropy", x, LABELS, **options), 1e-5)


@triton.jit
def _power(x_ptr, y_ptr, n, by, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    tl.store(y_ptr + i, mathematics.power(x, by), mask=i < n)


@triton.jit
def _tanh_apart(x_ptr, m_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    m = tl.load(m_ptr + i, mask=i < n, other=0.0)
    tl.store(y_ptr + i, mathematics.tanh_apart(x, m, x - m), mask=i < n)


@pytest.mark.parametrize("by", [0.5, 2.0, 5.25])
def test_digits_of_powers(by):
    x = torch.cat([torch.logspace(-44, 0, 4000), torch.linspace(0, 1, 4001)[:90], torch.tensor([0.0, 1.0, math.nan])])
    y = torch.empty_like(x)
    _power[(1,)](x, y, x.numel(), by, BLOCK=8192)
    want = x.double() ** by
    error = (y.double() - want).abs() / (want * torch.finfo(torch.float32).eps + 2.0**-148)
    assert error[:-1].max() <= 4 + by
    assert y[-1].isnan()


def test_digits_of_differences_of_tanh():
    x = drawn((4000,), seed=1, scale=3.0)
    m = torch.where(
        torch.arange(4000) % 2 == 0, x + drawn((4000,), seed=2).abs() * 1e-3, drawn((4000,), seed=3, scale=3.0)
    )
    y = torch.empty_like(x)
    _tanh_apart[(1,)](x, m, y, x.numel(), BLOCK=4096)
    a, b = x.double(), m.double()
    # of the float32 difference, which is what the kernels' logits have rounded
    want = (x - m).double().sinh() / (a.cosh() * b.cosh())
    ulps = (y.double() - want).abs() / (want.abs() * torch.finfo(torch.float32).eps)
    assert ulps.max() <= 16
