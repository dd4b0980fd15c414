"""Softmax, its logarithm and log-sum-exp of NumPy arrays, in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..._array.typing import AnyArray
from ..._kernels import high as high_kernels
from . import dense_blocks as blocks
from . import small
from .blocks import Block, Floats, Memory, View, hide, in_rows, narrow, over_blocks, unsure, view
from .dense_blocks import FEW, rows_into, rows_of, shifted_columns, working


def softmax(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Exponentials over their sum."""
    if where is None and precision is None and small.fits(x, axis):
        return small.softmax(x)
    return _whole(xp, x, axis, where, precision, blocks.softmax, blocks.softmax_columns, high_kernels.softmax, 0.0)


def log_softmax(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Logarithm of the softmax."""
    if where is None and precision is None and small.fits(x, axis):
        return small.log_softmax(x)
    kernels = blocks.log_softmax, blocks.log_softmax_columns, high_kernels.log_softmax
    return _whole(xp, x, axis, where, precision, *kernels, -np.inf)


def logsumexp(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Logarithm of the sum of exponentials."""
    if where is None and precision is None and small.fits(x, axis):
        return small.logsumexp(x)
    seen, visible = view(x, axis), None
    if where is not None:
        visible = seen.logits(np.broadcast_to(where, x.shape))
    work = working(x.dtype, precision)
    out, out3 = seen.empty_samples(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)
    compensated, rounds_once = (precision == "high" and same for same in (work == x.dtype, work != x.dtype))

    def make(memory: Memory) -> Callable[[Block], None]:
        def block(at: Block) -> None:
            o0, o1, i0, i1 = at
            src = _visible(seen.x[o0:o1, :, i0:i1], None if visible is None else visible[o0:o1, :, i0:i1], memory)
            if compensated:
                values: AnyArray = high_kernels.logsumexp(xp, rows_of(src, memory), 1, None, precision)
            elif src.shape[1] <= FEW:
                values = blocks.logsumexp_columns(*shifted_columns(src, memory), memory)
            else:
                values = blocks.logsumexp(rows_of(src, memory), memory)
            dst = out3[o0:o1, i0:i1]
            narrow(values.reshape(dst.shape), dst)
            if rounds_once:
                # of a small result the terms that cancelled tell how far it may be off
                for some in _pieces(unsure(values, high_kernels.ERROR, x.dtype, 0, 1.0), src.shape[1]):
                    rows = _picked(src, some).astype(x.dtype, copy=False)
                    dst[np.divmod(some, dst.shape[1])] = high_kernels.logsumexp(xp, rows, 1, None, precision)

        return block

    if x.size:
        over_blocks(seen.x.shape, work, make)
    return out


def signed_logsumexp(
    xp: Any, x: Floats, b: Floats, axis: int, where: Floats | None = None, precision: str | None = None
) -> tuple[AnyArray, AnyArray]:
    """log|sum(b exp(x))| and the sum's sign."""
    shown = None if where is None else in_rows(np.broadcast_to(where, x.shape), axis)
    rows, factors = in_rows(x, axis), in_rows(np.broadcast_to(b, x.shape), axis)
    return high_kernels.signed_logsumexp(xp, rows, factors, x.ndim - 1, shown, precision)


def _visible(src: Floats, visible: Floats | None, memory: Memory) -> Floats:
    """A block in the memory's dtype, -inf where hidden."""
    if visible is None:
        return src
    wide = memory(8, src.shape)
    np.copyto(wide, src)
    return hide(wide, np.ascontiguousarray(visible))


def _pieces(some: Floats, k: int) -> Iterator[Floats]:
    """Numbers of samples, few at a time."""
    step = max(1, high_kernels.PIECE // k)
    for i in range(0, len(some), step):
        yield some[i : i + step]


def _picked(src: Floats, some: Floats) -> Floats:
    """Some samples of a block, as rows."""
    outer, inner = np.divmod(some, src.shape[2])
    rows: Floats = src[outer, :, inner]
    return rows


def _whole(
    xp: Any,
    x: Floats,
    axis: int,
    where: Any,
    precision: str | None,
    of_rows: Callable[[Floats, Floats, Memory], None],
    of_columns: Callable[[Floats, Floats, Memory], Floats],
    generic: Callable[..., AnyArray],
    hidden: float,
) -> Floats:
    """An array of ``x``'s shape, block by block."""
    seen: View = view(x, axis)
    visible = None if where is None else seen.logits(np.broadcast_to(where, x.shape))
    work = working(x.dtype, precision)
    out, out3 = seen.empty(x.shape, x.dtype)
    compensated, rounds_once = (precision == "high" and same for same in (work == x.dtype, work != x.dtype))

    def make(memory: Memory) -> Callable[[Block], None]:
        def block(at: Block) -> None:
            o0, o1, i0, i1 = at
            dst = out3[o0:o1, :, i0:i1]
            o, k, i = dst.shape
            mask = None if visible is None else visible[o0:o1, :, i0:i1]
            src = _visible(seen.x[o0:o1, :, i0:i1], mask, memory)
            if compensated:
                y, own = generic(xp, rows_of(src, memory), 1, None, precision), False
            elif k <= FEW:
                z = of_columns(*shifted_columns(src, memory), memory)
                narrow(z.reshape(k, o, i).transpose(1, 0, 2), dst)
                y, own = z.T, True
            else:
                y, own = rows_into(dst, memory)
                of_rows(rows_of(src, memory), y, memory)
            if not own:
                narrow(y.reshape(o, i, k).transpose(0, 2, 1), dst)
            if rounds_once:
                result, along = (z, 0) if k <= FEW else (y, 1)
                for some in _pieces(unsure(result, high_kernels.ERROR, x.dtype, along), k):
                    rows = _picked(src, some).astype(x.dtype, copy=False)
                    outer, inner = np.divmod(some, i)
                    dst[outer, :, inner] = generic(xp, rows, 1, None, precision)
            if mask is not None:
                # a row that is NaN hides its classes still, and one that shows nothing is not NaN
                np.copyto(dst, hidden, where=~mask)

        return block

    if x.size:
        over_blocks(seen.x.shape, work, make)
    return out
