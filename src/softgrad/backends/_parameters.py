"""Arithmetic on parameters and results of a model, as Dask tasks if the arrays are lazy."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from .._array.namespace import Library, ignore_fp_warnings
from .._array.typing import AnyArray, DType
from .._options import LossArgs


def on_parameters(
    lib: Library, function: Callable[..., AnyArray], arrays: tuple[AnyArray, ...], *rest: Any, dtype: DType = None
) -> AnyArray:
    """``function(xp, *arrays, *rest)``, of the first array's shape, by default its dtype; NumPy does not warn."""
    if lib.chunked:
        return importlib.import_module(".dask.chunks", __package__).one_task(function, arrays, rest, dtype)
    with ignore_fp_warnings(lib):
        return function(lib.xp, *arrays, *rest)


def on_rows(
    lib: Library,
    function: Callable[..., tuple[AnyArray, ...]],
    data: tuple[AnyArray, AnyArray, AnyArray, LossArgs],
    options: tuple[Any, ...],
    shapes: list[tuple[int, ...]],
) -> list[AnyArray] | None:
    """``function(X, W, bias, args, *options)``, sums over rows of X, as one task a chunk; None if X has no chunks."""
    if not lib.chunked:
        return None
    found: list[AnyArray] = importlib.import_module(".dask.linear", __package__).sums_by_chunk(
        function, *data, options, shapes
    )
    return found
