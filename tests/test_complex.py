"""logsumexp of complex numbers: the digits of the real one, and its derivatives."""

import mpmath
import numpy as np
import pytest

import oracle
import softgrad as sg
from torch_second_order import second_order_holds

RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def complex_here(has_dtype):
    if not has_dtype("complex128"):
        pytest.skip("no complex128 here")


@pytest.mark.parametrize(("dtype", "rtol"), [("complex128", 1e-15), ("complex64", 1e-6)])
@pytest.mark.parametrize("turned", [0.0, 2.5], ids=["real", "turned"])
def test_a_result_near_zero_keeps_its_digits(turned, dtype, rtol, asarray, to_numpy):
    z = np.array([1j * turned, -40.0])
    got = to_numpy(sg.logsumexp(asarray(z, dtype)))
    z = z.astype(dtype)
    with mpmath.workdps(oracle.DIGITS):
        exact = mpmath.log(mpmath.exp(mpmath.mpc(complex(z[0]))) + mpmath.exp(-40))
    np.testing.assert_allclose(got.real, float(exact.real), rtol=rtol)
    np.testing.assert_allclose(got.imag, float(exact.imag), rtol=rtol)


@pytest.mark.parametrize("scale", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("factors", [False, True])
def test_against_multiprecision(factors, scale, asarray, to_numpy):
    z = RNG.normal(size=(40, 5)) * scale + 1j * RNG.uniform(-9, 9, size=(40, 5))
    b = RNG.normal(size=z.shape) + 1j * RNG.normal(size=z.shape)
    b[RNG.random(z.shape) < 0.2] = 0
    b[:, 3] = 1
    given = {"b": asarray(b, "complex128")} if factors else {}
    got = to_numpy(sg.logsumexp(asarray(z, "complex128"), axis=1, **given))
    log, phase = sg.logsumexp(asarray(z, "complex128"), axis=1, return_sign=True, **given)
    for row, weights, value, size, turn in zip(z, b, got, to_numpy(log), to_numpy(phase), strict=True):
        with mpmath.workdps(oracle.DIGITS):
            terms = [
                mpmath.exp(mpmath.mpc(complex(a))) * (mpmath.mpc(complex(w)) if factors else 1)
                for a, w in zip(row, weights, strict=True)
            ]
            total = mpmath.fsum(terms)
            exact, cancelled = mpmath.log(total), max(map(abs, terms)) / abs(total)
        off = 1e-14 * float(cancelled)
        np.testing.assert_allclose(value.real, float(exact.real), rtol=1e-15, atol=off)
        np.testing.assert_allclose(size, float(exact.real), rtol=1e-15, atol=off)
        np.testing.assert_allclose(value.imag, float(exact.imag), atol=off)
        np.testing.assert_allclose(turn, complex(mpmath.exp(1j * exact.imag)), atol=off)


def test_a_factor_of_zero_hides_an_infinity(asarray, to_numpy):
    z, b = asarray(np.array([np.inf + 0j, 1.0, 2.0j]), "complex128"), asarray(np.array([0j, 1.0, 1.0]), "complex128")
    np.testing.assert_allclose(to_numpy(sg.logsumexp(z, b=b)), np.log(np.exp(1.0) + np.exp(2.0j)), rtol=1e-14)


@pytest.mark.libraries("torch")
def test_every_mode_of_autograd_is_right(backend, asarray):
    import torch

    x = asarray(RNG.normal(size=(2, 2)) + 1j * RNG.normal(size=(2, 2)), "complex128").requires_grad_()
    b = asarray(RNG.normal(size=(2, 2)) + 0j, "complex128")
    b[0, 1] = 0
    b.requires_grad_()
    for function, given in (
        (lambda x: sg.logsumexp(x, axis=1), (x,)),
        (lambda x: sg.logsumexp(x, axis=1, return_sign=True), (x,)),
        (lambda x, b: sg.logsumexp(x, axis=1, b=b), (x, b)),
    ):
        assert torch.autograd.gradcheck(function, given, check_forward_ad=True, check_batched_forward_grad=True)
        assert second_order_holds(function, given, check_fwd_over_rev=True)


@pytest.mark.libraries("jax")
def test_the_derivative_by_a_factor_of_zero_is_right_in_jax(backend, asarray, to_numpy):
    import jax

    z, b = np.array([0.5 + 1j, -1.0, 2.0 - 0.5j]), np.array([1.0 + 0j, 0.0, 2.0])
    grad = jax.grad(lambda b: sg.logsumexp(asarray(z, "complex128"), b=b), holomorphic=True)(asarray(b, "complex128"))
    np.testing.assert_allclose(to_numpy(grad), np.exp(z) / np.sum(b * np.exp(z)), rtol=1e-13)
