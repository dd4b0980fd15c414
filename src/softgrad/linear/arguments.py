"""What the linear model is asked about: its samples, and the parameters and classes of a derivative."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._array.namespace import Library, floating, library, mask
from .._array.scalars import integer
from .._array.typing import AnyArray, Array, Wrt
from .._kernels.dense import device_of
from ..backends.sparse.samples import is_sparse, rows_of

NAMES = ("W", "bias", "X")
#: Bytes of integers, as the floats that they are computed as, from which they are converted a block at a time.
LARGE = 256 << 20


def transposed(lib: Library, a: Array, axis: int) -> Array:
    """``a`` seen with its samples (or its classes) first, and back."""
    return lib.xp.matrix_transpose(a) if axis == 1 else a


def samples_of(X: Any, sample_axis: int) -> tuple[Library, AnyArray, Array]:
    """(library, samples as rows, an array of the dtype and on the device that all else has to have)."""
    if is_sparse(X):
        rows = rows_of(X, sample_axis == 1)
        return library(np.zeros(0), "X"), rows, np.zeros((1, 1), rows.dtype)
    lib = library(X, "X")
    if X.ndim != 2:
        raise ValueError(f"X must have two dimensions, got shape {tuple(X.shape)}")
    if isinstance(X, np.ndarray):
        # integers in a file, or many of them, are not converted here
        like = floating(lib, X[:0], "X")
        if like.dtype != X.dtype and (isinstance(X, np.memmap) or X.size * like.dtype.itemsize > LARGE):
            return lib, transposed(lib, X, sample_axis), np.zeros((1, 1), like.dtype)
    rows = transposed(lib, floating(lib, X, "X"), sample_axis)
    return lib, rows, rows


def layout(sample_axis: Any, block_size: Any) -> tuple[int, int | None]:
    """(sample axis, block size), checked."""
    axis = integer(sample_axis, "sample_axis", "0 or 1")
    if axis not in (0, 1):
        raise ValueError(f"sample_axis must be 0 or 1, got {sample_axis!r}")
    if block_size is not None:
        block_size = integer(block_size, "block_size", "an int or None")
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
    return axis, block_size


def mask_of_logits(lib: Library, like: Array, where: Any, shape: tuple[int, int], axis: int) -> Array | None:
    """``where`` for logits of ``shape``, samples first; ``like`` has their dtype and device."""
    if where is None:
        return None
    xp = lib.xp
    if math.prod(like.shape):
        logits = xp.broadcast_to(xp.reshape(like[:1, :1], (1, 1)), shape)
    else:
        logits = xp.zeros(shape, dtype=like.dtype, device=device_of(like))
    where = mask(lib, transposed(lib, logits, axis), where, x_name="the logits")
    if where is None:
        return None
    if where.ndim < 2:
        where = xp.reshape(where, (1,) * (2 - where.ndim) + tuple(where.shape))
    return transposed(lib, where, axis)


def names_of(wrt: Wrt, bias: Any, allowed: tuple[str, ...] = NAMES) -> tuple[tuple[str, ...], bool]:
    """(The parameters to differentiate by, whether the answer is a single array)."""
    if wrt is None:
        return ("W",) if bias is None else ("W", "bias"), bias is None
    single = isinstance(wrt, str)
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for name in names:
        if name not in allowed:
            raise ValueError(f"wrt must name some of {allowed}, got {name!r}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"wrt must name each of its parameters once, got {wrt!r}")
    if "bias" in names and bias is None:
        raise ValueError("wrt names the bias, but bias is None")
    return names, single


def columns_of(classes: Any, count: int) -> tuple[int, ...] | None:
    """The classes asked for, counted from the front."""
    if classes is None:
        return None
    columns = []
    for i in classes:
        i = integer(i, "classes", "ints")
        if not -count <= i < count:
            raise IndexError(f"classes names {i!r}: there are {count} classes")
        columns.append(i % count)
    if not columns:
        raise ValueError("classes must name at least one class")
    return tuple(columns)
