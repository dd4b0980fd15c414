"""Arithmetic on the parameters and the results of a model: at once, or as one task where arrays are lazy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .._namespace import Library, quiet
from .._typing import Array


def on_small(lib: Library, function: Callable[..., Array], arrays: tuple[Array, ...], *rest: Any) -> Array:
    """``function(xp, *arrays, *rest)``, of the shape and dtype of the first array; NumPy says nothing of infinities."""
    if lib.chunked:
        return importlib.import_module("._dask_chunks", __package__).one_task(function, arrays, rest)
    if lib.warns:
        with quiet():
            return function(lib.xp, *arrays, *rest)
    return function(lib.xp, *arrays, *rest)
