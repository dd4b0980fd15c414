"""Scaled logits: softcap, temperature and shift, as differences to the largest that lose no digits."""

import math

import mpmath
import numpy as np
import pytest

from marks import late, late_on_jax
from softgrad._array.namespace import library
from softgrad._kernels.dense import mask_logits
from softgrad._kernels.scaling import Scaling, bend, scaled_shift, slope
from softgrad.testing._autodiff import NotDifferentiableError, derivative

RNG = np.random.default_rng(5)
#: Near one another, far apart, and beyond where a softcap saturates.
LOGITS = np.concatenate([RNG.normal(size=(3, 6)) * size + size for size in (1e-3, 1.0, 30.0, 400.0)])
LOGITS[0, 1:3] = LOGITS[0].max()
SHIFT = RNG.normal(size=6) * 10
#: Numbers that float32 holds.
TEMPERATURES, SOFTCAPS = (1.0, 0.0123046875, 37.3125), (None, 30.0, 5.5)
#: With and without a shift in turn; each with each in full.
SCALINGS = [
    pytest.param(t, c, s, id=f"{t}-{c}-{'shift' if s else 'none'}", marks=[] if (i + j + s) % 2 else [pytest.mark.full])
    for i, t in enumerate(TEMPERATURES)
    for j, c in enumerate(SOFTCAPS)
    for s in (False, True)
]


def of(xp_array, temperature, softcap, shift):
    return Scaling(temperature, softcap, None if shift is None else xp_array(shift[None, :]))


def exact(x, temperature, softcap, shift):
    """The scaled logits of a row as mpf, in digits that tell apart what a softcap squeezes."""
    x = [mpmath.mpf(float(a)) for a in x]
    if softcap is not None:
        x = [softcap * mpmath.tanh(a / softcap) for a in x]
    shift = [0.0] * len(x) if shift is None else shift
    return [a / mpmath.mpf(temperature) + mpmath.mpf(float(b)) for a, b in zip(x, shift, strict=True)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "compensated",
    [late(False, "dask", id="default"), pytest.param(True, id="compensated")],
)
@pytest.mark.parametrize(("temperature", "softcap", "shifted"), SCALINGS)
@late_on_jax
def test_differences_are_those_of_exact_logits(temperature, softcap, shifted, compensated, dtype, asarray, to_numpy):
    x = LOGITS.astype(dtype)
    shift = SHIFT.astype(dtype) if shifted else None
    a = asarray(x)
    xp = library(a, "x").xp
    row = scaled_shift(xp, a, 1, compensated, of(asarray, temperature, softcap, shift))
    d, m, rest = (to_numpy(part).astype(np.float64) for part in (row.d, row.m, row.sum_ex_max))
    lo = np.zeros_like(d) if row.lo is None else to_numpy(row.lo).astype(np.float64)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    exactly_compensated = compensated and softcap is None and (temperature, shifted) != (1.0, False)
    bound = 0.01 if exactly_compensated else 8
    if softcap is not None:
        # the rounding of the logits themselves, where the tanh is nearly 1
        bound = bound * (1 + np.abs(x).max(axis=1) / softcap)
    bound = np.broadcast_to(bound, len(x))
    with mpmath.workdps(500):
        for i in range(len(x)):
            z = exact(x[i], temperature, softcap, shift)
            top = int(np.flatnonzero(d[i] == 0)[0])
            assert z[top] >= max(z) - 4 * eps * abs(max(z))
            assert abs(m[i, 0] - z[top]) <= 4 * eps * max(abs(z[top]), abs(z[top] - (shift[top] if shifted else 0)))
            for j in range(x.shape[1]):
                step = abs(float(shift[j]) - float(shift[top])) if shifted else 0.0
                off = abs(mpmath.mpf(d[i, j]) + mpmath.mpf(lo[i, j]) - (z[j] - z[top]))
                assert off <= bound[i] * eps * max(abs(z[j] - z[top]), step) + 10 * tiny, (i, j)
            size = mpmath.fsum(mpmath.exp(a - z[top]) for j, a in enumerate(z) if j != top)
            steep = 1 + max(min(abs(a - z[top]), 700) for a in z) + (40 if shifted else 0)
            assert abs(rest[i, 0] - size) <= 8 * steep * eps * size + 10 * tiny


