"""Merge several axes into one, and split them again."""

from __future__ import annotations

import math

from .namespace import Library
from .typing import Array


def merge(lib: Library, x: Array, axes: tuple[int, ...]) -> tuple[Array, int, tuple[int, ...]]:
    """``x`` with ``axes`` moved to the end and merged: (array, merged axis, permutation)."""
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    xp = lib.xp
    if order != tuple(range(x.ndim)):
        x = xp.permute_dims(x, order)
    kept = x.ndim - len(axes)
    size = math.prod(x.shape[kept:])
    return xp.reshape(x, (*x.shape[:kept], size)), kept, order


def split(lib: Library, y: Array, shape: tuple[int, ...], order: tuple[int, ...]) -> Array:
    """Undo ``merge``."""
    xp = lib.xp
    y = xp.reshape(y, tuple(shape[i] for i in order))
    if order != tuple(range(len(order))):
        back = sorted(range(len(order)), key=order.__getitem__)
        y = xp.permute_dims(y, tuple(back))
    return y
