"""The NumPy back end's linear kernels against the generic ones in extended precision, and what memory they take."""

import tracemalloc

import numpy as np
import pytest
from array_api_compat import numpy as xp

import softgrad as sg
from extended import OPTIONS, WIDE, args_of, assert_near, cuts, exactly, widened
from softgrad._kernels import linear as linear_kernels
from softgrad.backends.numpy import linear as numpy_linear
from softgrad.backends.numpy import linear_call
from softgrad.backends.numpy import products as numpy_products
from softgrad.backends.numpy import tiles as numpy_tiles

pytestmark = [
    pytest.mark.usefixtures("usual_kernels"),
    pytest.mark.skipif(
        np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps, reason="no extended precision here to compare with"
    ),
]


MODELS = {"few": (70, 6, 3), "few, wide": (40, 90, 7), "more": (90, 5, 30), "many": (53, 11, 200), "one": (1, 3, 2)}


@pytest.fixture(params=["whole", "blocks"])
def cut(request, monkeypatch):
    """Arrays in one block, and in many on three threads."""
    with cuts(request.param, monkeypatch):
        yield request.param


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("model", MODELS)
def test_linear_kernels(model, option, dtype, cut):
    check_linear(model, option, dtype, cut)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("option", [o for o in OPTIONS if "distribution" not in o])
@pytest.mark.parametrize("model", MODELS)
def test_linear_kernels_in_tiles(model, option, dtype, monkeypatch):
    monkeypatch.setattr(numpy_linear, "MOST_BYTES", 0)
    monkeypatch.setattr(numpy_tiles, "TILE_BYTES", 1 << 10)
    monkeypatch.setattr(numpy_tiles, "ROWS", 16)
    check_linear(model, option, dtype, "tiles")


def test_linear_kernels_without_scipy(monkeypatch):
    monkeypatch.setattr(numpy_products, "PIECE_BYTES", 256)
    monkeypatch.setattr(numpy_products, "_gemm", lambda char: None)
    monkeypatch.setattr(linear_call, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(linear_call, "ENOUGH_BYTES", 1 << 12)
    monkeypatch.setattr(linear_call, "ENOUGH_ROWS", 8)
    monkeypatch.setattr(linear_call, "BLOCK_ROWS", 8)
    check_linear("many", "all", "float64", "pieces")


def check_linear(model, option, dtype, cut):
    n, m, k = MODELS[model]
    for seed, (reduction, order) in enumerate([("mean", "C"), ("sum", "F"), ("none", "C")]):
        rng = np.random.default_rng(seed)
        X = np.asarray(rng.normal(size=(n, m)), dtype, order=order)
        W, bias = np.asarray(rng.normal(size=(k, m)), dtype, order=order), rng.normal(size=k).astype(dtype)
        bias = bias if seed else None
        args = args_of(option, np.empty((n, k), dtype), 1, reduction, rng)
        X_wide, W_wide = X.astype(WIDE), W.astype(WIDE)
        if args.sample_weight is not None:
            X[args.sample_weight == 0] = np.nan  # contributes nothing, whatever it holds
        bias_wide = None if bias is None else bias.astype(WIDE)
        block = None if seed else 9
        with np.errstate(all="ignore"):
            value = numpy_linear.linear_cross_entropy(xp, X, W, bias, args, block)
        exact = exactly(linear_kernels.linear_cross_entropy, X_wide, W_wide, bias_wide, widened(args), block)
        assert_near(value, exact, dtype, of_all=16, what="value")
        if reduction == "none":
            continue
        wrt = ("W", "X") if bias is None else ("X", "W", "bias")
        classes = (k - 1, 0) if seed and cut != "whole" else None
        with np.errstate(all="ignore"):
            result = numpy_linear.linear_cross_entropy_value_and_grad(xp, X, W, bias, args, wrt, classes, block)
        expected = exactly(
            linear_kernels.linear_cross_entropy_value_and_grad,
            X_wide,
            W_wide,
            bias_wide,
            widened(args),
            wrt,
            classes,
            block,
        )
        assert_near(result[0], expected[0], dtype, of_all=16, what="value")
        for name, one, other in zip(wrt, result[1], expected[1], strict=True):
            assert_near(one, other, dtype, of_all=32, what=name)
        vectors = tuple(rng.normal(size=(k, m) if name == "W" else k).astype(dtype) for name in ("W", "bias"))
        names = ("W",) if bias is None else ("W", "bias")
        with np.errstate(all="ignore"):
            result = numpy_linear.linear_cross_entropy_hvp(xp, X, W, bias, args, names, vectors[: len(names)], block)
        expected = exactly(
            linear_kernels.linear_cross_entropy_hvp,
            X_wide,
            W_wide,
            bias_wide,
            widened(args),
            names,
            [v.astype(WIDE) for v in vectors[: len(names)]],
            block,
        )
        for name, one, other in zip(names, result, expected, strict=True):
            assert_near(one, other, dtype, of_all=64, what=f"hvp {name}")


def test_second_derivative_by_every_parameter():
    rng = np.random.default_rng(0)
    X, W, bias, y = rng.normal(size=(30, 4)), rng.normal(size=(60, 4)), rng.normal(size=60), rng.integers(0, 60, 30)
    vectors = rng.normal(size=(60, 4)), rng.normal(size=60), rng.normal(size=(30, 4))
    result = sg.linear_cross_entropy_hvp(X, y, W, vectors, bias, wrt=("W", "bias", "X"))
    with sg.backends.use("generic"):
        expected = sg.linear_cross_entropy_hvp(X, y, W, vectors, bias, wrt=("W", "bias", "X"))
    for one, other in zip(result, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-14)


def peak(call):
    """(what ``call`` returns, bytes it held at most beside that)."""
    tracemalloc.start()
    try:
        result = call()
        now, most = tracemalloc.get_traced_memory()
        return result, most - now
    finally:
        tracemalloc.stop()


def test_the_logits_are_never_stored_whole():
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(2048, 8)).astype("float32"), rng.normal(size=(32000, 8)).astype("float32")
    y = rng.integers(0, 32000, 2048)
    assert X.shape[0] * W.shape[0] * 4 >= 250 << 20
    _, most = peak(lambda: sg.linear_cross_entropy_value_and_grad(X, y, W, wrt=("W", "X")))
    assert most <= 64 << 20


