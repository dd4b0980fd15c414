"""Dask."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..typing import AnyArray, NDArray
from .declaration import ArrayLibrary


def _make(xp: Any, host: NDArray, dtype: str, device: Any) -> AnyArray:
    host = np.array(host, dtype=getattr(np, dtype))
    # several chunks, or nothing of what Dask does would be seen
    chunks: list[Any] = list(host.shape)
    if host.ndim and chunks[0] > 1:
        chunks[0] = (chunks[0] // 2, chunks[0] - chunks[0] // 2)
    return importlib.import_module("dask.array").from_array(host, chunks=tuple(chunks))


LIBRARY = ArrayLibrary(
    "dask",
    "dask.array",
    "Dask",
    types=("dask:Array",),
    compat="dask.array",
    formats=("float16",),
    warns=True,
    chunked=True,
    can_branch=lambda array: False,
    make=_make,
    # chunks may be CuPy's
    read=lambda xp, array: np.asarray(array.get() if hasattr(array, "get") else array),
    compute=lambda arrays: importlib.import_module("dask").compute(*arrays),
    device_label=lambda array: "cpu",
)
