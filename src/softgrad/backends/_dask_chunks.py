"""What the Dask kernels share: whole rows in a chunk, and a kernel run on a chunk's own library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
from dask.utils import parse_bytes

from .._namespace import library
from .._typing import Array
from ._registry import run
from ._threads import workers


def on_chunk(function: str, x: Array, *args: Any) -> Any:
    """Run a kernel on a chunk, on the one thread that the scheduler gave to its task."""
    lib = library(x, "a chunk")
    with workers(1):
        return run(function, lib, lib.xp, x, *args)


def whole_rows(x: Array, axis: int) -> Array:
    """``x`` with ``axis`` in one chunk; cut finer elsewhere where the chunks would outgrow Dask's own limit."""
    if x.numblocks[axis] == 1:
        return x
    known = not any(math.isnan(size) for sizes in x.chunks for size in sizes)
    largest = x.shape[axis] * math.prod(max(c, default=1) for i, c in enumerate(x.chunks) if i != axis)
    limit = parse_bytes(dask.config.get("array.chunk-size"))
    if known and largest * x.dtype.itemsize > limit:
        return x.rechunk({i: -1 if i == axis else "auto" for i in range(x.ndim)})
    return x.rechunk({axis: -1})


def meta_of(x: Array, ndim: int, dtype: Any) -> Array:
    """An empty array of ``ndim`` dimensions in the library of ``x``'s chunks."""
    return da.utils.meta_from_array(x, ndim=ndim, dtype=dtype)


def rowwise(
    call: Callable[..., Any],
    axis: int,
    arrays: list[tuple[Array, bool]],
    dtype: Any,
    *,
    keeps_axis: bool,
    options: dict[str, Any],
) -> Array:
    """``call`` on aligned chunks of arrays that have the class axis (True) or stand for samples (False)."""
    first = arrays[0][0]
    letters = tuple(range(first.ndim))
    samples = letters[:axis] + letters[axis + 1 :]
    pairs: list[Any] = []
    for a, has_axis in arrays:
        if a is None:
            pairs += [None, None]
            continue
        if has_axis and a.ndim > first.ndim - axis - 1 and a.shape[axis - first.ndim] > 1:
            a = whole_rows(a, axis - first.ndim + a.ndim)
        of = letters if has_axis else samples
        pairs += [a, of[len(of) - a.ndim :]]
    out = letters if keeps_axis else samples
    return da.blockwise(
        call,
        out,
        *pairs,
        dtype=dtype,
        meta=meta_of(first, len(out), dtype),
        concatenate=True,
        **options,
    )
