"""Calls of log-probabilities of labels, of the entropy, and of their derivatives."""

from __future__ import annotations

import numpy as np

import softgrad as sg

from ._compare import TOLERANCE, both, compare
from ._dense import mask_of
from ._formulas import dense, parts
from ._inputs import LD, given, like, shape_of, values_of


def log_probs_call(rng, call, dtype):
    call.function = str(rng.choice(["log_probs", "log_probs_vjp", "entropy", "entropy_vjp"]))
    shape = shape_of(rng, call, 1)
    axis = int(rng.integers(len(shape)))
    if shape[axis] == 0:
        shape = (*shape[:axis], 3, *shape[axis + 1 :])
    x, exact = given(rng, call.library, values_of(rng, shape, dtype), dtype)
    options = call.options = {"axis": axis - (len(shape) if rng.random() < 0.5 else 0)}
    shown = np.ones(shape, bool)
    if rng.random() < 0.2:
        options["where"], shown = mask_of(rng, call.library, shape)
    if rng.random() < 0.1:
        options["precision"] = "high"
    samples, k = shape[:axis] + shape[axis + 1 :], shape[axis]
    several = int(rng.integers(1, 4)) if rng.random() < 0.6 else 0
    y = rng.integers(0, k, (*samples, several or 1))
    if rng.random() < 0.1:
        y = np.where(rng.random(y.shape) < 0.2, int(rng.choice([-1, k, 100])), y)
    of_labels = call.function.startswith("log_probs")
    c = np.round(rng.normal(size=y.shape if of_labels else (*samples, 1)), 2)
    # 0 leaves a sample out whatever stands in it, or is a factor of its NaN, by the kernel
    c = np.where(c == 0, 0.5, c) if of_labels and several else np.where(c == 0, 0.5, c)[..., 0]
    cotangent, c = given(rng, call.library, np.moveaxis(c, -1, axis) if of_labels and several else c, dtype)
    arguments = [x]
    if of_labels:
        arguments.append(like(call.library, np.moveaxis(y, -1, axis) if several else y[..., 0]))
    if call.function.endswith("_vjp"):
        arguments.append(cotangent)
    call.note = f"{dtype} {shape} labels {several}"
    results = both(lambda: getattr(sg, call.function)(*arguments, **options), arguments)
    c = np.moveaxis(c, axis, -1) if of_labels and several else c[..., None]
    rows, mask = np.moveaxis(exact, axis, -1), np.moveaxis(shown, axis, -1)
    expected, size, keeps = formula(call.function, rows, mask, y, c)
    keeps = keeps or (call.function == "log_probs" and several)
    moved = (lambda a: np.moveaxis(a, -1, axis)) if keeps else (lambda a: a[..., 0])
    factor = 1 + np.abs(c).sum(-1).max(initial=0) if call.function.endswith("_vjp") else 1
    # an exponential that is not 0 is of a gap of up to 750, which it is multiplied by
    factor = 750 * factor if call.function.startswith("entropy") else factor
    for what, result in zip(("", "generic "), results, strict=True):
        compare(result, moved(expected), dtype, moved(size), what + call.function, factor)


