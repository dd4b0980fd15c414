"""Calls of the divergences of two softmaxes and of their gradients, some rows of each against mpmath."""

from __future__ import annotations

import numpy as np

import divergence_reference as reference
import softgrad as sg

from ._compare import alike, both, compare
from ._inputs import LD, given, like, shape_of, values_of

BOTH = ("logits", "target_logits")
#: Rows of a call that are computed in high precision, of at most so many classes.
ROWS, CLASSES = 5, 60
#: What the terms of a divergence of subnormal size are products of.
SUBNORMAL = 1e4


def divergence_call(rng, call, dtype):
    shape = shape_of(rng, call, 1)
    axis = int(rng.integers(len(shape)))
    if shape[axis] == 0:
        shape = (*shape[:axis], 3, *shape[axis + 1 :])
    values = values_of(rng, shape, dtype)
    noise = rng.choice([0.0, 1e-3, 1.0]) * rng.normal(size=shape)
    other = values_of(rng, shape, dtype) if rng.random() < 0.4 else values + noise
    (x, exact), (y, target) = (given(rng, call.library, a, dtype) for a in (values, other))
    options = {"axis": axis, "reduction": "none", "temperature": float(rng.choice([1.0, 1.0, 0.5, 3.0]))}
    beta = float(rng.choice([0.0, 1.0, 0.25, 0.5]))
    name = "kl_divergence_value_and_grad"
    if beta in (0.0, 1.0):
        options["direction"] = "reverse" if beta else "forward"
    else:
        name, options["beta"] = "js_divergence_value_and_grad", beta
    shown = np.ones(shape, bool)
    if rng.random() < 0.2:
        shown = rng.random(shape) < 0.7
        options["where"] = like(call.library, shown)
    call.function, call.options, call.note = name, options, f"{dtype} {shape}"

    def run():
        value, grads = getattr(sg, name)(x, y, wrt=BOTH, **options)
        return value, *grads

    got, generic = both(run, [x, y])
    for mine, theirs in zip(got, generic, strict=True):
        alike(mine, theirs)
    exact, target, shown = (np.moveaxis(a, axis, -1).reshape(-1, shape[axis]) for a in (exact, target, shown))
    if shape[axis] > CLASSES:
        return
    for i in rng.permutation(len(exact))[:ROWS]:
        some = shown[i]
        a, b = exact[i, some], target[i, some]
        if not some.any() or not np.isfinite([a.sum(), b.sum()]).all() or max(np.abs(a).max(), np.abs(b).max()) > 1e6:
            continue
        # a divergence may be as small as the square of the smallest probability
        spread = max(np.ptp(a), np.ptp(b), np.ptp(a - b)) / options["temperature"]
        if spread > 1500:
            continue
        reference.mp.dps = 40 + int(spread)
        expected = reference.row(a, b, beta=beta, temperature=options["temperature"])
        rows(got, generic, i, axis, some, dtype, expected, float(0.0 < beta < 1.0))


def rows(got, generic, i, axis, some, dtype, expected, floor):
    """Compare row ``i`` of the default and of the generic results."""
    for what, (value, *grads) in (("", got), ("generic ", generic)):
        want = np.asarray(LD(reference.mp.nstr(expected[0], 25)))
        compare(value.reshape(-1)[i], want, dtype, what=f"{what}value", factor=SUBNORMAL)
        for name, grad, exact in zip(BOTH, grads, expected[1:], strict=True):
            row = np.moveaxis(grad, axis, -1).reshape(-1, some.size)[i]
            want = np.zeros(some.size, LD)
            want[some] = [LD(reference.mp.nstr(g, 25)) for g in exact]
            # by Jensen-Shannon the gradient is p times differences of log(p / m), near a constant where p and q part
            compare(row, want, dtype, np.abs(want).max() + floor, f"{what}gradient by {name}", SUBNORMAL)
