"""Calls of the dense functions and of their derivatives."""

from __future__ import annotations

import numpy as np

import softgrad as sg

from ._compare import WrongError, alike, both, compare
from ._formulas import dense, parts, pull, rows_of, signed
from ._inputs import LD, given, like, shape_of, values_of

#: Each promotes those after it; of the half precisions none is the other's.
FLOATS = ("float64", "float32")


def axes_of(rng, ndim):
    """(An axis, some or None for all; the same as a tuple)."""
    if rng.random() >= 0.8 or not ndim:
        return None, tuple(range(ndim))
    axis = int(rng.integers(-ndim, ndim))
    if ndim > 1 and rng.random() < 0.15:
        axes = tuple(sorted(rng.choice(ndim, 2, replace=False).tolist()))
        return axes, axes
    return axis, (axis % ndim,)


def some_of(rng, shape):
    """A shape that broadcasts to ``shape``."""
    return tuple(n if rng.random() < 0.8 else 1 for n in shape)


def mask_of(rng, library, shape):
    """(A mask that broadcasts to ``shape``, the whole of it)."""
    mask = rng.random(some_of(rng, shape)) < rng.choice([0.3, 0.8])
    if mask.ndim > 1 and rng.random() < 0.2:
        mask[rng.random(mask.shape[0]) < 0.3] = False
    return like(library, mask), np.broadcast_to(mask, shape)


def dense_call(rng, call, dtype):
    library = call.library
    call.function = str(rng.choice(["softmax", "log_softmax", "logsumexp"]))
    x, exact = given(rng, library, values_of(rng, shape_of(rng, call), dtype), dtype)
    axis, axes = axes_of(rng, exact.ndim)
    options = call.options = {"axis": axis}
    if rng.random() < 0.15:
        options["precision"] = "high"
    shown = np.ones(exact.shape, bool)
    if rng.random() < 0.2:
        options["where"], shown = mask_of(rng, library, exact.shape)
    if call.function == "logsumexp" and rng.random() < 0.2:
        options["keepdims"] = True
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
        scale, result = (kept(a, exact.shape, axes, options) for a in (scale, result))
    expected = result if call.function == "logsumexp" else back(result)
    compare(got, expected, dtype, scale, call.function)
    compare(generic, expected, dtype, scale, "generic")


def kept(a, shape, axes, options):
    """A result by row, with the axes that ``keepdims`` asks for."""
    return a.reshape([1 if i in axes else n for i, n in enumerate(shape)]) if options.get("keepdims") else a


def factors_of(rng, call, shape, dtype):
    """(factors as they are handed over, the exact ones in full, the array among them)."""
    if rng.random() < 0.1:
        # of few digits: exact in every format
        number = float(rng.integers(-12, 13) / 4)
        return number, np.full(shape, LD(number)), []
    values = np.round(rng.normal(size=some_of(rng, shape) if rng.random() < 0.3 else shape) * 2, 2)
    values = np.where(rng.random(values.shape) < rng.choice([0.0, 0.2]), 0.0, values)
    b, exact = given(rng, call.library, np.abs(values) if rng.random() < 0.2 else values, dtype)
    return b, np.broadcast_to(exact, shape), [b]


def signed_call(rng, call, dtype):
    call.function = "logsumexp"
    x, exact = given(rng, call.library, values_of(rng, shape_of(rng, call), dtype), dtype)
    shape = exact.shape
    beside = str(rng.choice(["float64", "float32"])) if rng.random() < 0.3 else dtype
    b, factors, arrays = factors_of(rng, call, shape, beside)
    note = f"{dtype} {shape} b {beside if arrays else 'a number'}"
    if arrays and (dtype not in FLOATS or beside in FLOATS[: FLOATS.index(dtype)]):
        dtype = beside
    axis, axes = axes_of(rng, len(shape))
    options = call.options = {"axis": axis, "b": b, "return_sign": bool(rng.random() < 0.7)}
    shown = np.ones(shape, bool)
    if rng.random() < 0.3:
        options["where"], shown = mask_of(rng, call.library, shape)
        arrays = [*arrays, options["where"]]
    if rng.random() < 0.3:
        options["keepdims"] = True
    if rng.random() < 0.15:
        options["precision"] = "high"
    call.note = note
    results = both(lambda: sg.logsumexp(x, **options), [x, *arrays])
    rows, weights, mask = (rows_of(a, axes)[0] for a in (exact, factors, shown))
    value, sign, condition, fine = signed(rows, weights, mask)
    if not options["return_sign"]:
        value = np.where(sign < 0, np.nan, value)
    value, sign, condition, fine = (kept(a, shape, axes, options) for a in (value, sign, condition, fine))
    for what, result in zip(("", "generic "), results, strict=True):
        pair = result if options["return_sign"] else (result,)
        got = np.where(fine, pair[0], 0)
        compare(got, np.where(fine, value, 0), dtype, np.where(fine, condition, 0), what + "logsumexp")
        if options["return_sign"] and not np.array_equal(pair[1][fine], sign[fine].astype(float), equal_nan=True):
            raise WrongError(what + "sign of the sum")


def pull_call(rng, call, dtype):
    call.function = str(rng.choice(["softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"]))
    shape = shape_of(rng, call, 1)
    axis = int(rng.integers(-len(shape), len(shape)))
    scale = rng.choice([0.1, 1.0, 10.0, 60.0])
    logits = np.moveaxis(rng.normal(size=shape) * scale, axis, -1)
    function = "log_softmax" if call.function.startswith("log") else "softmax"
    shown = rng.random(logits.shape) < (0.9 if rng.random() < 0.1 else 1)
    rows = dense(function, logits, shown)
    first, a = given(rng, call.library, np.moveaxis(rows, -1, axis), dtype)
    rounding = {"float64": 1e-9, "float32": 1e-4}.get(dtype, 0.05)
    while np.abs((np.exp(a) if function == "log_softmax" else a).sum(axis) - shown.any(-1)).max(initial=0) > rounding:
        # of an array that was spread over the classes
        first, a = given(rng, call.library, np.moveaxis(rows, -1, axis), dtype)
    along = rng.normal(size=shape) * rng.choice([1e-3, 1.0, 100.0])
    if rng.random() < 0.1:
        along = np.where(rng.random(shape) < 0.05, rng.choice([np.nan, np.inf, 0.0]), along)
    second, t = given(rng, call.library, along, dtype)
    call.options = {"axis": axis}
    call.note = f"{dtype} {shape}"
    got, generic = both(lambda: getattr(sg, call.function)(first, second, axis=axis), [first, second])
    finite = np.isfinite(t).all(axis, keepdims=True)
    # infinite cotangents leave no number in their row, by an order of sums that is each kernel's own
    alike(np.where(finite, got, 0), np.where(finite, generic, 0), call.function)
    expected, size = pull(call.function, np.moveaxis(a, axis, -1), np.moveaxis(t, axis, -1))
    fine = np.broadcast_to(np.isfinite(np.moveaxis(t, axis, -1)).all(-1, keepdims=True), expected.shape)
    expected, size = (np.moveaxis(np.where(fine, each, 0), -1, axis) for each in (expected, 8 * size))
    fine = np.moveaxis(fine, -1, axis)
    # what a probability is multiplied by at most
    factor = 1 + np.abs(np.where(np.isfinite(t), t, 0)).sum(axis).max(initial=0)
    for what, result in (("", got), ("generic ", generic)):
        compare(np.where(fine, result, 0), expected, dtype, size, what + call.function, factor)
