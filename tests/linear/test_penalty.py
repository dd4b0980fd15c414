"""The penalty of the linear model: in half precision a result is rounded once, with the penalty in it."""

import contextlib

import numpy as np
import pytest

import softgrad as sg
from marks import late

RNG = np.random.default_rng(23)
N, M, K, L2 = 50, 4, 5, 0.3


@pytest.fixture(params=["float16", "bfloat16"])
def half(request, has_dtype):
    if not has_dtype(request.param):
        pytest.skip(f"no {request.param}")
    return request.param


# of Dask's arrays the generic kernels make graphs that take long, and nobody uses them; JAX compiles either
@pytest.mark.parametrize("generic", [False, late(True, "dask", "jax")])
@pytest.mark.parametrize("classes", [None, (3, 1)])
@pytest.mark.parametrize("k", [5, 40])
def test_half_precision_is_rounded_once(k, classes, generic, half, asarray, to_numpy):
    X, W, bias, V = (asarray(RNG.normal(size=shape), half) for shape in ((N, M), (k, M), (k,), (k, M)))
    labels = RNG.integers(0, k, N)
    exact = [to_numpy(a).astype(np.float64) for a in (X, W, bias, V)]
    names = ("W", "bias", "X")
    with sg.backends.use("generic") if generic else contextlib.nullcontext():

        def results(labels, X, W, bias, V):
            value, grads = sg.linear_cross_entropy_value_and_grad(X, labels, W, bias, l2=L2, wrt=names, classes=classes)
            hvp = sg.linear_cross_entropy_hvp(X, labels, W, V, bias, l2=L2, wrt="W")
            blocks = sg.linear_cross_entropy_hessian(X, labels, W, bias, l2=L2) if k == K else ()
            value_alone = sg.linear_cross_entropy(X, labels, W, bias, l2=L2)
            return [value, value_alone, *grads, hvp, *(block for row in blocks for block in row)]

        found = results(asarray(labels, "int64"), X, W, bias, V)
        for mine, wanted in zip(found, results(labels, *exact), strict=True):
            assert half in str(mine.dtype)
            got = to_numpy(mine).astype(np.float64)
            digits = 11 if half == "float16" else 8
            unit = 2.0 ** np.maximum(np.floor(np.log2(np.abs(wanted))) + 1 - digits, -24 if half == "float16" else -133)
            # half a unit, and what single precision adds to it
            assert (np.abs(got - wanted) <= 0.5 * unit + 2e-6 * np.abs(wanted) + 1e-7).all()
