"""Copy small arrays, such as the parameters and gradients of a fit, to the host."""

from __future__ import annotations

import importlib

import numpy as np

from .._kernels.dense import device_of
from .libraries import known
from .namespace import Library, ignore_fp_warnings
from .typing import AnyArray, Array, NDArray


def to_host(lib: Library, *arrays: Array) -> list[NDArray]:
    """NumPy copies of arrays of ``lib`` that share a dtype; NumPy arrays and scalars as they are."""
    if isinstance(arrays[0], (np.ndarray, np.generic)):
        return [np.asarray(a) for a in arrays]
    declared, xp = known(lib.name), lib.xp
    if not declared.waits or len(arrays) == 1:
        with ignore_fp_warnings():
            return declared.read_all(xp, arrays)
    # a single transfer, since each one waits for the device
    flat = declared.read(xp, xp.concat([xp.reshape(a, (-1,)) for a in arrays], axis=0))
    out, start = [], 0
    for a in arrays:
        out.append(flat[start : start + int(np.prod(a.shape))].reshape(a.shape))
        start += out[-1].size
    return out


def is_lazy(lib: Library) -> bool:
    """Whether arrays of ``lib`` are evaluated lazily."""
    return lib.chunked


def is_abstract(lib: Library, x: Array) -> bool:
    """Whether ``x`` has no values: a JAX tracer, a meta tensor, a node of an ONNX graph."""
    return known(lib.name).is_abstract(x)


def _sorted_classes(lib: Library, y: Array) -> Array:
    """The distinct values of ``y``, by operations of static shape; only their number is copied to the host."""
    xp, device = lib.xp, device_of(y)
    ordered = xp.sort(y)
    steps = xp.astype(ordered[1:] != ordered[:-1], xp.int32)
    rank = xp.concat([xp.zeros((1,), dtype=xp.int32, device=device), xp.cumulative_sum(steps, dtype=xp.int32)], axis=0)
    count = int(to_host(lib, rank[-1])[0]) + 1
    first = xp.searchsorted(rank, xp.arange(count, dtype=xp.int32, device=device))
    return xp.take(ordered, first, axis=0)


def _dask_classes(lib: Library, y: Array) -> Array:
    return lib.xp.asarray(to_host(lib, lib.xp.unique_values(y))[0])


def sorted_classes(lib: Library, y: Array) -> Array:
    """The distinct values of a 1-D array, sorted."""
    return _dask_classes(lib, y) if is_lazy(lib) else _sorted_classes(lib, y)


def computed_once(lib: Library, X: AnyArray, *arrays: AnyArray) -> tuple[AnyArray, ...]:
    """Arrays (or None) of one number a sample of X, for all steps of a fit; of Dask computed now, in the chunks of X.

    A cluster remembers the names of tasks from graph to graph, and what makes these arrays would be fused into other
    tasks of the same names in each.
    """
    if not is_lazy(lib):
        return arrays
    with ignore_fp_warnings():
        found = importlib.import_module("dask").persist(*(a.rechunk((X.chunks[0],)) for a in arrays if a is not None))
    left = iter(found)
    return tuple(None if a is None else next(left) for a in arrays)
