"""CuPy."""

from __future__ import annotations

import importlib

from ..memory import cupy_memory
from ..typing import AnyArray
from .declaration import ArrayLibrary


def _scatter(a: AnyArray, index: AnyArray, values: AnyArray, axis: int) -> AnyArray:
    cupy, out = importlib.import_module("cupy"), a.copy()
    # put_along_axis is younger than the oldest CuPy that works
    rows = (
        cupy.arange(n).reshape((-1,) + (1,) * (a.ndim - 1 - i)) if i != axis else index for i, n in enumerate(a.shape)
    )
    out[tuple(rows)] = values
    return out


LIBRARY = ArrayLibrary(
    "cupy",
    "cupy",
    "CuPy",
    types=("cupy:ndarray",),
    compat="cupy",
    formats=("float16",),
    has_device=True,
    waits=True,
    scatter=_scatter,
    memory=cupy_memory,
    read=lambda xp, array: array.get(),
    synchronize=lambda results: importlib.import_module("cupy").cuda.get_current_stream().synchronize(),
    device_label=lambda array: f"cuda:{array.device.id}",
)
