"""Dask arrays of scipy.sparse chunks as samples: operations that Dask lacks for them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..._array.typing import AnyArray
from .samples import is_sparse, library_of


def are_sparse(x: Any) -> bool:
    """Whether ``x`` is a Dask array of sparse chunks."""
    return is_sparse(getattr(x, "_meta", None))


def _product(x: Any, w: AnyArray) -> AnyArray:
    _, xp, rows = library_of(x, "a chunk")
    return xp.matmul(rows, w)


def product(x: AnyArray, w: AnyArray) -> AnyArray:
    """``x @ w`` of sparse rows, dense, a task for each chunk of rows."""
    da = importlib.import_module("dask.array")
    rows = x.rechunk({1: -1})
    chunks = {"dtype": np.result_type(x.dtype, w.dtype), "meta": np.empty((0, 0), w.dtype)}
    return da.blockwise(_product, "nk", rows, "nm", w.rechunk(-1), "mk", concatenate=True, **chunks)


def _is_finite(x: Any) -> AnyArray:
    return np.full((1, 1), bool(np.all(np.isfinite(x.data))))


def is_finite(x: AnyArray) -> AnyArray:
    """Whether all entries are finite, as a lazy boolean."""
    chunks = tuple((1,) * count for count in x.numblocks)
    return x.map_blocks(_is_finite, chunks=chunks, dtype=bool, meta=np.empty((0, 0), bool)).all()
