"""CuPy."""

from __future__ import annotations

import importlib

from ..memory import cupy_memory
from .declaration import ArrayLibrary

LIBRARY = ArrayLibrary(
    "cupy",
    "cupy",
    "CuPy",
    types=("cupy:ndarray",),
    compat="cupy",
    formats=("float16",),
    has_device=True,
    waits=True,
    memory=cupy_memory,
    read=lambda xp, array: array.get(),
    synchronize=lambda results: importlib.import_module("cupy").cuda.get_current_stream().synchronize(),
    device_label=lambda array: f"cuda:{array.device.id}",
)
