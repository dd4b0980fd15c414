"""The NumPy back end's dense and loss kernels against the generic ones in extended precision, in every layout."""

import math

import numpy as np
import pytest
from array_api_compat import numpy as xp

import softgrad as sg
from extended import OPTIONS, ULPS, WIDE, args_of, assert_near, cuts, exactly, widened
from softgrad._kernels import dense as dense_kernels
from softgrad._kernels import loss as loss_kernels
from softgrad.backends.numpy import blocks as numpy_blocks
from softgrad.backends.numpy import loss as numpy_loss

pytestmark = [
    pytest.mark.usefixtures("usual_kernels"),
    pytest.mark.skipif(
        np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="no extended precision here to compare with"
    ),
]


LAYOUTS = {
    "vector": ((9,), 0),
    "pairs": ((700, 2), 1),
    "odd rows": ((301, 5), 1),
    "short rows": ((150, 20), 1),
    "rows": ((60, 70), 1),
    "long rows": ((7, 2500), 1),
    "few columns first": ((3, 500), 0),
    "columns first": ((90, 130), 0),
    "many columns first": ((700, 65), 0),
    "middle": ((5, 40, 30), 1),
    "narrow middle": ((50, 70, 2), 1),
    "wide middle": ((2, 9, 300), 1),
}
FAMILIES = {
    "small": lambda r, shape: r.normal(size=shape),
    "usual": lambda r, shape: 4 * r.normal(size=shape),
    "wide": lambda r, shape: r.uniform(-60, 60, shape),
    "far": lambda r, shape: 500 + r.normal(size=shape),
    "negative": lambda r, shape: -40 - 5 * r.random(shape),
    "dominated": lambda r, shape: np.where(r.random(shape) < 0.05, 25.0, 0.0) + 0.1 * r.normal(size=shape),
    "equal": lambda r, shape: np.full(shape, 0.25),
    "with -inf": lambda r, shape: np.where(r.random(shape) < 0.2, -np.inf, 3 * r.normal(size=shape)),
}


@pytest.fixture(params=["whole", "blocks"])
def cut(request, monkeypatch):
    """Arrays in one block, and in many on three threads."""
    with cuts(request.param, monkeypatch):
        yield request.param


def laid(x, how):
    """``x`` with the same values, otherwise in memory."""
    if how == "fortran":
        return np.asfortranarray(x)
    if how == "reversed":
        return x[tuple(slice(None, None, -1) for _ in x.shape)].copy()[tuple(slice(None, None, -1) for _ in x.shape)]
    if how == "strided":
        y = np.full([2 * n for n in x.shape], np.nan, x.dtype)
        y[tuple(slice(None, None, 2) for _ in x.shape)] = x
        return y[tuple(slice(None, None, 2) for _ in x.shape)]
    return x


def ulps(result, exact):
    """Largest distance in units of the last place at the exact value; subnormal results within one of them."""
    assert result.shape == exact.shape
    np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
    info = np.finfo(result.dtype)
    near = exact.astype(result.dtype)
    infinite = np.isinf(near)
    np.testing.assert_array_equal(result[infinite], near[infinite])
    usual = np.isfinite(near) & (np.abs(exact) >= info.tiny)
    tiny = np.isfinite(near) & ~usual
    assert np.all(np.abs(result[tiny].astype(WIDE) - exact[tiny]) <= 2 * info.tiny)
    error = np.abs(result[usual].astype(WIDE) - exact[usual])
    return float(np.max(error / np.spacing(np.abs(near[usual])).astype(WIDE), initial=0))


