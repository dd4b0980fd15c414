"""Derivatives through what a mask hides: what a caller does with a 0 there may have no derivative."""

import importlib

import numpy as np
import pytest

import softgrad as sg

LOGITS = np.asarray([[0.5, -1.0, 2.0, 0.25], [1.5, 0.5, -0.75, 3.0], [-2.0, 1.0, 0.125, 0.75]])
WHERE = np.asarray([[True, False, True, True], [True, True, False, True], [False, True, True, True]])
LABELS = np.asarray([2, 0, 1])
#: The label's place among the classes that are shown.
AMONG_SHOWN = np.asarray([1, 0, 0])
VECTOR = np.asarray([[1.0, 9.0, -2.0, 0.5], [0.25, 1.0, 9.0, -1.0], [9.0, 2.0, 0.5, -0.25]])
EACH = sg.CrossEntropy(reduction="none", label_smoothing=0.1)
#: Of logits, labels, a mask and a vector, with a logarithm; each is 0 (or -inf) where a class is hidden.
FUNCTIONS = {
    "softmax": lambda x, y, w, u: sg.softmax(x, where=w),
    "softmax, high": lambda x, y, w, u: sg.softmax(x, where=w, precision="high"),
    "log_softmax": lambda x, y, w, u: -1 / sg.log_softmax(x, where=w),
    "gradient": lambda x, y, w, u: sg.CrossEntropy(reduction="none").grad(x, y, where=w),
    "gradient, smoothed": lambda x, y, w, u: EACH.grad(x, y, where=w),
    "value_and_grad": lambda x, y, w, u: EACH.value_and_grad(x, y, where=w)[1],
    "hvp": lambda x, y, w, u: EACH.hvp(x, y, u, where=w),
    "hessian_diag": lambda x, y, w, u: EACH.hessian_diag(x, y, where=w),
}


def compressed(a, where=WHERE):
    return np.asarray(a)[where].reshape(len(LABELS), -1)


@pytest.mark.parametrize("mode", ["reverse", "forward", "reverse of forward"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_entropy_of_shown_classes(name, mode, backend, asarray, to_numpy):
    """As where the hidden classes are not there at all."""
    if backend not in ("jax", "torch"):
        pytest.skip("about automatic differentiation")
    if backend == "jax":
        jax = importlib.import_module("jax")
        xp, grad, jvp, compiled = jax.numpy, jax.grad, jax.jvp, jax.jit
    else:
        xp = importlib.import_module("torch")
        grad, jvp, compiled = xp.func.grad, xp.func.jvp, lambda function: function

    def derivative(x, labels, where, vector):
        shown = xp.ones_like(x, dtype=bool) if where is None else where

        def entropy(x):
            p = FUNCTIONS[name](x, labels, where, vector)
            return -xp.where(shown, p * xp.log(abs(p)), 0).sum()

        def along(x):
            return jvp(entropy, (x,), (vector,))[1]

        return compiled({"reverse": grad(entropy), "forward": along, "reverse of forward": grad(along)}[mode])(x)

    where = asarray(WHERE, "bool")
    got = to_numpy(derivative(asarray(LOGITS), asarray(LABELS, "int64"), where, asarray(VECTOR * WHERE)))
    some = asarray(compressed(LOGITS)), asarray(AMONG_SHOWN, "int64"), None, asarray(compressed(VECTOR))
    expected = to_numpy(derivative(*some))
    if mode != "forward":
        np.testing.assert_array_equal(got[~WHERE], 0.0)
        got = compressed(got)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
