"""JAX's kernels as they are traced for a GPU, run on the CPU: sums in one pass, operands in half precision."""

import numpy as np
import pytest

import softgrad as sg

BOUND = {"float32": 70, "float64": 500}


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch):
    monkeypatch.setattr("softgrad._array.memory._jax_memory", lambda: 1)


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(("shape", "axis"), [((3, 1025), 1), ((2, 9001), 1), ((1500, 2), 0)])
def test_sums_of_both_at_once_keep_their_digits(shape, axis, dtype, jax):
    from softgrad.backends.jax import dense

    host = (4 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    host.ravel()[5] = 30  # sure, and tied
    host.ravel()[9] = 30
    x = jax.numpy.asarray(host)
    wide = host.astype(np.longdouble)
    most = wide.max(axis, keepdims=True)
    normalizer = most + np.log(np.sum(np.exp(wide - most), axis, keepdims=True))
    for name, exact in (("log_softmax", wide - normalizer), ("logsumexp", np.squeeze(normalizer, axis))):
        got = np.asarray(getattr(dense, name)(x, None, axis, None))
        units = np.abs(got - exact) / (np.abs(exact) * np.finfo(dtype).eps)
        assert np.max(units) <= BOUND[dtype], name


@pytest.mark.parametrize("options", [{}, {"ignore_index": 3}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 3e-3), ("bfloat16", 2e-2), ("float32", 1e-5)])
def test_the_linear_model_in_blocks_with_operands_as_they_came(dtype, tolerance, options, jax, monkeypatch):
    from softgrad._kernels import linear as linear_kernels
    from softgrad._options import LossArgs
    from softgrad.backends.jax import linear

    monkeypatch.setattr(linear_kernels, "BLOCK_BYTES", 1)
    monkeypatch.setattr(linear_kernels, "DEVICE_ROWS", (8, 16))
    n, m, k = 21, 6, 40
    rng = np.random.default_rng(1)
    X, W, b = (jax.numpy.asarray(rng.standard_normal(shape), dtype) for shape in ((n, m), (k, m), (k,)))
    labels = jax.numpy.asarray(rng.integers(0, k, n))
    wrt = ("X", "W", "bias")
    static, arrays = linear.split(LossArgs(1, labels, False, **options))
    value, got = linear.value_and_grad(X, W, b, arrays, linear.Model(static, None, wrt))
    host = [np.asarray(a).astype("float64") for a in (X, W, b)]
    want_value, want = sg.linear_cross_entropy_value_and_grad(
        host[0], np.asarray(labels), host[1], host[2], wrt=wrt, **options
    )
    for a, exact in zip((value, *got), (want_value, *want), strict=True):
        assert a.dtype == dtype
        assert np.max(np.abs(np.asarray(a).astype("float64") - exact)) <= tolerance * np.max(np.abs(exact))
