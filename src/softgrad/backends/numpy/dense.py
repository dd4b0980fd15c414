"""Softmax, its logarithm and log-sum-exp of NumPy arrays, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._kernels import dense as dense_kernels
from . import dense_blocks as blocks
from . import small
from .blocks import Block, Floats, Memory, View, hide, narrow, over_blocks, view
from .dense_blocks import working
from .small import SMALL


def _is_small(x: Floats, axis: int, where: Any, precision: str | None) -> bool:
    return (
        x.size <= SMALL
        and axis == x.ndim - 1
        and where is None
        and precision is None
        and x.dtype.char != "e"
        and x.size > 0
    )


def softmax(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Exponentials over their sum."""
    if _is_small(x, axis, where, precision):
        return small.softmax(x)
    return _whole(xp, x, axis, where, precision, blocks.softmax, dense_kernels.softmax, 0.0)


def log_softmax(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Logarithm of the softmax."""
    if _is_small(x, axis, where, precision):
        return small.log_softmax(x)
    return _whole(xp, x, axis, where, precision, blocks.log_softmax, dense_kernels.log_softmax, -np.inf)


def logsumexp(xp: Any, x: Floats, axis: int, where: Any, precision: str | None) -> Floats:
    """Logarithm of the sum of exponentials."""
    if _is_small(x, axis, where, precision):
        return small.logsumexp(x)
    seen, shown = view(x, axis), None
    if where is not None:
        shown = seen.logits(np.broadcast_to(where, x.shape))
    work = working(x.dtype, precision)
    out, out3 = seen.empty_samples(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)
    if not x.size:
        return out
    inner = out3.shape[1]
    carried = precision == "high" and work == x.dtype

    def make(memory: Memory) -> Callable[[Block], Floats | None]:
        def block(at: Block) -> Floats | None:
            o0, o1, i0, i1 = at
            src = _cast(seen.x[o0:o1, :, i0:i1], memory)
            if shown is not None:
                src = hide(src, shown[o0:o1, :, i0:i1])
                memory.free = False
            if carried:
                out3[o0:o1, i0:i1] = dense_kernels.logsumexp(xp, src, 1, None, precision)
                return None
            values, weak = blocks.logsumexp(src, memory)
            out3[o0:o1, i0:i1] = values.reshape(o1 - o0, i1 - i0)
            return None if weak is None else weak + (o0 * inner + i0)

        return block

    weak = [a for a in over_blocks(seen.x.shape, work, make) if a is not None]
    if weak:
        _again(seen.x, out3, np.concatenate(weak), work)
    return out


def _again(x3: Floats, out3: Floats, weak: Floats, work: np.dtype[Any]) -> None:
    """Compute weak samples (by their flat number) with a shift."""

    def make(memory: Memory) -> Callable[[Block], None]:
        def block(at: Block) -> None:
            outer, inner = divmod(weak[at[0] : at[1]], out3.shape[1])
            rows = x3[outer, :, inner] if out3.shape[1] > 1 else x3[:, :, 0].take(outer, axis=0)
            out3[outer, inner] = blocks.logsumexp_of_rows(rows.astype(work, copy=False), memory)

        return block

    over_blocks((len(weak), x3.shape[1], 1), work, make)


def _whole(
    xp: Any,
    x: Floats,
    axis: int,
    where: Any,
    precision: str | None,
    work_on: Callable[[Floats, Floats, Memory], None],
    generic: Callable[..., Floats],
    hidden: float,
) -> Floats:
    """An array of ``x``'s shape, block by block."""
    seen: View = view(x, axis)
    shown = None if where is None else seen.logits(np.broadcast_to(where, x.shape))
    work = working(x.dtype, precision)
    out, out3 = seen.empty(x.shape, x.dtype)
    carried = precision == "high" and work == x.dtype

    def make(memory: Memory) -> Callable[[Block], None]:
        def block(at: Block) -> None:
            o0, o1, i0, i1 = at
            src, dst = seen.x[o0:o1, :, i0:i1], out3[o0:o1, :, i0:i1]
            mask = None if shown is None else shown[o0:o1, :, i0:i1]
            if carried:
                dst[...] = generic(xp, src, 1, mask, precision)
                return
            src = _cast(src, memory)
            if mask is not None:
                src = hide(src, mask)
            wide = dst if work == x.dtype else memory(5, src.shape)
            work_on(src, wide, memory)
            if mask is not None and np.isnan(np.add.reduce(wide, axis=None)):
                # a row that is NaN hides its classes still, and one that shows nothing is not NaN
                np.copyto(wide, hidden, where=~mask)
            narrow(wide, dst)

        return block

    if x.size:
        over_blocks(seen.x.shape, work, make)
    return out


def _cast(src: Floats, memory: Memory) -> Floats:
    """``src`` in the memory's dtype."""
    if src.dtype == memory.dtype:
        return src
    wide = memory(4, src.shape)
    np.copyto(wide, src)
    return wide
