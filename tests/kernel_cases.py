"""Losses for a library's own kernels, with whatever options, and the comparison of what they give."""

import importlib.util
import os

import numpy as np
import pytest

import softgrad as sg


def needs_numba():
    """Skip where numba is not there, and need not be."""
    if importlib.util.find_spec("numba") is None and "numba" not in os.environ.get("SOFTGRAD_REQUIRED", ""):
        pytest.skip("numba is not installed")


def generic(function, *args, **kwargs):
    with sg.backends.use("generic"):
        return function(*args, **kwargs)


def doubled(value):
    return value.double() if hasattr(value, "double") and value.is_floating_point() else value


def flat(result):
    return [leaf for part in result for leaf in flat(part)] if isinstance(result, tuple) else [result]


def close(got, expected, tolerance, to_numpy, what=""):
    """Within ``tolerance`` of each number; where that cancels, of the largest."""
    for one, other in zip(flat(got), flat(expected), strict=True):
        one, other = to_numpy(one).astype(np.float64), to_numpy(other).astype(np.float64)
        scale = np.abs(other[np.isfinite(other)]).max(initial=0.0)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def loss_case(options, shape, axis, dtype, asarray):
    """(loss, x, labels, arguments) in a dtype, from the same draws for each."""
    rng = np.random.default_rng(5)
    options = dict(options)
    classes = shape[axis]
    samples = shape[:axis] + shape[axis + 1 :] if axis >= 0 else shape[:-1]
    x = rng.normal(size=shape) * 4
    labels = rng.integers(0, classes, samples)
    if options.pop("out_of_range", False):
        labels.flat[1::5], labels.flat[2::5] = classes, -3
    if options.get("ignore_index") is not None:
        labels.flat[::3] = options["ignore_index"]
        np.moveaxis(x, axis, -1)[labels == options["ignore_index"]] = np.nan
    if options.pop("class_weight", False):
        options["class_weight"] = asarray(rng.uniform(0.5, 2, classes).round(2), dtype)
    arguments = {}
    if options.pop("sample_weight", False):
        weight = rng.uniform(0.5, 2, samples)
        weight.flat[::4] = 0
        arguments["sample_weight"] = asarray(weight, dtype)
    if options.pop("where", False):
        where = rng.random(shape) > 0.3
        np.moveaxis(where, axis, -1).reshape(-1, classes)[:1] = False
        arguments["where"] = asarray(where, "bool")
        x = np.where(where, x, np.nan)
    target = asarray(labels, "int64")
    if options.pop("dense", False):
        target = asarray(rng.random(shape), dtype)
    return sg.CrossEntropy(axis=axis, **options), asarray(x, dtype), target, arguments
