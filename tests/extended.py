"""The generic kernels in extended precision, as the reference for another back end's."""

import numpy as np
from array_api_compat import numpy as xp

from softgrad._kernels import linear as linear_kernels
from softgrad._options import LossArgs
from softgrad.backends import _threads, numba
from softgrad.backends.numpy import blocks as numpy_blocks
from softgrad.backends.numpy import linear_call
from softgrad.backends.numpy import products as numpy_products

WIDE = np.longdouble
#: What a kernel may be off from the exact value.
ULPS = {"float16": 0.51, "float32": 70, "float64": 500}
MANY_BLOCKS = (
    (numpy_blocks, "CACHE_BYTES", 1 << 12),
    (numpy_blocks, "THREAD_ELEMENTS", 1),
    (numpy_blocks, "SMALL", 0),
    (linear_kernels, "BLOCK_BYTES", 1 << 13),
    (linear_kernels, "BLOCK_ROWS", 16),
    (linear_call, "BLOCK_BYTES", 1 << 13),
    (linear_call, "ENOUGH_BYTES", 1 << 13),
    (linear_call, "ENOUGH_ROWS", 16),
    (linear_call, "BLOCK_ROWS", 16),
    (linear_call, "PIECE_BYTES", 1 << 11),
    (linear_call, "SPAN_ROWS", 32),
    (numpy_products, "LEAST_ROWS", 8),
    (numpy_products, "SMALL", 500),
    (numpy_products, "PIECE_BYTES", 256),
)


def cuts(how, monkeypatch):
    """A block in which even small arrays are cut for three threads ("blocks"), or none is ("whole")."""
    monkeypatch.setattr(numba, "_verdict", "a test is of NumPy's own kernels")
    if how == "blocks":
        for module, name, value in MANY_BLOCKS:
            monkeypatch.setattr(module, name, value)
    return _threads.workers(3 if how == "blocks" else 1)


def exactly(kernel, *arguments):
    """A generic kernel's results, of NumPy arrays in extended precision."""
    with np.errstate(all="ignore"):
        return kernel(xp, *arguments)


OPTIONS = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.1},
    "class weights": {"class_weight": True},
    "sample weights": {"sample_weight": True},
    "z": {"z_loss": 1e-2},
    "ignored": {"ignore_index": 1},
    "ignored, no class": {"ignore_index": -100},
    "all": {
        "label_smoothing": 0.1,
        "class_weight": True,
        "sample_weight": True,
        "z_loss": 1e-2,
        "ignore_index": 1,
    },
    "distribution": {"dense": True},
    "distribution, all": {
        "dense": True,
        "label_smoothing": 0.1,
        "class_weight": True,
        "sample_weight": True,
        "z_loss": 1e-2,
    },
    "out of range": {"outside": True},
    "masked": {"where": True, "label_smoothing": 0.1},
    "nothing counts": {"sample_weight": "none"},
}


def args_of(option, x, axis, reduction, rng, precision=None):
    given = dict(OPTIONS[option])
    k, shape = x.shape[axis], x.shape[:axis] + x.shape[axis + 1 :]
    labels = rng.integers(0, k, shape)
    dense = given.pop("dense", False)
    if dense:
        labels = np.moveaxis(rng.dirichlet(np.ones(k), shape), -1, axis).astype(x.dtype)
    if given.pop("outside", False):
        labels = np.where(rng.random(shape) < 0.1, k, labels)
    if given.get("ignore_index") == -100:
        labels = np.where(rng.random(shape) < 0.3, -100, labels)
    if given.get("class_weight"):
        given["class_weight"] = np.where(np.arange(k) == k - 1, 0, rng.uniform(0.5, 2, k)).astype(x.dtype)
    if given.get("sample_weight"):
        none = given["sample_weight"] == "none"
        weight = np.where(rng.random(shape) < 0.2, 0, rng.uniform(0.5, 2, shape))
        given["sample_weight"] = (0 * weight if none else weight).astype(x.dtype)
    if given.get("where"):
        given["where"] = rng.random(x.shape) < 0.8
    return LossArgs(axis, labels, dense, reduction=reduction, precision=precision, **given)


def widened(args):
    changed = {n: getattr(args, n) for n in ("class_weight", "sample_weight")}
    changed = {n: None if a is None else a.astype(WIDE) for n, a in changed.items()}
    return args._replace(labels=args.labels.astype(WIDE) if args.dense else args.labels, **changed)


def assert_near(result, exact, dtype, *, of_all=0.0, what=None):
    """Within the goal of the exact value, plus ``of_all`` roundings of the largest value of all."""
    result, exact = np.asarray(result), np.asarray(exact)
    assert result.dtype == dtype
    assert result.shape == exact.shape
    near = exact.astype(dtype)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(near), err_msg=str(what))
    infinite = np.isinf(near)
    np.testing.assert_array_equal(result[infinite], near[infinite], err_msg=str(what))
    finite = np.isfinite(near)
    eps, size = np.finfo(dtype).eps, np.abs(exact[finite])
    allowed = max(ULPS[dtype], 1) * eps * size + of_all * eps * np.max(size, initial=0) + 2 * np.finfo(dtype).tiny
    error = np.abs(result[finite].astype(WIDE) - exact[finite])
    assert np.all(error <= allowed), (what, float(np.max(error / allowed)))
