"""Triton's kernels on CPU tensors, by its interpreter made strict: TRITON_INTERPRET=1, --backend=torch."""

from __future__ import annotations

import itertools

import pytest
import torch
import triton
import triton.language as tl

import softgrad as sg
import triton_on_cpu
from softgrad import backends
from softgrad._options import LossArgs
from softgrad.backends.triton import layout, loss, mathematics
from triton_cases import DENSE, assert_close, drawn, exact, in_chunks

pytestmark = pytest.mark.libraries("torch")

SHAPES = [((5, 3), 1), ((3, 70), 1), ((3, 20), 0), ((2, 6, 5), 1), ((1,), 0)]
DTYPES = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2, torch.float32: 3e-6}
CASES = [
    *((*each, torch.float32) for each in SHAPES),
    *((*SHAPES[1], dtype) for dtype in (torch.float16, torch.bfloat16)),
]


@pytest.fixture(params=["registers", "loop"])
def kind(request, monkeypatch):
    """Rows in registers, and the same rows in a loop over several chunks."""
    if request.param == "loop":
        in_chunks(monkeypatch)
    return request.param


def samples(shape, axis):
    return shape[:axis] + shape[axis + 1 :]


def labels_for(shape, axis, seed=1):
    return torch.randint(shape[axis], samples(shape, axis), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "axis", "dtype"), CASES)
@pytest.mark.parametrize("function", DENSE)
def test_dense_functions_are_those_of_float64(function, shape, axis, dtype, kind):
    x = drawn(shape, dtype)
    assert backends.explain(function, x, axis=axis).backend == "triton"
    got = getattr(sg, function)(x, axis=axis)
    assert got.dtype is dtype
    assert_close(got, exact(function, x, axis=axis), DTYPES[dtype])


@pytest.mark.parametrize(("shape", "axis", "dtype"), CASES)
@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_derivatives_are_those_of_float64(function, shape, axis, dtype, kind):
    a, c = getattr(sg, function)(drawn(shape, dtype), axis=axis), drawn(shape, dtype, 2, 1.0)
    assert backends.explain(f"{function}_vjp", a, c, axis=axis).backend == "triton"
    got = getattr(sg, f"{function}_vjp")(a, c, axis=axis)
    assert_close(got, exact(f"{function}_vjp", a, c, axis=axis), 4 * DTYPES[dtype])


def test_a_sure_row_keeps_the_digits_of_its_derivative(kind):
    x = torch.zeros(1, 40)
    x[0, 33] = 18.0
    p, c = sg.softmax(x), drawn((1, 40), seed=3, scale=1.0)
    # of the exact softmax of x, whose largest is nearer to 1 than float32 holds
    want = exact("softmax_vjp", torch.softmax(x.double(), 1), c)
    torch.testing.assert_close(sg.softmax_vjp(p, c).double(), want, rtol=3e-6, atol=0)
    want = exact("log_softmax_vjp", torch.log_softmax(x.double(), 1), c)
    torch.testing.assert_close(sg.log_softmax_vjp(sg.log_softmax(x), c).double(), want, rtol=3e-5, atol=0)


OPTIONS = {
    "plain": {},
    "ignoring": {"ignore_index": 1},
    "balanced": {"class_weight": True, "z_loss": 0.01},
    "weighted": {"sample_weight": True},
    "all": {"ignore_index": 0, "label_smoothing": 0.2, "class_weight": True, "z_loss": 0.1, "sample_weight": True},
}