def test_the_identity_is_the_plain_shift(asarray, to_numpy):
    a = asarray(LOGITS)
    xp = library(a, "x").xp
    row = scaled_shift(xp, a, 1, False, Scaling())
    np.testing.assert_array_equal(to_numpy(row.d), LOGITS - LOGITS.max(axis=1, keepdims=True))


@pytest.mark.parametrize(("temperature", "softcap", "shifted"), SCALINGS)
def test_slope_and_bend_are_the_derivatives(temperature, softcap, shifted, asarray, to_numpy):
    x = np.asarray([[-1e30, -400.0, -3.0, -1e-9, 0.0, 2.0, 70.0, math.inf, -math.inf]])
    a = asarray(x)
    xp = library(a, "x").xp
    scaling = Scaling(temperature, softcap)
    first, second = slope(xp, a, scaling), bend(xp, a, scaling)
    if softcap is None:
        assert (first, second) == (1 / temperature, None)
        return
    for j, value in enumerate(x[0]):
        with mpmath.workdps(60):
            t = mpmath.tanh(mpmath.mpf(float(value)) / softcap)
            sech2 = 0 if math.isinf(value) else mpmath.sech(mpmath.mpf(float(value)) / softcap) ** 2
            expected = float(sech2 / temperature), float(-2 * t * sech2 / softcap / temperature)
        np.testing.assert_allclose(to_numpy(first)[0, j], expected[0], rtol=2e-13, atol=1e-300)
        np.testing.assert_allclose(to_numpy(second)[0, j], expected[1], rtol=2e-13, atol=1e-300)


@pytest.mark.parametrize(("temperature", "softcap", "shifted"), SCALINGS)
def test_automatic_differentiation_is_right_at_ties_too(temperature, softcap, shifted, backend, asarray, to_numpy):
    x = np.asarray([[0.0, 0.0, -1.0, 0.5, 0.5, 0.25], [3.0, -3.0, 3.0, 0.0, 1.0, -2.0]])
    shift = np.asarray([1.0, 1.0, 0.0, -3.0, -3.0, 0.5]) if shifted else None

    def function(a):
        xp = library(a, "x").xp
        row = scaled_shift(xp, a, 1, False, of(asarray, temperature, softcap, shift))
        return xp.sum((row.m + xp.log1p(row.sum_ex_max))[:, 0])

    a = asarray(x)
    xp = library(a, "x").xp
    try:
        got = to_numpy(derivative(function, a))
    except NotDifferentiableError:
        pytest.skip(f"{backend} has no automatic differentiation")
    z = (x if softcap is None else softcap * np.tanh(x / softcap)) / temperature + (0 if shift is None else shift)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got, p * to_numpy(slope(xp, a, Scaling(temperature, softcap))), rtol=1e-12)


@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("shifted", [False, True])
@late_on_jax
def test_hidden_classes_and_infinities(softcap, shifted, asarray, to_numpy):
    inf = math.inf
    x = np.asarray([[1.0, 2.0, inf], [1.0, -inf, 2.0], [3.0, 4.0, 5.0], [1.0, math.nan, 2.0]])
    where = np.asarray([[True, True, False], [True, True, True], [False, False, False], [True, False, True]])
    shift = np.asarray([0.0, 0.5, 900.0]) if shifted else np.zeros(3)
    a, mask = asarray(x), asarray(where, "bool")
    xp = library(a, "x").xp
    hidden = mask_logits(xp, a, 1, mask)[0]
    row = scaled_shift(xp, hidden, 1, False, of(asarray, 0.5, softcap, shift if shifted else None), mask)
    got = to_numpy(row.m + xp.log1p(row.sum_ex_max))[:, 0]
    with np.errstate(all="ignore"):
        z = (x if softcap is None else softcap * np.tanh(x / softcap)) / 0.5 + shift
    for i in (0, 1, 3):
        seen = z[i][where[i]]
        np.testing.assert_allclose(got[i], seen.max() + np.log(np.exp(seen - seen.max()).sum()), rtol=1e-13)
    assert np.isfinite(got[2])
    assert (to_numpy(row.e)[[0, 3], [2, 1]] == 0).all()
