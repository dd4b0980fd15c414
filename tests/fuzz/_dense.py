"""Calls of the dense functions and of their derivatives."""

from __future__ import annotations

import numpy as np

import softgrad as sg

from ._compare import WrongError, alike, both, compare
from ._formulas import dense, parts, pull, rows_of
from ._inputs import given, like, shape_of, values_of


def dense_call(rng, call, dtype):
    library = call.library
    call.function = str(rng.choice(["softmax", "log_softmax", "logsumexp"]))
    x, exact = given(rng, library, values_of(rng, shape_of(rng), dtype), dtype)
    axes = tuple(range(exact.ndim))
    axis = None
    if rng.random() < 0.8 and exact.ndim:
        axis = int(rng.integers(-exact.ndim, exact.ndim))
        axes = (axis % exact.ndim,)
        if exact.ndim > 1 and rng.random() < 0.15:
            axes = tuple(sorted(rng.choice(exact.ndim, 2, replace=False).tolist()))
            axis = axes
    options = call.options = {"axis": axis}
    if rng.random() < 0.15:
        options["precision"] = "high"
    shown = np.ones(exact.shape, bool)
    if rng.random() < 0.2:
        shape = tuple(n if rng.random() < 0.8 else 1 for n in exact.shape)
        mask = rng.random(shape) < rng.choice([0.3, 0.8])
        shown = np.broadcast_to(mask, exact.shape)
        options["where"] = like(library, mask)
    call.note = f"{dtype} {exact.shape}"
    function = getattr(sg, call.function)
    got, generic = both(lambda: function(x, **options), [x])
    if any(exact.shape[a] == 0 for a in axes) and call.function == "logsumexp":
        assert np.isneginf(got).all()
        return
    flat, back = rows_of(exact, axes)
    mask, _ = rows_of(shown, axes)
    result = dense(call.function, flat, mask)
    scale = None
    if call.function == "logsumexp":
        fine, m, _, _ = parts(flat, mask)
        scale = np.where(fine, np.abs(np.where(fine, m, 0)), 0)[..., 0]
    expected = result if call.function == "logsumexp" else back(result)
    compare(got, expected, dtype, scale, call.function)
    compare(generic, expected, dtype, scale, "generic")


def signed_call(rng, call, dtype):
    call.function = "logsumexp"
    shape = shape_of(rng, 1)
    x, exact = given(rng, call.library, values_of(rng, shape, dtype), dtype)
    b, factors = given(rng, call.library, np.round(rng.normal(size=shape) * 2, 2), dtype)
    options = call.options = {"axis": int(rng.integers(len(shape))), "return_sign": True, "b": b}
    call.note = f"{dtype} {shape} b"
    got, generic = both(lambda: sg.logsumexp(x, **options), [x, b])
    for mine, theirs in zip(got, generic, strict=True):
        alike(mine, theirs)
    if not exact.size or not np.isfinite(exact).all():
        return
    axis = options["axis"]
    m = exact.max(axis, keepdims=True)
    terms = factors * np.exp(exact - m)
    s, size = terms.sum(axis), np.abs(terms).sum(axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = m.squeeze(axis) + np.log(np.abs(s))
        condition = np.abs(m.squeeze(axis)) + np.abs(np.log(np.abs(s))) + 4 * size / np.abs(s)
    fine = np.abs(s) > 1e-3 * size
    compare(np.where(fine, got[0], 0), np.where(fine, value, 0), dtype, np.where(fine, condition, 0), "logsumexp")
    if not np.array_equal(got[1][fine], np.sign(s[fine]).astype(float)):
        raise WrongError("sign of the sum")


def pull_call(rng, call, dtype):
    call.function = str(rng.choice(["softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"]))
    shape = shape_of(rng, 1)
    axis = int(rng.integers(-len(shape), len(shape)))
    scale = rng.choice([0.1, 1.0, 10.0, 60.0])
    logits = np.moveaxis(rng.normal(size=shape) * scale, axis, -1)
    function = "log_softmax" if call.function.startswith("log") else "softmax"
    rows = dense(function, logits, np.ones(logits.shape, bool))
    if rng.random() < 0.1:
        rows = np.where(rng.random(rows.shape) < 0.1, -np.inf if function == "log_softmax" else 0, rows)
    first, a = given(rng, call.library, np.moveaxis(rows, -1, axis), dtype)
    along = rng.normal(size=shape) * rng.choice([1e-3, 1.0, 100.0])
    if rng.random() < 0.1:
        along = np.where(rng.random(shape) < 0.05, rng.choice([np.nan, np.inf, 0.0]), along)
    second, t = given(rng, call.library, along, dtype)
    call.options = {"axis": axis}
    call.note = f"{dtype} {shape}"
    got, generic = both(lambda: getattr(sg, call.function)(first, second, axis=axis), [first, second])
    alike(got, generic, call.function)
    expected, size = pull(call.function, np.moveaxis(a, axis, -1), np.moveaxis(t, axis, -1))
    fine = np.broadcast_to(np.isfinite(np.moveaxis(t, axis, -1)).all(-1, keepdims=True), expected.shape)
    expected, size = (np.moveaxis(np.where(fine, each, 0), -1, axis) for each in (expected, 8 * size))
    fine = np.moveaxis(fine, -1, axis)
    for what, result in (("", got), ("generic ", generic)):
        compare(np.where(fine, result, 0), expected, dtype, size, what + call.function)
