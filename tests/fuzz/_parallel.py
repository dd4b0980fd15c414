"""Calls of the loss with its classes split over threads that stand for processes."""

from __future__ import annotations

import importlib

import numpy as np

import parallel_cases
import softgrad as sg
from softgrad import parallel

from ._compare import TOLERANCE, WrongError, guarded
from ._inputs import given, host, shape_of
from ._loss import scaled_options, target_of

NAMES = {"numpy": "numpy", "torch": "torch", "jax": "jax.numpy"}


def parallel_call(rng, call, dtype):
    xp = importlib.import_module(NAMES[call.library])
    shape = shape_of(rng, call, 1)
    axis = int(rng.integers(len(shape)))
    k = max(2, shape[axis])
    shape = (*shape[:axis], k, *shape[axis + 1 :])
    scale = rng.choice([1e-3, 1.0, 10.0, 40.0])
    values = np.where(rng.random(shape) < 0.02, -np.inf, rng.normal(size=shape) * scale)
    x, _ = given(rng, call.library, values, dtype)
    samples = shape[:axis] + shape[axis + 1 :]
    _, fields, beside, labels = target_of(rng, call.library, dtype, samples, k, axis)
    fields |= scaled_options(rng, call.library, dtype, k)
    fields |= {"axis": axis, "reduction": str(rng.choice(["none", "sum", "mean"]))}
    # cuts at any class, now and then shares of one
    inner = rng.choice(np.arange(1, k), size=min(k - 1, int(rng.integers(0, 4))), replace=False)
    cuts = [0, *sorted(int(i) for i in inner), k]
    call.function, call.options, call.note = "parallel", {**fields, **beside}, f"{dtype} {shape} cut at {cuts}"
    meeting = parallel_cases.Threads(len(cuts) - 1, xp.maximum, lambda a, b: a + b)

    def share(a, part, along):
        return a[(*(slice(None),) * along, part)]

    def one(rank, reduce):
        part = slice(cuts[rank], cuts[rank + 1])
        options = {**fields, **beside}
        for name, along in (("class_weight", 0), ("logit_shift", 0), ("where", axis)):
            if name in options:
                options[name] = share(options[name], part, along)
        y = share(labels, part, axis) if labels.ndim == len(shape) else labels
        options |= {"first_class": cuts[rank], "reduce": reduce}
        with np.errstate(all="ignore"):
            return host(parallel.cross_entropy_value_and_grad(share(x, part, axis), y, **options))

    loss = sg.CrossEntropy(**fields)
    value, grad = guarded(lambda: loss.value_and_grad(x, labels, **beside), [x, labels, *beside.values()])
    found = meeting.run(one)
    for mine, _ in found:
        _close(mine, value, dtype, np.abs(value), "loss")
    if fields["reduction"] == "mean" and not host(loss.total_weight(x, labels, **beside)):
        # over nothing but labels that are no class: NaN times 0 here
        return
    slopes = np.concatenate([slope for _, slope in found], axis=axis)
    with np.errstate(all="ignore"):
        most = np.abs(grad).max(axis=axis, keepdims=True, initial=0.0)
    _close(slopes, grad, dtype, np.broadcast_to(most, grad.shape), "gradient")


def _close(got, expected, dtype, size, what):
    """Both are rounded, and what is scaled is of logits up to some hundreds."""
    with np.errstate(all="ignore"):
        near = np.abs(got - expected) <= 4 * TOLERANCE[dtype] * np.maximum(size, 1e-3)
    wrong = ~(near | (got == expected) | (np.isnan(got) & np.isnan(expected)))
    if got.shape != expected.shape or wrong.any():
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise WrongError(f"{what} at {at}: {got[at]!r}, expected {expected[at]!r}")