# --- dense


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_dense_kernels(name, layout, dtype, cut):
    shape, axis = LAYOUTS[layout]
    for family, make in FAMILIES.items():
        rng = np.random.default_rng(len(family))
        x = make(rng, shape).astype(dtype)
        x.flags.writeable = False
        exact = np.asarray(exactly(getattr(dense_kernels, name), x.astype(WIDE), axis))
        for how in ("plain", "fortran", "reversed", "strided") if family == "usual" else ("plain",):
            y = laid(x, how)
            result = np.asarray(getattr(sg, name)(y, axis=axis))
            assert result.dtype == x.dtype
            if name == "logsumexp" and dtype != "float16":
                near = np.isfinite(exact)
                exact_near = exact[near]
                # where the maximum and the logarithm added to it cancel, both are right to their last digits
                added = np.abs(exact_near - np.max(x, axis=axis)[near])
                allowed = 2 * np.spacing(np.abs(exact_near).astype(dtype)) + 8 * np.finfo(dtype).eps * added
                assert np.all(np.abs(result[near] - exact_near) <= allowed), (family, how)
                np.testing.assert_array_equal(result[~near], exact[~near])
            else:
                assert ulps(result, exact) <= ULPS[dtype], (family, how)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("precision", [None, "high"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_kernels_under_a_mask(layout, precision, dtype, cut):
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(1)
    x = FAMILIES["usual"](rng, shape).astype(dtype)
    where = rng.random(shape) < 0.7
    np.moveaxis(where, axis, -1)[(0,) * (x.ndim - 1)] = layout == "vector"
    x[~where] = np.nan
    wide = x.astype(WIDE)
    wide[~where] = 0
    for mask in (where, np.expand_dims(np.any(where, axis=0), 0)) if x.ndim > 1 else (where,):
        y = np.where(np.broadcast_to(mask, shape), np.nan_to_num(x), x)
        exact = np.where(np.broadcast_to(mask, shape), np.nan_to_num(x), 0).astype(WIDE)
        for name in ("softmax", "log_softmax", "logsumexp"):
            result = np.asarray(getattr(sg, name)(y, axis=axis, where=mask, precision=precision))
            expected = np.asarray(exactly(getattr(dense_kernels, name), exact, axis, mask))
            np.testing.assert_array_equal(np.isneginf(result), np.isneginf(expected), err_msg=name)
            near = np.isfinite(expected)
            tolerance = 70 * np.finfo(dtype).eps
            np.testing.assert_allclose(result[near], expected[near].astype(dtype), rtol=tolerance, atol=tolerance / 8)


@pytest.mark.parametrize(("dtype", "goal"), [("float16", 0.51), ("float32", 0.51), ("float64", 6)])
@pytest.mark.parametrize("layout", ["pairs", "rows", "columns first", "narrow middle"])
def test_high_precision(layout, dtype, goal, cut):
    shape, axis = LAYOUTS[layout]
    x = FAMILIES["wide"](np.random.default_rng(3), shape).astype(dtype)
    for name in ("softmax", "log_softmax", "logsumexp"):
        exact = np.asarray(exactly(getattr(dense_kernels, name), x.astype(WIDE), axis))
        assert ulps(np.asarray(getattr(sg, name)(x, axis=axis, precision="high")), exact) <= goal, name


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("k", [2, 3, 10, 40, 300])
def test_what_every_peer_loses_in_float32(k, axis, cut):
    x = np.zeros((k, 50) if axis == 0 else (50, k), np.float32)
    np.moveaxis(x, axis, -1)[:, 0] = 20
    labels = np.zeros(50, np.int64)
    rest = math.log1p((k - 1) * math.exp(-20.0))
    top = (slice(None), 0) if axis else (0, slice(None))
    np.testing.assert_allclose(-sg.log_softmax(x, axis=axis)[top], rest, rtol=1e-6)
    for value in (sg.cross_entropy(x, labels, axis=axis, reduction="none"), sg.cross_entropy(x, labels, axis=axis)):
        np.testing.assert_allclose(value, rest, rtol=1e-6)
    p = (k - 1) * math.exp(-20.0) / (1 + (k - 1) * math.exp(-20.0))
    grad = sg.cross_entropy_grad(x, labels, axis=axis, reduction="sum")
    np.testing.assert_allclose(grad[top], -p, rtol=1e-6)
    np.testing.assert_allclose(grad.sum(axis=axis, dtype=np.float64), 0, atol=1e-6 * p)


@pytest.mark.parametrize("shape", [(1_000_000,), (1_000_000, 2), (2, 1_000_000)])
def test_a_million_classes_on_any_axis(shape):
    axis = int(np.argmax(shape))
    x = np.full(shape, 0.1, np.float32)
    np.testing.assert_allclose(sg.softmax(x, axis=axis), 1e-6, rtol=70 * 6e-8)
    np.testing.assert_allclose(sg.logsumexp(x, axis=axis), np.float32(0.1) + math.log(1e6), rtol=2 * 1.2e-7)
    assert sg.logsumexp(np.zeros(100_000, np.float16)) == np.float16(math.log(1e5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["vector", "pairs", "short rows", "rows", "columns first", "middle"])
def test_what_is_not_finite_stays_in_its_row(layout, bad, cut):
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    labels = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
    if layout != "vector":
        labels[(-1,) * labels.ndim] = shape[axis]
    rows = np.moveaxis(x, axis, -1)
    rows[(0,) * (x.ndim - 1)] = bad
    rows[(*(0,) * (x.ndim - 2), 1, 1) if x.ndim > 1 else (1,)] = bad
    with np.errstate(all="raise"):
        for name in ("softmax", "log_softmax", "logsumexp"):
            result = np.asarray(getattr(sg, name)(x, axis=axis))
            with sg.backends.use("generic"):
                expected = np.asarray(getattr(sg, name)(x, axis=axis))
            np.testing.assert_allclose(result, expected, rtol=1e-12, err_msg=name)
        result = sg.cross_entropy_value_and_grad(x, labels, axis=axis, reduction="none")
        with sg.backends.use("generic"):
            expected = sg.cross_entropy_value_and_grad(x, labels, axis=axis, reduction="none")
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


# --- the loss


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_loss_kernels(layout, option, dtype, cut):
    shape, axis = LAYOUTS[layout]
    for seed, (family, reduction) in enumerate([("usual", "mean"), ("wide", "none"), ("small", "sum")]):
        rng = np.random.default_rng(seed)
        x = FAMILIES[family](rng, shape).astype(dtype)
        x.flags.writeable = False
        args = args_of(option, x, axis, reduction, rng)
        value, grad = exactly(loss_kernels.cross_entropy_value_and_grad, x.astype(WIDE), widened(args))
        # a probability and a target that nearly agree leave a difference of their own size's digits
        of_all = 0 if option in ("plain", "class weights", "sample weights", "ignored") else 8
        with np.errstate(all="ignore"):
            both = numpy_loss.cross_entropy_value_and_grad(xp, x, args)
            alone = numpy_loss.cross_entropy(xp, x, args), numpy_loss.cross_entropy_grad(xp, x, args)
        for one, two in (both, alone):
            assert_near(one, value, dtype, of_all=of_all, what=(family, reduction, "value"))
            assert_near(two, grad, dtype, of_all=of_all, what=(family, reduction, "gradient"))


@pytest.mark.parametrize(("dtype", "goal"), [("float32", 1), ("float64", 8)])
@pytest.mark.parametrize("layout", ["pairs", "rows", "columns first"])
def test_loss_in_high_precision(layout, dtype, goal, cut):
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(5)
    x = FAMILIES["wide"](rng, shape).astype(dtype)
    args = args_of("plain", x, axis, "none", rng, "high")
    exact = exactly(loss_kernels.cross_entropy_value_and_grad, x.astype(WIDE), args._replace(precision=None))
    with np.errstate(all="ignore"):
        result = numpy_loss.cross_entropy_value_and_grad(xp, x, args)
    for one, other in zip(result, exact, strict=True):
        assert ulps(one, other) <= goal


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("k", [5, 100])
def test_labels_of_any_width(k, dtype, cut):
    x = np.random.default_rng(1).normal(size=(300, k))
    labels = np.random.default_rng(2).integers(0, k, 300)
    expected = sg.cross_entropy_value_and_grad(x, labels, reduction="none")
    outside = labels.astype(dtype)
    outside[7] = np.iinfo(dtype).max
    result = sg.cross_entropy_value_and_grad(x, outside, reduction="none")
    for one, other in zip(result, expected, strict=True):
        assert np.isnan(one[7]).all()
        np.testing.assert_allclose(np.delete(one, 7, 0), np.delete(other, 7, 0), rtol=1e-12)


# --- what runs


def test_explain_names_the_kernel_or_the_reason():
    x = np.zeros((4, 3), np.float16)
    assert sg.backends.explain("softmax", x).backend == "numpy"
    reason = dict(sg.backends.explain("softmax", x.astype(np.longdouble)).declined)["numpy"]
    assert "no kernel" in reason


def test_half_precision_is_rounded_as_numpy_rounds_it():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = np.sort(every[np.isfinite(every)]).astype(np.float32)
    between = (every[1:] + every[:-1]) / 2
    near = [np.nextafter(between, np.float32(to)) for to in (-np.inf, np.inf)]
    edge = np.asarray([0.0, -0.0, 1e-30, 65519.996, 65520, 1e5, np.inf, np.nan], np.float32)
    for wide in (every, between, *near, edge, -edge):
        out = np.empty(wide.shape, np.float16)
        with np.errstate(all="ignore"):
            numpy_blocks.narrow(wide, out)
            np.testing.assert_array_equal(out.view(np.uint16), wide.astype(np.float16).view(np.uint16))