def formula(function, x, shown, y, c):
    """(what a function has to give, the size of its terms, whether it has the classes), classes last."""
    fine, m, e, rest = parts(x, shown)
    s = 1 + rest
    log_p = dense("log_softmax", x, shown)
    p = np.where(fine, e / s, np.nan)
    some = shown.any(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        d = np.where(e > 0, x - np.where(fine, m, 0), LD(0))
    mean = (e * d).sum(-1, keepdims=True) / s
    if function == "entropy":
        h = np.where(some, np.where(fine, np.log1p(rest) - mean, np.nan), 0)
        return h, np.abs(np.where(np.isfinite(h), h, 0)), False
    if function == "entropy_vjp":
        g = c * p * (mean - d)
        size = np.abs(c) * np.where(fine, e / s, 0) * (np.abs(mean) + np.abs(d))
        return np.where(shown, g, 0), size, True
    k = x.shape[-1]
    valid = (y >= 0) & (y < k)
    safe = np.where(valid, y, 0)
    if function == "log_probs":
        out = np.where(valid, np.take_along_axis(log_p, safe, -1), np.nan)
        return out, np.abs(np.where(np.isfinite(out), out, 0)), False
    c = np.where(np.take_along_axis(shown, safe, -1), c, 0)
    others = np.where(e == 1, rest, s - e) / s
    g, size = np.zeros(x.shape, LD), np.zeros(x.shape, LD)
    for i in range(y.shape[-1]):
        hot = np.arange(k) == safe[..., i : i + 1]
        each = c[..., i : i + 1]
        part = np.where(hot, others, -e / s)
        g, size = g + each * part, size + np.abs(each * part)
    bad = ~valid.all(-1, keepdims=True) | ~fine
    g = np.where(bad, np.nan, g)
    return np.where(shown, g, 0), np.where(bad, 0, size), True


def linear_log_probs_call(rng, call, dtype):
    n, m, k = int(rng.choice([1, 7, 20, 130])), int(rng.choice([1, 3, 8])), int(rng.choice([1, 2, 7, 33, 130]))
    if call.library == "jax":
        n, m, k = 20, 3, 17
    axis, several = int(rng.random() < 0.3), int(rng.integers(1, 4))
    X, x = given(rng, call.library, turned(axis, rng.normal(size=(n, m))), dtype)
    W, w = given(rng, call.library, turned(axis, rng.normal(size=(k, m)) * rng.choice([0.1, 1.0, 5.0])), dtype)
    x, w = turned(axis, x), turned(axis, w)
    y = rng.integers(0, k, (n, several))
    labels = like(call.library, turned(axis, y))
    c, exact = given(rng, call.library, turned(axis, rng.normal(size=(n, several))), dtype)
    pair = c, given(rng, call.library, rng.normal(size=n), dtype)
    call.function = str(rng.choice(["linear_log_probs", "linear_log_probs_vjp"]))
    call.options = {"sample_axis": axis, "block_size": [None, 1, 5][int(rng.integers(3))]}
    call.note = f"{dtype} {(n, m, k)} labels {several}"
    z = x @ w.T
    shown, size = np.ones(z.shape, bool), (np.abs(x) @ np.abs(w).T).max(-1, keepdims=True)
    # a logit is off by the rounding of its sum, and its exponential by that
    rounding = (m + 8) * np.finfo("float64" if dtype == "float64" else "float32").eps / TOLERANCE[dtype]
    if call.function == "linear_log_probs":
        count = int(rng.integers(0, min(k, 4) + 1))
        options = {**call.options, "entropy": True, "top_k": count}
        found = both(lambda: pick(sg.linear_log_probs(X, labels, W, **options)), [X, labels, W])
        for what, result in zip(("", "generic "), found, strict=True):
            scale = 1 + 8 * rounding * size * (1 + size)
            expected = formula("log_probs", z, shown, y, None)[0]
            compare(turned(axis, result[0]), expected, dtype, np.abs(expected) + scale, what + "log_probs")
            h = formula("entropy", z, shown, y, None)[0][:, 0]
            compare(result[1], h, dtype, np.abs(h) + scale[:, 0], what + "entropy")
        return
    second, ce = pair[1]
    g = formula("log_probs_vjp", z, shown, y, turned(axis, exact))[0]
    g = g + formula("entropy_vjp", z, shown, y, ce[:, None])[0]
    factor = (np.abs(turned(axis, exact)).sum(-1) + np.abs(ce))[:, None]
    error = (1 + 8 * rounding * size) * factor * (1 + size)
    arguments = [X, labels, W, None, (c, second)]
    found = both(lambda: sg.linear_log_probs_vjp(*arguments, wrt=("W", "X"), **call.options), [X, labels, W, c, second])
    for what, (by_W, by_X) in zip(("", "generic "), found, strict=True):
        spread = np.broadcast_to(error, z.shape)
        compare(turned(axis, by_W), g.T @ x, dtype, (n + 4) * (spread.T @ np.abs(x)), what + "W")
        compare(turned(axis, by_X), g @ w, dtype, spread @ np.abs(w), what + "X")


def turned(axis, a):
    return a.T if axis else a


def pick(found):
    return found.log_probs, found.entropy
