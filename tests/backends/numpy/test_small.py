"""Small NumPy arrays: as exact as any."""

import numpy as np
import pytest
from array_api_compat import numpy as xp

import softgrad as sg
from extended import WIDE, args_of, assert_near, exactly
from softgrad._kernels import loss as loss_kernels
from softgrad.backends.numpy import loss as numpy_loss

FAMILIES = {
    "usual": lambda r, shape: 3 * r.normal(size=shape),
    "equal": lambda r, shape: np.zeros(shape),
    "shifted": lambda r, shape: 25 + r.normal(size=shape),
    "far": lambda r, shape: 500 + r.normal(size=shape),
    "wide": lambda r, shape: r.uniform(-80, 80, shape),
    "sure": lambda r, shape: np.where(np.arange(shape[-1]) == 0, 30.0, r.normal(size=shape)),
    "with -inf": lambda r, shape: np.where(r.random(shape) < 0.2, -np.inf, r.normal(size=shape)),
    "with NaN": lambda r, shape: np.where(r.random(shape) < 0.02, np.nan, r.normal(size=shape)),
}


@pytest.fixture(autouse=True)
def _of_numpy():
    # which callers of a kernel see to
    with np.errstate(all="ignore"):
        yield


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (7,), (1, 2), (5, 3), (33, 10), (32, 10), (40, 200), (3, 4, 6)])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses(family, shape, dtype):
    rng = np.random.default_rng(sum(shape))
    x = FAMILIES[family](rng, shape).astype(dtype)
    before = x.copy()
    for reduction in ("none", "sum", "mean"):
        args = args_of("plain", x, x.ndim - 1, reduction, rng)
        if family == "sure":
            args = args._replace(labels=np.zeros_like(args.labels))
        exact = exactly(loss_kernels.cross_entropy_value_and_grad, x.astype(WIDE), args)
        value, grad = numpy_loss.cross_entropy_value_and_grad(xp, x, args)
        assert_near(value, exact[0], dtype, of_all=4.0, what=reduction)
        assert_near(grad, exact[1], dtype, what=reduction)
        assert value.dtype == grad.dtype == dtype
        assert value.shape == exact[0].shape
        np.testing.assert_array_equal(numpy_loss.cross_entropy(xp, x, args), value)
        np.testing.assert_array_equal(numpy_loss.cross_entropy_grad(xp, x, args), grad)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "uint64"])
def test_labels_of_any_integer_dtype(dtype):
    x = np.random.default_rng(0).normal(size=(30, 9))
    labels = np.arange(30) % 9
    assert sg.cross_entropy(x, labels.astype(dtype)) == sg.cross_entropy(x, labels)


def test_a_loss_of_options_is_that_of_its_options():
    x, labels = np.random.default_rng(0).normal(size=(30, 9)), np.arange(30) % 9
    plain = sg.cross_entropy(x, labels)
    for options in (
        {"label_smoothing": 0.1},
        {"class_weight": np.arange(9.0)},
        {"ignore_index": 3},
        {"z_loss": 0.1},
        {"reduction": "sum"},
        {"sample_weight": np.arange(30.0)},
        {"where": np.arange(9) < 8},
    ):
        with sg.backends.use("generic"):
            expected = sg.cross_entropy(x, labels, **options)
        np.testing.assert_allclose(sg.cross_entropy(x, labels, **options), expected, rtol=1e-13)
        assert expected != plain
