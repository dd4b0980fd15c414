"""Log-probabilities of the linear model on NumPy arrays: one block of logits in memory, worked on in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._array.typing import AnyArray
from ..._kernels import linear as linear_kernels
from ..._kernels import linear_log_probs as generic
from ..._kernels.linear_log_probs import Rows, Wanted
from ..._kernels.log_probs import parted, take_labels, valid_labels
from ..._kernels.scaling import Scaling
from ..._options import LossArgs
from . import products
from .blocks import Block, Floats, Memory, narrow, over_blocks
from .log_probs import spread


class Model(linear_kernels.BlockedLinear):
    """The linear model, with all blocks of logits in the same memory."""

    def __init__(
        self, xp: Any, X: Floats, W: Floats, bias: Floats | None, args: LossArgs, block_size: int | None
    ) -> None:
        super().__init__(xp, X, W, bias, args, block_size)
        self.compensated = args.precision == "high" and self.wide == W.dtype
        self.held = np.empty((max(1, min(self.rows, self.n)), self.k), self.wide)
        #: What the products that follow add to, if any.
        self.total = np.empty((0, 0), self.wide)

    def logits(self, x: AnyArray) -> Floats:
        """The logits of some rows of X."""
        W: AnyArray = self.W
        bias: AnyArray = self.bias
        z = self.held[: len(x)]
        products.product_beside(z, x, W.T, self.total)
        if bias is not None:
            z += bias
        return z

    def usual(self, scaling: Scaling) -> bool:
        """Whether the kernels of blocks do what is asked for."""
        return scaling.softcap is None and not self.compensated


def _over_rows(z: Floats, work: Callable[[slice, Memory], None]) -> None:
    """``work`` on pieces of a block of logits that stay in cache, by threads."""

    def make(memory: Memory) -> Callable[[Block], None]:
        return lambda at: work(slice(at[0], at[1]), memory)

    over_blocks((*z.shape, 1), z.dtype, make)


def _likeliest(z: Floats, count: int) -> Floats:
    """The classes of the ``count`` largest logits, the largest first, of equal ones the lowest first."""
    k = z.shape[1]
    at = np.argpartition(z, k - count, axis=1)[:, k - count :] if count < k else np.tile(np.arange(k), (len(z), 1))
    at.sort(axis=1)
    values = np.take_along_axis(z, at, axis=1)
    # of equal logits a partition keeps any; a NaN compares as nothing
    tied = np.flatnonzero(np.count_nonzero(z >= values.min(axis=1, keepdims=True), axis=1) != count)
    if tied.size:
        at[tied] = np.sort(np.argsort(-z[tied], axis=1, kind="stable")[:, :count], axis=1)
        values[tied] = np.take_along_axis(z[tied], at[tied], axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(at, order, axis=1)


def linear_log_probs(
    xp: Any,
    X: Floats,
    W: Floats,
    bias: Floats | None,
    args: LossArgs,
    wanted: Wanted,
    block_size: int | None = None,
) -> Rows:
    """What is wanted of every sample."""
    model = Model(xp, X, W, bias, args, block_size)
    n, count, dtype = model.n, wanted.top_k, W.dtype
    out = Rows(
        np.empty((n, args.labels.shape[1]), dtype),
        np.empty(n, dtype),
        np.empty(n, dtype) if wanted.entropy else None,
        np.empty((n, count), dtype) if count else None,
        np.empty((n, count), np.int64) if count else None,
    )
    usual, temperature = model.usual(wanted.scaling), wanted.scaling.temperature
    z: AnyArray
    for start, _, _, z, piece in model.blocks():

        def work(rows: slice, memory: Memory, start: int = start, z: Floats = z, piece: LossArgs = piece) -> None:
            src, labels = z[rows], piece.labels[rows]
            if usual:
                found = _of_rows(xp, src, labels, wanted, temperature, memory)
            else:
                found = generic.of_block(xp, src, labels, wanted, model.compensated)
            for to, what in zip(out, found, strict=True):
                if to is not None:
                    narrow(np.asarray(what), to[start + rows.start : start + rows.stop])

        _over_rows(z, work)
    return out


def _of_rows(xp: Any, z: Floats, labels: AnyArray, wanted: Wanted, temperature: float, memory: Memory) -> Rows:
    # before the scratch memory of what follows is written
    at = _likeliest(z, wanted.top_k) if wanted.top_k else None
    _, _, rest, mean, m = (a if a.ndim == 3 else a[:, 0] for a in spread(z[:, :, None], memory, temperature))
    normalizer = np.log1p(rest)
    # the mean is NaN where the row has no sum
    less = (normalizer + 0 * mean)[:, None]

    def of(index: AnyArray) -> AnyArray:
        return (take_labels(xp, z, index, 1) - m[:, None]) / temperature - less

    lse = np.where(np.isinf(m), m, m / temperature + normalizer)
    return Rows(of(labels), lse, normalizer - mean, None if at is None else of(at), at)


def linear_log_probs_vjp(
    xp: Any,
    X: Floats,
    W: Floats,
    bias: Floats | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    scaling: Scaling,
    cotangents: Rows,
    block_size: int | None = None,
) -> tuple[Floats, ...]:
    """What cotangents give by the parameters and X."""
    model = Model(xp, X, W, bias, args, block_size)
    work_dtype = model.wide
    out: dict[str, Any] = {"W": None, "bias": np.zeros(model.k, work_dtype), "X": None}
    if "W" in wrt:
        out["W"] = model.total = np.zeros(model.W.shape, work_dtype)
    if "X" in wrt:
        out["X"] = np.empty(X.shape, W.dtype)
    usual = model.usual(scaling)
    x: AnyArray
    z: AnyArray
    weights: AnyArray = model.W
    for start, stop, x, z, piece in model.blocks():

        def work(rows: slice, memory: Memory, start: int = start, z: Floats = z, piece: LossArgs = piece) -> None:
            here = slice(start + rows.start, start + rows.stop)
            c = Rows(*(None if a is None else a[here].astype(work_dtype, copy=False) for a in cotangents))
            if usual:
                _slope_rows(xp, z[rows], piece.labels[rows], c, scaling.temperature, memory)
            else:
                z[rows] = generic.slopes(xp, z[rows], piece.labels[rows], c, scaling, model.compensated)

        _over_rows(z, work)
        if "W" in wrt:
            products.add_product(out["W"], z.T, x, start == 0)
        if "bias" in wrt:
            out["bias"] += np.add.reduce(z, axis=0)
        if "X" in wrt:
            products.write_product(out["X"][start:stop], z, weights)
    return tuple(out[name].astype(W.dtype, copy=False) for name in wrt)


def _slope_rows(xp: Any, z: Floats, labels: AnyArray, c: Rows, temperature: float, memory: Memory) -> None:
    """Write the derivative by some rows of logits in their place."""
    d, e, rest, mean, _ = (a[:, :, 0] if a.ndim == 3 else a for a in spread(z[:, :, None], memory, temperature))
    scale = 1 / ((1 + rest) * temperature)
    # what every class has its share of: NaN where the row has no sum
    shared = 0 * mean
    if c.log_normalizer is not None:
        shared = shared + c.log_normalizer[:, None]
    spreads = None if c.entropy is None else c.entropy[:, None]
    at_labels: Any = None
    index: Any = None
    if c.log_probs is not None:
        valid: AnyArray
        index, valid = valid_labels(xp, labels, z, 1)
        own, other = parted(xp, c.log_probs, index, 1)
        there, gap = (np.take_along_axis(a, index, axis=1) for a in (e, d))
        others = np.where(there == 1, rest, 1 + rest - there)
        more = shared if spreads is None else shared + spreads * (mean - gap)
        at_labels = (own * others - other * there + there * more) * scale
        at_labels[~valid.all(axis=1)] = np.nan
        shared = shared - np.where(valid, c.log_probs, np.nan).sum(axis=1, keepdims=True)
    if spreads is None:
        np.multiply(e, shared * scale, out=z)
    else:
        np.subtract(mean, d, out=z)
        z *= spreads * scale
        z += shared * scale
        z *= e
    if at_labels is not None:
        np.put_along_axis(z, index, at_labels, axis=1)