def test_a_row_of_logits_is_never_stored_with_too_many_classes():
    rng = np.random.default_rng(0)
    # all logits are 110 MiB
    X, W = rng.normal(size=(96, 2)).astype("float32"), rng.normal(size=(300_000, 2)).astype("float32")
    y = rng.integers(0, len(W), len(X))
    (value, grad), most = peak(lambda: sg.linear_cross_entropy_value_and_grad(X, y, W))
    assert most <= 64 << 20
    z = X.astype("float64") @ W.astype("float64").T
    np.testing.assert_allclose(value, sg.cross_entropy(z, y), rtol=1e-6)
    np.testing.assert_allclose(grad, sg.cross_entropy_grad(z, y).T @ X, rtol=1e-3, atol=1e-6)


def test_a_transposed_layout_is_not_copied():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 300_000))  # samples along axis 1
    W, y = rng.normal(size=(30, 4)), rng.integers(0, 4, 300_000)
    result, most = peak(lambda: sg.linear_cross_entropy_value_and_grad(X, y, W, sample_axis=1))
    assert most < X.nbytes / 4
    expected = sg.linear_cross_entropy_value_and_grad(np.ascontiguousarray(X.T), y, np.ascontiguousarray(W.T))
    np.testing.assert_allclose(result[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(result[1].T, expected[1], rtol=1e-9)


@pytest.mark.parametrize("k", [3, 60])
def test_data_that_stand_in_a_file(k, tmp_path):
    rng = np.random.default_rng(0)
    X, W, y = rng.normal(size=(5000, 6)), rng.normal(size=(k, 6)), rng.integers(0, k, 5000)
    X.tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", np.float64, "r", shape=X.shape)
    value, grad = sg.linear_cross_entropy_value_and_grad(mapped, y, W)
    expected = sg.linear_cross_entropy_value_and_grad(X, y, W)
    np.testing.assert_array_equal(value, expected[0])
    np.testing.assert_array_equal(grad, expected[1])
    assert type(grad) is np.ndarray
    assert type(sg.softmax(mapped)) is np.ndarray
