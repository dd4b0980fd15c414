"""Derivatives of the softmax and of its logarithm keep their digits where one class is sure, whatever the size."""

import functools

import mpmath
import numpy as np
import pytest

import softgrad as sg
from softgrad.testing._autodiff import NotDifferentiableError, derivative

SIZES = [
    *((rows, classes) for rows in (1, 4, 300) for classes in (2, 10, 1000)),
    *((100_000, classes) for classes in (2, 10)),
]
#: By how much the first class is ahead of the others.
AHEAD = (0.0, 0.5, 1.0, 4.0, 19.0, 30.0)
FUNCTIONS = ("softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp")


def _problem(rows, classes, dtype):
    """(logits, cotangents, the rows to look at)."""
    rng = np.random.default_rng(rows + classes)
    x = np.round(rng.normal(size=(rows, classes)), 2) / np.sqrt(classes)
    x[:, 0] += np.resize(AHEAD, rows) + np.log(classes)
    c = rng.normal(size=(rows, classes))
    # the reference takes long for many classes: rows in which all are alike, and one is sure
    looked_at = {*range(min(6, rows)), rows - 1} if classes < 100 else {rows // 2, rows - 1}
    return x.astype(dtype), c.astype(dtype), sorted(looked_at)


def _exact(function, x, c):
    """(the derivative in full, the size of its terms) of one row, as floats."""
    # the Jacobian of the softmax is symmetric
    return _computed(tuple(x), tuple(c))["softmax_vjp" if function == "softmax_jvp" else function]


@functools.cache
def _computed(x, c):
    """Of one row the derivatives by every function: the exponentials are the dear part."""
    with mpmath.workdps(35):
        x, c = ([mpmath.mpf(float(a)) for a in row] for row in (x, c))
        e = [mpmath.exp(a) for a in x]
        total = mpmath.fsum(e)
        p = [a / total for a in e]
        top = max(range(len(p)), key=e.__getitem__)
        whole = mpmath.fsum(c)
        others = mpmath.fsum(abs(a) for i, a in enumerate(c) if i != top)
        mean = mpmath.fdot(c, p)
        apart = [abs(a - c[top]) for a in c]
        spread = mpmath.fdot(apart, p)
        slopes = [a - mean for a in c]
        # where no class has most of the sum the cotangents are taken as they are
        sizes = [a + spread + abs(b) if p[top] < 0.6 else a + spread for a, b in zip(apart, c, strict=True)]

        def times_p(values):
            return [a * b for a, b in zip(p, values, strict=True)]

        found = {
            "softmax_vjp": (times_p(slopes), times_p(sizes)),
            "log_softmax_jvp": (slopes, sizes),
            "log_softmax_vjp": (
                [a - b * whole for a, b in zip(c, p, strict=True)],
                [abs(a) * (1 - b) + b * others for a, b in zip(c, p, strict=True)],
            ),
        }
        return {name: tuple(np.array([float(a) for a in part]) for part in parts) for name, parts in found.items()}


def _check(got, function, x, c, looked_at):
    eps = np.finfo(x.dtype).eps
    for i in looked_at:
        exact, size = _exact(function, x[i], c[i])
        off = np.abs(got[i] - exact) / (eps * size)
        assert off.max() <= 120, (function, i, off.max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("rows", "classes"), SIZES)
def test_derivatives_keep_their_digits_at_every_size(rows, classes, dtype, backend, asarray, to_numpy):
    if rows > 300 and backend == "cupy":
        pytest.skip("rows beyond what the emulation does in a second")
    x, c, looked_at = _problem(rows, classes, dtype)
    for axis in (1, 0):
        x_, c_ = (asarray(np.ascontiguousarray(a if axis else a.T), dtype) for a in (x, c))
        for function in FUNCTIONS:
            value = (sg.log_softmax if function.startswith("log") else sg.softmax)(x_, axis=axis)
            got = to_numpy(getattr(sg, function)(value, c_, axis=axis))
            _check(got if axis else got.T, function, x, c, looked_at)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("rows", "classes"), [(4, 10), (300, 10), (20_000, 2)])
def test_reverse_mode_keeps_its_digits_at_every_size(rows, classes, dtype, asarray, to_numpy, xp):
    x, c, looked_at = _problem(rows, classes, dtype)
    x_, c_ = asarray(x, dtype), asarray(c, dtype)
    for function in ("softmax", "log_softmax"):
        try:
            got = derivative(lambda x, f=function: xp.sum(getattr(sg, f)(x) * c_), x_)
        except NotDifferentiableError as error:
            pytest.skip(str(error))
        _check(to_numpy(got), function + "_vjp", x, c, looked_at)


def test_a_sure_class_gets_what_the_others_give(asarray, to_numpy):
    for rows in (4, 100_000):
        probs = asarray(np.tile([1.0, 6.18e-9], (rows, 1)))
        pulled = to_numpy(sg.softmax_vjp(probs, asarray(np.tile([1.0, 0.0], (rows, 1)))))
        np.testing.assert_allclose(pulled, np.tile([6.18e-9, -6.18e-9], (rows, 1)), rtol=1e-7)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_of_nothing_nothing(function, shape, asarray, to_numpy):
    for axis in range(len(shape)):
        a = asarray(np.zeros(shape))
        assert to_numpy(getattr(sg, function)(a, a, axis=axis)).shape == shape


@pytest.mark.parametrize("function", FUNCTIONS)
def test_half_precision_and_two_dtypes_are_of_the_first(function, has_dtype, asarray, to_numpy):
    value = np.log([[0.75, 0.25]]) if function.startswith("log") else np.array([[0.75, 0.25]])
    exact = to_numpy(getattr(sg, function)(asarray(value), asarray([[1.0, -0.5]])))
    for first, second in (
        ("float16", "float16"),
        ("float16", "float32"),
        ("float32", "float64"),
        ("float64", "float32"),
    ):
        if has_dtype(first) and has_dtype(second):
            got = getattr(sg, function)(asarray(value, first), asarray([[1.0, -0.5]], second))
            assert got.dtype == asarray(value, first).dtype
            np.testing.assert_allclose(to_numpy(got), exact, rtol=2e-3 if first == "float16" else 1e-6)
