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
        with reference.mp.workdps(40 + int(spread)):
            expected = reference.row(a, b, beta=beta, temperature=options["temperature"])
        rows(got, generic, i, axis, some, dtype, expected, float(0.0 < beta < 1.0))


def rows(got, generic, i, axis, some, dtype, expected, floor):
    """Compare row ``i`` of the default and of the generic results."""
    for what, (value, *grads) in (("", got), ("generic ", generic)):
        want = np.asarray(LD(reference.mp.nstr(expected[0], 25)))
        # of two that are sure of the same class the divergence may be far below what the rounding of 1 tells apart
        least = np.finfo("float64" if dtype == "float64" else "float32").eps
        compare(value.reshape(-1)[i], want, dtype, scale=least, what=f"{what}value", factor=SUBNORMAL)
        for name, grad, exact in zip(BOTH, grads, expected[1:], strict=True):
            row = np.moveaxis(grad, axis, -1).reshape(-1, some.size)[i]
            want = np.zeros(some.size, LD)
            want[some] = [LD(reference.mp.nstr(g, 25)) for g in exact]
            # by Jensen-Shannon the gradient is p times differences of log(p / m), near a constant where p and q part
            compare(row, want, dtype, np.abs(want).max() + floor + least, f"{what}gradient by {name}", SUBNORMAL)


def top_k_call(rng, call, dtype):
    """Of a teacher of which some classes are known, and who leaves a tenth of the mass to the rest."""
    shape = tuple(max(n, 1) for n in shape_of(rng, call, 1))
    axis = int(rng.integers(len(shape)))
    k = shape[axis]
    count = int(rng.integers(1, min(k, 6) + 1))
    sizes = rng.choice([0.1, 1.0, 10.0], 2)
    x, exact = given(rng, call.library, rng.normal(size=shape) * sizes[0], dtype)
    labels = np.argsort(rng.random(shape), axis).take(np.arange(count), axis)
    told = rng.normal(size=labels.shape) * sizes[1]
    told = told - np.log(np.exp(told).sum(axis, keepdims=True) / 0.9)
    y, target = given(rng, call.library, told, dtype)
    if (np.exp(target).sum(axis) > 0.95).any():
        # one row's, in all
        return
    options = {"axis": axis, "reduction": "none", "temperature": float(rng.choice([1.0, 0.5, 3.0]))}
    options |= {"rest": str(rng.choice(["lump", "renormalize"])), "direction": str(rng.choice(["forward", "reverse"]))}
    call.function, call.options, call.note = "top_k_kl_divergence_value_and_grad", options, f"{dtype} {shape} {count}"
    indices = like(call.library, labels)
    found = both(lambda: sg.top_k_kl_divergence_value_and_grad(x, y, indices, **options), [x, y, indices])
    x, y, labels = (np.moveaxis(a, axis, -1) for a in (exact, target, labels))
    value, slope, size = few_classes(x, y, labels, options)
    for what, (got, grad) in zip(("", "generic "), found, strict=True):
        compare(got, value, dtype, size, f"{what}value")
        compare(np.moveaxis(grad, axis, -1), slope, dtype, size[..., None], f"{what}gradient")


def few_classes(x, y, labels, options):
    """(divergences, gradients by the logits, what the rounding of logarithms is of), the classes last."""
    t = options["temperature"]
    e = np.exp((x - x.max(-1, keepdims=True)) / t)
    told = np.zeros(x.shape, bool)
    np.put_along_axis(told, labels, True, -1)
    p, q = np.take_along_axis(e, labels, -1), np.exp(y)
    if options["rest"] == "lump" and not told.all():
        p = np.concatenate([p, np.where(told, 0, e).sum(-1, keepdims=True)], -1)
        q = np.concatenate([q, 1 - q.sum(-1, keepdims=True)], -1)
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    d = np.log(q / p)
    reverse = options["direction"] == "reverse"
    value = -(p * d).sum(-1) if reverse else (q * d).sum(-1)
    by_few = p * (-d - value[..., None]) if reverse else p - q
    slope = np.zeros(x.shape, LD)
    if p.shape[-1] > labels.shape[-1]:
        slope = by_few[..., -1:] * e / np.where(told, 0, e).sum(-1, keepdims=True)
    np.put_along_axis(slope, labels, by_few[..., : labels.shape[-1]], -1)
    return value, slope / t, (1 + np.abs(np.log(p)).max(-1) + np.abs(np.log(q)).max(-1)) / min(t, 1)
