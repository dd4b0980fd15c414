"""Calls of functions that JAX compiles together with what scales their logits."""

from __future__ import annotations

import functools

import numpy as np

import softgrad as sg

from ._compare import TOLERANCE, WrongError, guarded, unit
from ._formulas import Losses, Target, dense, parts
from ._inputs import LD, given, like

#: The shapes that are compiled for.
SHAPES = ((4, 3), (64, 10))
FUNCTIONS = {
    "softmax": lambda x, y: sg.softmax(x),
    "log_softmax": lambda x, y: sg.log_softmax(x),
    "logsumexp": lambda x, y: sg.logsumexp(x, axis=-1),
    "value": lambda x, y: sg.cross_entropy(x, y, reduction="none"),
    "grad": lambda x, y: sg.cross_entropy_grad(x, y, reduction="sum"),
}


@functools.cache
def compiled(name):
    """``name``'s function of logits times a number that is told later."""
    import jax

    return jax.jit(lambda x, y, factor: FUNCTIONS[name](x * factor, y))


def scaled_call(rng, call, dtype):
    name = str(rng.choice(list(FUNCTIONS)))
    dtype = dtype if dtype in TOLERANCE and dtype.startswith("float") and dtype != "float16" else "float32"
    call.function = f"scaled {name}"
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    x, exact = given(rng, call.library, rng.normal(size=shape) + rng.choice([0.0, 25.0]), dtype)
    factor, by = given(rng, call.library, np.asarray(rng.choice([0.37, 1 / 0.0123, 913.7])), dtype)
    y = rng.integers(0, shape[1], shape[0])
    call.note = f"{dtype} {shape} times {float(by):g}"
    got = guarded(lambda: compiled(name)(x, like(call.library, y), factor), [x])
    logits, every = exact * by, np.ones(shape, bool)
    if name in ("value", "grad"):
        onehot, ones = (np.arange(shape[1]) == y[:, None]).astype(LD), np.ones(shape[0], LD)
        losses = Losses(logits, Target(onehot, 0.0, 0.0, np.ones(shape[1], LD), ones, every, y, None, ones))
        expected = losses.value if name == "value" else losses.gradient
    else:
        expected = dense(name, logits, every)
    # a product that is rounded moves each exponential by that, and so a result by as much of itself
    most = np.abs(logits).max(-1, keepdims=True)
    error = TOLERANCE[dtype] + 4 * np.finfo(dtype).eps * most
    if name == "logsumexp":
        error = error * (1 + np.abs(parts(logits, every)[1]) / np.maximum(np.abs(expected)[:, None], 1e-30))
    error = error[..., 0] if expected.ndim == 1 else error
    wrong = ~(np.abs(got - expected) <= error * np.abs(expected) + 200 * unit(dtype))
    if wrong.any():
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise WrongError(f"{name} at {at}: {got[at]!r}, expected {expected[at]!r}")
