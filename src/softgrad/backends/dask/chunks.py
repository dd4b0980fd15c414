"""Shared by the Dask kernels: rechunking to whole rows, and running a kernel of a chunk's library."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.delayed import delayed
from dask.utils import parse_bytes

from ..._array.namespace import library, without_fp_warnings
from ..._array.typing import AnyArray
from ..._kernels.loss import divided
from .._registry import run
from .._threads import workers
from ..sparse.samples import is_sparse, library_of


def on_chunk(function: str, x: AnyArray, *args: Any) -> Any:
    """Run a kernel on a chunk, single-threaded as the scheduler expects of a task."""
    lib, xp, x = library_of(x, "a chunk")
    with workers(1):
        return run(function, lib, xp, x, *args)


@without_fp_warnings
def _on_parameters(function: Callable[..., AnyArray], arrays: tuple[AnyArray, ...], rest: tuple[Any, ...]) -> AnyArray:
    return function(library(arrays[0], "a chunk").xp, *arrays, *rest)


def one_task(
    function: Callable[..., AnyArray], arrays: tuple[AnyArray, ...], rest: tuple[Any, ...], dtype: Any = None
) -> AnyArray:
    """``function(xp, *arrays, *rest)`` of arrays that are small, as one task; of the first one's shape, maybe dtype."""
    first = arrays[0]
    dtype = first.dtype if dtype is None else dtype
    chunks = tuple(a.rechunk(-1).to_delayed().ravel()[0] for a in arrays)
    result = delayed(_on_parameters, pure=True)(function, chunks, rest)
    return da.from_delayed(result, first.shape, dtype=dtype, meta=meta_of(first, first.ndim, dtype))


def whole_rows(x: AnyArray, axis: int) -> AnyArray:
    """``x`` with ``axis`` in one chunk; cut finer elsewhere where the chunks would outgrow Dask's own limit."""
    if x.numblocks[axis] == 1:
        return x
    known = not any(math.isnan(size) for sizes in x.chunks for size in sizes)
    largest = x.shape[axis] * math.prod(max(c, default=1) for i, c in enumerate(x.chunks) if i != axis)
    limit = parse_bytes(dask.config.get("array.chunk-size"))
    if known and largest * x.dtype.itemsize > limit:
        return x.rechunk({i: -1 if i == axis else "auto" for i in range(x.ndim)})
    return x.rechunk({axis: -1})


def meta_of(x: AnyArray, ndim: int, dtype: Any) -> AnyArray:
    """An empty array of ``ndim`` dimensions in the library of ``x``'s chunks, NumPy's of sparse ones."""
    if is_sparse(x._meta):
        return np.empty((0,) * ndim, dtype=dtype)
    return da.utils.meta_from_array(x, ndim=ndim, dtype=dtype)


def rowwise(
    call: Callable[..., Any],
    axis: int,
    arrays: Sequence[tuple[AnyArray, bool | None]],
    dtype: Any,
    *,
    keeps_axis: bool | None,
    options: dict[str, Any],
) -> AnyArray:
    """``call`` on aligned chunks of arrays that have the class axis (True) or its labels (None), or are of samples.

    So has the result, by ``keeps_axis``.
    """
    first = arrays[0][0]
    letters = tuple(range(first.ndim))
    samples = letters[:axis] + letters[axis + 1 :]
    kinds = {True: letters, False: samples, None: (*letters[:axis], first.ndim, *letters[axis + 1 :])}
    pairs: list[Any] = []
    for a, has_axis in arrays:
        if a is None:
            pairs += [None, None]
            continue
        if has_axis is not False and a.ndim > first.ndim - axis - 1 and a.shape[axis - first.ndim] > 1:
            a = whole_rows(a, axis - first.ndim + a.ndim)
        of = kinds[has_axis]
        pairs += [a, of[len(of) - a.ndim :]]
    out = kinds[keeps_axis]
    return da.blockwise(
        call,
        out,
        *pairs,
        dtype=dtype,
        meta=meta_of(first, len(out), dtype),
        concatenate=True,
        **options,
    )


def _entry(parts: Any, *, index: int) -> AnyArray:
    # a chunk of rows comes from one chunk of logits: a contracted axis arrives as a list of it
    while isinstance(parts, list):
        (parts,) = parts
    return parts[index]


def entry(found: AnyArray, index: int, axis: int, *, keeps_axis: bool) -> AnyArray:
    """One of the results that a chunk of ``found`` is a tuple of."""
    letters = tuple(range(found.ndim))
    out = letters if keeps_axis else letters[:axis] + letters[axis + 1 :]
    meta = meta_of(found, len(out), found.dtype)
    return da.blockwise(_entry, out, found, letters, dtype=found.dtype, meta=meta, concatenate=False, index=index)


@without_fp_warnings
def _sum_of(x: AnyArray, axis: Any, keepdims: bool, *, dtype: Any) -> AnyArray:
    return library(x, "a chunk").xp.sum(x, axis=axis, keepdims=keepdims, dtype=dtype)


def sum_all(x: AnyArray, dtype: Any) -> AnyArray:
    """Sum of all elements, 0-d, by Dask's tree reduction."""
    one = functools.partial(_sum_of, dtype=dtype)
    return da.reduction(x, one, one, dtype=dtype, concatenate=True, meta=meta_of(x, 0, dtype))


@without_fp_warnings
def _quotient(a: AnyArray, by: AnyArray, *, dtype: Any) -> AnyArray:
    xp = library(a, "a chunk").xp
    if by is not None:
        a = divided(xp, xp.asarray(a), xp.astype(xp.asarray(by), a.dtype, copy=False))
    return xp.astype(xp.asarray(a), dtype, copy=False)


def quotient(a: AnyArray, by: AnyArray, dtype: Any) -> AnyArray:
    """``a`` divided by the total weight ``by``, 0-d or None, in ``dtype``; 0 where that is 0."""
    if by is None and a.dtype == dtype:
        return a
    letters = tuple(range(a.ndim))
    pair = (None, None) if by is None else (by, ())
    call = functools.partial(_quotient, dtype=dtype)
    return da.blockwise(call, letters, a, letters, *pair, dtype=dtype, meta=meta_of(a, a.ndim, dtype))
