"""A product of float32 is one of float32 wherever JAX runs: on a GPU its default rounds the operands to TF32."""

import re

import numpy as np
import pytest

import softgrad as sg

pytestmark = pytest.mark.libraries("jax")

RNG = np.random.default_rng(3)
X, W, BIAS = RNG.normal(size=(6, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=4)
LABELS = RNG.integers(4, size=6)
CALLS = {
    "value": lambda X, y, W, b: sg.linear_cross_entropy(X, y, W, b),
    "gradients": lambda X, y, W, b: sg.linear_cross_entropy_value_and_grad(X, y, W, b, wrt=("W", "bias", "X")),
    "blocks": lambda X, y, W, b: sg.linear_cross_entropy_value_and_grad(X, y, W, b, block_size=2),
    "product": lambda X, y, W, b: sg.linear_cross_entropy_hvp(X, y, W, (W, b), b),
    "hessian": lambda X, y, W, b: sg.linear_cross_entropy_hessian(X, y, W, b),
    "diagonal": lambda X, y, W, b: sg.statistics.linear_cross_entropy_hessian_diag(X, y, W, b),
    "partial": lambda X, y, W, b: sg.partial.linear_partial(X, y, W, b).grad,
    "identity": lambda X, y, W, b: sg.identity.gradient_product(X.T, (y == np.arange(4)[:, None]) * X[0, 0], W.T),
}


def precisions(name, dtype):
    """The precision of each product that a call, and its derivative by W where it has one, is made of."""
    import jax
    import jax.numpy as jnp

    def call(X, y, W, b):
        return CALLS[name](X, y, W, b)

    arguments = (jnp.asarray(X, dtype), jnp.asarray(LABELS), jnp.asarray(W, dtype), jnp.asarray(BIAS, dtype))
    text = str(jax.make_jaxpr(call)(*arguments))
    if name == "value":
        text += str(jax.make_jaxpr(jax.grad(call, argnums=2))(*arguments))
    return re.findall(r"dot_general\[.*?\bprecision=(\([^)]*\)|[\w.]+)", re.sub(r"\s+", " ", text))


@pytest.mark.parametrize("name", CALLS)
def test_products_of_float32_are_in_float32(name):
    found = precisions(name, "float32")
    assert found
    assert all(each.count("HIGHEST") >= 1 for each in found), found


def test_another_precision_is_the_users():
    import jax

    for asked in ("default", "high", "tensorfloat32"):
        with jax.default_matmul_precision(asked):
            assert not any("HIGHEST" in each for each in precisions("gradients", "float32"))


def test_products_of_float64_are_left_to_jax():
    assert not any("HIGHEST" in each for each in precisions("gradients", "float64"))
