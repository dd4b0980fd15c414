"""Entropy, and cotangents of it and of log-probabilities, of NumPy arrays: in blocks that stay in cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..._array.typing import AnyArray
from ..._kernels import log_probs as generic
from ..._kernels.log_probs import PLAIN
from ..._kernels.scaling import Scaling
from .._registry import call
from .blocks import Block, Floats, Memory, column_rests, column_sums, hide, in_rows, narrow, over_blocks, row_dots, view
from .dense_blocks import FEW, rows_of, shifted_columns, shifted_rows, working

#: Gaps to the maximum are cut off here: the exponential is 0 from there on, and stays 0 times a number.
FAR = -1000.0
#: Bytes of log-probabilities of all classes that are held at a time.
PART_BYTES = 16 << 20
#: Probabilities above this are taken from 1 by the sum of the others.
SURE = 0.5


def spread(src: Floats, memory: Memory, temperature: float) -> tuple[Floats, ...]:
    """(x - max over the temperature, its exponential, their sum less one, the mean of the first, the maximum).

    Of a block (outer, class, inner): the first two are of its shape, in scratch memory, the others one a sample.
    """
    outer, k, inner = src.shape
    if k > FEW:
        x = rows_of(src, memory)
        d, e = memory(0, x.shape), memory(3, x.shape)
        m, top = shifted_rows(x, d, memory)
        _cut_off(d, temperature)
        np.exp(d, out=e)
        mean = row_dots(e, d)
        e.reshape(-1)[top] = 0.0
        rest = memory.row_sums(e, memory(2, m.shape))
        e.reshape(-1)[top] = 1.0
        mean /= 1 + rest
        turned = (a.reshape(outer, inner, k).transpose(0, 2, 1) for a in (d, e))
        return (*turned, *(a.reshape(outer, inner) for a in (rest, mean, m)))
    m, d = shifted_columns(src, memory)
    _cut_off(d, temperature)
    e, again, s = memory(3, d.shape), memory(5, d.shape), memory(2, d.shape[1:])
    np.exp(d, out=e)
    mean = column_sums(np.multiply(e, d, out=again), np.empty_like(s))
    np.copyto(again, e)
    rest = column_rests(again, memory(6, d.shape), s)
    mean /= 1 + rest
    turned = (a.reshape(k, outer, inner).transpose(1, 0, 2) for a in (d, e))
    return (*turned, *(a.reshape(outer, inner) for a in (rest, mean, m)))


def _cut_off(d: Floats, temperature: float) -> None:
    if temperature != 1.0:
        np.divide(d, temperature, out=d)
    np.maximum(d, FAR, out=d)


def _over(
    x: Floats,
    axis: int,
    where: Floats | None,
    precision: str | None,
    scaling: Scaling,
    work_on: Callable[[Block, Floats, Memory], None],
    other: Callable[[Block, Floats, Floats | None], None],
) -> None:
    """``work_on`` each block of x in the dtype to compute in; or ``other`` its rows and mask, where only it can."""
    seen = view(x, axis)
    visible = None if where is None else seen.logits(np.broadcast_to(where, x.shape))
    work = working(x.dtype, precision)
    unusual = scaling.softcap is not None or (precision == "high" and work == x.dtype)

    def make(memory: Memory) -> Callable[[Block], None]:
        def block(at: Block) -> None:
            o0, o1, i0, i1 = at
            src = seen.x[o0:o1, :, i0:i1]
            mask = None if visible is None else visible[o0:o1, :, i0:i1]
            if unusual:
                return other(at, in_rows(src, 1), None if mask is None else in_rows(mask, 1))
            src = src.astype(work, copy=False)
            return work_on(at, src if mask is None else hide(src, mask), memory)

        return block

    if x.size:
        over_blocks(seen.x.shape, work, make)


def entropy(
    xp: Any,
    x: Floats,
    axis: int,
    where: Floats | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Floats:
    """``-sum(p log(p))``, without ``axis``."""
    out, out3 = view(x, axis).empty_samples(x.shape[:axis] + x.shape[axis + 1 :], x.dtype)

    def work_on(at: Block, src: Floats, memory: Memory) -> None:
        _, _, rest, mean, _ = spread(src, memory, scaling.temperature)
        narrow(np.log1p(rest) - mean, out3[at[0] : at[1], at[2] : at[3]])

    def other(at: Block, src: Floats, mask: Floats | None) -> None:
        out3[at[0] : at[1], at[2] : at[3]] = generic.entropy(xp, src, 2, mask, precision, scaling)

    _over(x, axis, where, precision, scaling, work_on, other)
    if where is not None:
        out[~np.broadcast_to(where, x.shape).any(axis)] = 0
    return out


def entropy_vjp(
    xp: Any,
    x: Floats,
    cotangent: Floats,
    axis: int,
    where: Floats | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> Floats:
    """``c p (mean(d) - d)``."""
    seen = view(x, axis)
    out, out3 = seen.empty(x.shape, x.dtype)
    c2 = seen.samples(cotangent)

    def work_on(at: Block, src: Floats, memory: Memory) -> None:
        o0, o1, i0, i1 = at
        d, e, rest, mean, _ = spread(src, memory, scaling.temperature)
        factor = c2[o0:o1, i0:i1].astype(d.dtype, copy=False) / (1 + rest) / scaling.temperature
        np.subtract(mean[:, None], d, out=d)
        np.multiply(d, e, out=d)
        dst = out3[o0:o1, :, i0:i1]
        if dst.dtype == d.dtype:
            np.multiply(d, factor[:, None], out=dst)
        else:
            narrow(d * factor[:, None], dst)

    def other(at: Block, src: Floats, mask: Floats | None) -> None:
        o0, o1, i0, i1 = at
        found: AnyArray = generic.entropy_vjp(xp, src, c2[o0:o1, i0:i1], 2, mask, precision, scaling)
        out3[o0:o1, :, i0:i1] = found.transpose(0, 2, 1)

    _over(x, axis, where, precision, scaling, work_on, other)
    if where is not None:
        np.copyto(out, 0, where=~np.broadcast_to(where, x.shape))
    return out


def log_probs(
    xp: Any,
    x: Floats,
    labels: Floats,
    axis: int,
    where: Floats | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``log(softmax(x))`` at the labels, a part of the rows at a time; in blocks where logits are scaled."""
    log_softmax = partial(call, "log_softmax")
    if scaling.identity:
        rows = max(1, PART_BYTES // max(1, x.shape[axis] * x.itemsize))
        if where is not None or x.ndim != 2 or axis != 1 or len(x) <= rows:
            return generic.log_probs(xp, x, labels, axis, where, precision, scaling, log_softmax)
        out = np.empty(labels.shape, x.dtype)
        for i in range(0, len(x), rows):
            out[i : i + rows] = generic.log_probs(
                xp, x[i : i + rows], labels[i : i + rows], 1, None, precision, scaling, log_softmax
            )
        return out
    seen = view(x, axis)
    outer, _, inner = seen.x.shape
    index = labels.transpose(seen.order).reshape(outer, labels.shape[axis], inner)
    out3 = np.empty(index.shape, x.dtype)

    def work_on(at: Block, src: Floats, memory: Memory) -> None:
        o0, o1, i0, i1 = at
        _, _, rest, mean, m = spread(src, memory, scaling.temperature)
        own = generic.take_labels(xp, src, index[o0:o1, :, i0:i1], 1)
        # the mean is NaN where the row has no sum
        narrow((own - m[:, None]) / scaling.temperature - (np.log1p(rest) + 0 * mean)[:, None], out3[o0:o1, :, i0:i1])

    def other(at: Block, src: Floats, mask: Floats | None) -> None:
        o0, o1, i0, i1 = at
        some = in_rows(index[o0:o1, :, i0:i1], 1)
        found: AnyArray = generic.log_probs(xp, src, some, 2, mask, precision, scaling)
        out3[o0:o1, :, i0:i1] = found.transpose(0, 2, 1)

    _over(x, axis, where, precision, scaling, work_on, other)
    ordered = out3.reshape([labels.shape[i] for i in seen.order])
    out = ordered.transpose(np.argsort(seen.order))
    if where is not None:
        safe: AnyArray
        valid: AnyArray
        safe, valid = generic.valid_labels(xp, labels, x, axis)
        out[valid & ~np.take_along_axis(np.broadcast_to(where, x.shape), safe, axis)] = -np.inf
    return out


def log_probs_vjp(
    xp: Any,
    x: Floats,
    labels: Floats,
    cotangent: Floats,
    axis: int,
    where: Floats | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """The sum of c (onehot - p) over a sample's labels."""
    if scaling.identity and where is None and labels.shape[axis] == 1:
        return generic.one_label_vjp(xp, x, labels, cotangent, axis, precision, partial(call, "cross_entropy_grad"))
    shown = None if where is None else in_rows(np.broadcast_to(where, x.shape), axis)
    x, labels, cotangent = (in_rows(a, axis) for a in (x, labels, cotangent))
    last = x.ndim - 1
    if not scaling.identity or where is not None or precision is not None or x.dtype.char == "e" or not x.size:
        out: AnyArray = generic.log_probs_vjp(xp, x, labels, cotangent, last, shown, precision, scaling)
    else:
        out = _many_labels_vjp(xp, x, labels, cotangent, last)
    return out if axis == last else np.moveaxis(out, -1, axis)


def _many_labels_vjp(xp: Any, x: Floats, labels: Floats, cotangent: Floats, axis: int) -> Floats:
    p: Floats = call("softmax", xp, x, axis, None, None)
    index: AnyArray
    valid: AnyArray
    own: AnyArray
    index, valid = generic.valid_labels(xp, labels, x, axis)
    there = np.take_along_axis(p, index, axis=axis)
    others = _without(p, there, index, axis)
    c = cotangent.astype(x.dtype, copy=False)
    own, other = generic.parted(xp, c, index, axis)
    p *= -c.sum(axis=axis, keepdims=True)
    np.put_along_axis(p, index, own * others - other * there, axis=axis)
    if not valid.all():
        np.copyto(p, np.nan, where=~valid.all(axis=axis, keepdims=True))
    return p


def _without(p: Floats, there: Floats, index: Floats, axis: int) -> Floats:
    """1 - p at the labels; where that would cancel the sum of the other probabilities."""
    moved = np.moveaxis(there, axis, -1)
    others = 1 - moved.reshape(-1, moved.shape[-1])
    row, i = np.nonzero(others < 1 - SURE)
    if row.size:
        rows = np.moveaxis(p, axis, -1).reshape(-1, p.shape[axis])[row]
        rows[np.arange(len(rows)), np.moveaxis(index, axis, -1).reshape(others.shape)[row, i]] = 0
        others[row, i] = rows.sum(axis=1)
    return np.moveaxis(others.reshape(moved.shape), -1, axis)