def filled(options, shape, axis):
    """The options with arrays of their shapes."""
    out = dict(options)
    if "class_weight" in out:
        out["class_weight"] = drawn((shape[axis],), seed=4).abs()
    if "sample_weight" in out:
        out["sample_weight"] = drawn(samples(shape, axis), seed=5).clamp_min(0)
    return out


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("target", ["index", "weights"])
@pytest.mark.parametrize(("shape", "axis"), [((4, 30), 1), ((2, 6, 3), 1)])
def test_losses_are_those_of_float64(shape, axis, target, options, kind):
    x, more = drawn(shape), filled(OPTIONS[options], shape, axis)
    labels = labels_for(shape, axis) if target == "index" else drawn(shape, seed=6).abs()
    if target == "weights":
        more.pop("ignore_index", None)
    for function, reduction in (("cross_entropy", "none"), ("cross_entropy_value_and_grad", "mean")):
        call = (x, labels), {"axis": axis, "reduction": reduction, **more}
        assert backends.explain(function, *call[0], **call[1]).backend == "triton"
        assert_close(getattr(sg, function)(*call[0], **call[1]), exact(function, *call[0], **call[1]), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_in_half_precision(dtype, kind):
    x, labels = drawn((9, 21), dtype), labels_for((9, 21), 1)
    for options in ({}, {"label_smoothing": 0.1, "z_loss": 0.01}):
        got = sg.cross_entropy_value_and_grad(x, labels, **options)
        assert {each.dtype for each in got} == {dtype}
        assert_close(got, exact("cross_entropy_value_and_grad", x, labels, **options), DTYPES[dtype])


@pytest.mark.parametrize("labels", [torch.uint8, torch.int32])
def test_labels_of_any_width(labels, kind):
    x, y = drawn((4, 5)), labels_for((4, 5), 1)
    assert torch.equal(sg.cross_entropy_grad(x, y.to(labels)), sg.cross_entropy_grad(x, y))


def test_special_rows_are_those_of_the_generic_kernel(kind):
    inf, nan = float("inf"), float("nan")
    x = drawn((7, 24))
    x[0, :] = -inf
    x[1, 3] = nan
    x[2, 5] = inf
    x[3, 1:23] = -inf
    x[4, :] = nan
    x[5, 0:20] = -inf
    for function in DENSE:
        assert_close(getattr(sg, function)(x, axis=1), exact(function, x, axis=1), 3e-6)
    for y, options in ((0, {}), (2, {}), (24, {}), (-1, {}), (2, {"label_smoothing": 0.1}), (2, {"ignore_index": 2})):
        labels = torch.full((7,), y)
        got = sg.cross_entropy(x, labels, reduction="none", **options)
        assert_close(got, exact("cross_entropy", x, labels, reduction="none", **options), 3e-6)
        got = sg.cross_entropy_grad(x, labels, reduction="sum", **options)
        assert_close(got, exact("cross_entropy_grad", x, labels, reduction="sum", **options), 3e-6)


def calls(x, labels):
    """Every kernel on the same rows."""
    yield from (lambda f=function: getattr(sg, f)(x, axis=-1) for function in DENSE)
    yield lambda: sg.softmax_vjp(x.abs(), x)
    yield lambda: sg.log_softmax_vjp(-x.abs(), x)
    for options in ({}, {"label_smoothing": 0.1}, {"z_loss": 0.1}):
        yield lambda o=options: sg.cross_entropy(x, labels, reduction="none", **o)
        yield lambda o=options: sg.cross_entropy_grad(x, labels, reduction="sum", **o)


@pytest.mark.parametrize("k", [3, 40])
def test_a_row_has_the_same_bits_in_any_batch(k, kind):
    x, labels = drawn((3, k)), labels_for((3, k), 1)
    for whole, one in zip(calls(x, labels), calls(x[1:2], labels[1:2]), strict=True):
        assert torch.equal(whole()[1:2], one())


def test_few_long_rows_are_split_to_the_same_bits(monkeypatch):
    """A row's chunks in programs of their own, for that of a row in one program, which is held to float64 above."""
    in_chunks(monkeypatch)
    x, labels, weight = drawn((3, 40)), labels_for((3, 40), 1), torch.linspace(0.5, 2, 3)
    # of the last no label is a class
    x[1, 7], x[1, 16:32], x[2, 35], labels[2] = float("inf"), float("-inf"), float("nan"), -1
    more = {"ignore_index": 2, "z_loss": 0.1, "class_weight": torch.linspace(0.5, 2, 40)}

    def everything(own):
        a, y, each = x[own], labels[own], weight[own]
        yield from (getattr(sg, function)(a, axis=1) for function in DENSE)
        yield sg.softmax_vjp(a.abs(), a)
        yield sg.log_softmax_vjp(-a.abs(), a)
        yield sg.cross_entropy(a, y, reduction="none")
        yield sg.cross_entropy_grad(a, y, reduction="sum")
        yield sg.cross_entropy_value_and_grad(a, y, reduction="sum", sample_weight=each, **more)[1]

    kernels = []
    executor = triton.runtime.interpreter.GridExecutor
    run = executor.__call__

    def noted(self, *args, **kwargs):
        kernels.append((self.fn.__name__, self.grid))
        return run(self, *args, **kwargs)

    monkeypatch.setattr(executor, "__call__", noted)
    whole = list(everything(slice(None)))
    assert {name for name, _ in kernels} == {"dense_loop", "vjp_loop", "loss_loop"}
    monkeypatch.setattr(layout, "SPLIT_ROWS", 2)
    monkeypatch.setattr(layout, "SPLIT_PARTS", 3)
    for row in range(3):
        kernels.clear()
        for a, b in zip(whole, everything(slice(row, row + 1)), strict=True):
            assert torch.equal(a[row : row + 1].nan_to_num(7.0), b.nan_to_num(7.0))
        # what writes no row has one program for it in the second launch
        parts, split, merged = [("dense_parts", (1, 3)), ("loss_parts", (1, 3))], (1, 3), (1, 1)
        dense = [("dense_loop", grid) for grid in (split, split, merged)]
        loss = [("loss_loop", grid) for grid in (merged, split, split)]
        assert kernels == [
            *itertools.chain(*((parts[0], each) for each in dense)),
            *(("vjp_parts", split), ("vjp_loop", split)) * 2,
            *itertools.chain(*((parts[1], each) for each in loss)),
        ]


@pytest.mark.parametrize("label", [3, 39])
def test_a_split_row_may_leave_its_gradient_in_its_place(label, monkeypatch):
    """No program reads what another may have overwritten: the interpreter runs them one after the other."""
    in_chunks(monkeypatch, SPLIT_PARTS=3)
    x, labels = drawn((2, 40)), torch.tensor([label, 20])
    want = sg.cross_entropy_grad(x, labels, reduction="sum")
    (values,) = loss.InPlace(x, LossArgs(1, labels, False, reduction="sum")).block(0, x, True, True)
    assert torch.equal(x, want)
    assert values.shape == (2,)


def test_whether_a_row_is_split_changes_nothing_of_its_chunks():
    for k in (8193, 32768, 128256, 1 << 20):
        one, many = (layout.launch(n, k, True, may_split=True) for n in (1, 1000))
        assert (one.tile, one.rows, one.block, one.warps) == (many.tile, many.rows, many.block, many.warps)
        assert many.parts == 0
        assert one.parts == (-(-k // layout.BLOCK) if k >= 8 * layout.BLOCK - layout.BLOCK + 1 else 0)


def test_a_row_of_any_length_has_a_grid_that_a_gpu_takes():
    for k in (1 << 22, (1 << 22) + 1, 1 << 28, 1 << 31):
        parts = layout.launch(1, k, True, may_split=True).grid[1]
        assert parts == (1024 if k == 1 << 22 else 1)


def test_inputs_stay_as_they_were_and_nothing_beside_them_is_read(kind):
    for dtype in (torch.bfloat16, torch.float32):
        around = torch.full((9, 40), float("nan"), dtype=dtype)
        x = around[3:5, 7:27]
        x[...] = drawn((2, 20), dtype)
        before, labels = around.clone(), labels_for((2, 20), 1)
        for call, dense in zip(calls(x, labels), calls(x.contiguous(), labels), strict=True):
            assert torch.equal(call(), dense())
        assert torch.equal(around.nan_to_num(7.0), before.nan_to_num(7.0))


def test_nothing_waits_for_the_device(kind, monkeypatch):
    def wait(self, *args):
        raise AssertionError("the host waits for a value")

    x, labels = drawn((4, 5)), labels_for((4, 5), 1)
    weight = torch.ones(4)
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, wait)
    for call in calls(x, labels):
        call()
    sg.cross_entropy_value_and_grad(x, labels, sample_weight=weight, ignore_index=1, class_weight=torch.ones(5))


def test_what_is_recorded_takes_the_kernels_and_every_derivative(kind, monkeypatch):
    launches = []
    if kind == "loop":
        monkeypatch.setattr(layout, "BLOCK", 512)
    monkeypatch.setattr(layout, "launch", lambda *a, real=layout.launch, **k: launches.append(a) or real(*a, **k))
    for module in ("rows", "loss"):
        monkeypatch.setattr(f"softgrad.backends.triton.{module}.launch", layout.launch)
    x, labels = drawn((3, 1100)).requires_grad_(), labels_for((3, 1100), 1)
    functions = {
        "softmax": lambda x: sg.softmax(x).square().sum(),
        "log_softmax": lambda x: sg.log_softmax(x).square().sum(),
        "logsumexp": lambda x: sg.logsumexp(x, axis=1).square().sum(),
        "cross_entropy": lambda x: sg.cross_entropy(x, labels),
        "smoothed": lambda x: sg.cross_entropy(x, labels, label_smoothing=0.1, z_loss=0.1),
    }
    for name, function in functions.items():
        launches.clear()
        (first,) = torch.autograd.grad(function(x), x)
        # on a CPU the gradient comes with the loss, and is kept
        assert len(launches) >= (1 if name in ("cross_entropy", "smoothed") else 2), name
        (again,) = torch.autograd.grad(function(x), x, create_graph=True)
        (second,) = torch.autograd.grad(again.square().sum(), x)
        with backends.use("generic"):
            wide = x.detach().double().requires_grad_()
            (first_wide,) = torch.autograd.grad(function(wide), wide, create_graph=True)
            (second_wide,) = torch.autograd.grad(first_wide.square().sum(), wide)
        assert_close(first, first_wide, 1e-5)
        assert_close(second, second_wide, 1e-4)


def test_what_has_no_kernel_goes_on():
    x, labels = drawn((4, 5)), labels_for((4, 5), 1)
    for call in (
        ("softmax", (x.double(),), {}),
        ("softmax", (x,), {"precision": "high"}),
        ("cross_entropy", (x.double(), labels), {}),
        ("cross_entropy", (x, labels.to(torch.uint64)), {}),
        ("softmax_vjp", (x, x), {"axis": 0}),
    ):
        backend = backends.explain(call[0], *call[1], **call[2]).backend
        assert (backend == "triton") == (call[0] == "softmax_vjp"), call
    with backends.use("torch"):
        assert backends.explain("softmax", x).backend == "torch"


@triton.jit
def _apply(x_ptr, y_ptr, n, WHICH: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0.0)
    y = mathematics.exp(x) if WHICH == 0 else mathematics.log1p(x) if WHICH == 1 else mathematics.expm1(x)
    tl.store(y_ptr + i, y, mask=i < n)


@pytest.mark.parametrize(
    ("which", "low", "high", "function"),
    [(0, -87, 0, torch.exp), (1, 0, 1e4, torch.log1p), (1, 0, 1e-3, torch.log1p), (2, -0.5, 0, torch.expm1)],
)
def test_digits_of_the_functions(which, low, high, function):
    """Three units in the last place, where Triton's own exponential is off by 32."""
    x = torch.linspace(low, high, 20001)
    y = torch.empty_like(x)
    _apply[(20,)](x, y, x.numel(), WHICH=which, BLOCK=1024)
    want = function(x.double())
    ulps = (y.double() - want).abs() / (want.abs().clamp_min(1e-38) * torch.finfo(torch.float32).eps)
    assert ulps.max() <= 3


@triton.jit
def _careless(x_ptr, y_ptr, n, LOAD: tl.constexpr, STORE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=(i < n) | LOAD, other=0.0)
    tl.store(y_ptr + i, x, mask=(i < n) | STORE)


@pytest.mark.parametrize(("load", "store"), [(True, False), (False, True), (False, False)])
def test_an_access_beyond_an_array_is_caught(load, store):
    x, y = torch.zeros(64)[:5], torch.zeros(64)[:5]
    if load or store:
        with pytest.raises(Exception, match="outside of the kernel's arguments"):
            _careless[(1,)](x, y, 5, LOAD=load, STORE=store, BLOCK=8)
    else:
        _careless[(1,)](x, y, 5, LOAD=load, STORE=store, BLOCK=8)
    assert triton_on_cpu.interpreted()


def test_the_divisor_of_a_mean_is_held_to_its_rows(monkeypatch):
    monkeypatch.setattr("softgrad.backends.triton.loss._ROWS", 4)
    x, labels = drawn((6, 5)), labels_for((6, 5), 1)
    assert_close(sg.cross_entropy(x, labels, ignore_index=3), exact("cross_entropy", x, labels, ignore_index=3), 1e-6)
