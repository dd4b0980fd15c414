"""Log-probabilities, normalizer, entropy and likeliest classes of the linear softmax model, and their derivative.

Blocks of logits are made by the driver of the linear model and made again for a derivative: none is kept. Labels stand
as (n, m), several a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from .._array.typing import Array, ArrayIfAsked, Namespace
from .._options import LossArgs
from . import log_probs as kernels
from .dense import iota, log_normalizer, log_of, narrow, slice_axis
from .linear import BlockedLinear, linear_cross_entropy_value_and_grad
from .log_probs import PLAIN
from .scaling import Scaling, scaled
from .targets import index_dtype


class Wanted(NamedTuple):
    """What is wanted beside the log-probabilities and the normalizer, and how the logits are scaled."""

    entropy: bool = False
    #: How many of the likeliest classes.
    top_k: int = 0
    scaling: Scaling = PLAIN


class Rows(NamedTuple):
    """What is found for each sample, or its cotangents; None for what is not wanted."""

    log_probs: ArrayIfAsked = None
    log_normalizer: ArrayIfAsked = None
    entropy: ArrayIfAsked = None
    top_log_probs: ArrayIfAsked = None
    top_labels: ArrayIfAsked = None


def top_k_labels(xp: Namespace, z: Array, count: int) -> Array:
    """The classes of the ``count`` largest logits of each row, the largest first, of equal ones the lowest first."""
    index = iota(xp, z, 1, index_dtype(xp, z))
    left = index >= 0
    low = xp.zeros_like(z) - math.inf
    found = []
    for _ in range(count):
        most = xp.max(xp.where(left, z, low), axis=1, keepdims=True)
        best = xp.logical_and(left, z == most)
        at = xp.argmax(xp.astype(best, xp.int8), axis=1, keepdims=True)
        found.append(at)
        left = xp.logical_and(left, index != at)
    return narrow(xp, xp.concat(found, axis=1), index.dtype)


def of_block(xp: Namespace, z: Array, labels: Array, wanted: Wanted, compensated: bool) -> Rows:
    """The results of a block of logits."""
    row, _, _ = kernels.shifted_rows(xp, z, 1, None, compensated, wanted.scaling)
    normalizer = xp.log1p(row.sum_ex_max)
    log_p = log_of(xp, row, normalizer)
    h = top = at = None
    if wanted.entropy:
        h = xp.squeeze(normalizer - kernels.mean_of(xp, row, 1, compensated)[1], axis=1)
    if wanted.top_k:
        at = top_k_labels(xp, z, wanted.top_k)
        top = kernels.take_labels(xp, log_p, at, 1)
    lse = xp.squeeze(log_normalizer(xp, row, 1), axis=1)
    return Rows(kernels.take_labels(xp, log_p, labels, 1), lse, h, top, at)


def recorded_block(
    xp: Namespace,
    z: Array,
    fixed: Array,
    labels: Array,
    wanted: Wanted,
    precision: str | None,
    log_probs: Callable[..., Array],
    entropy: Callable[..., Array],
) -> Rows:
    """The same by functions with derivatives of their own; ``fixed`` is ``z`` as a constant."""

    def at(index: Array) -> Array:
        return log_probs(xp, z, index, 1, None, precision, wanted.scaling)

    h = entropy(xp, z, 1, None, precision, wanted.scaling) if wanted.entropy else None
    top = top_k_labels(xp, fixed, wanted.top_k) if wanted.top_k else None
    # the logit of the likeliest class less its log-probability
    best = xp.argmax(fixed, axis=1, keepdims=True)
    lse = scaled(xp, kernels.take_labels(xp, z, best, 1), wanted.scaling) - at(best)
    return Rows(at(labels), xp.squeeze(lse, axis=1), h, None if top is None else at(top), top)


def narrowed(xp: Namespace, rows: Rows, dtype: Any) -> Rows:
    """Results in the dtype of the input."""
    return Rows._make(a if a is None or i == 4 else narrow(xp, a, dtype) for i, a in enumerate(rows))


def linear_log_probs(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    wanted: Wanted,
    block_size: int | None = None,
    block: Callable[..., Rows] = of_block,
) -> Rows:
    """What is wanted of every sample."""
    model = BlockedLinear(xp, X, W, bias, args, block_size)
    compensated = args.precision == "high" and model.wide == W.dtype
    each = [narrowed(xp, block(xp, z, piece.labels, wanted, compensated), W.dtype) for *_, z, piece in model.blocks()]
    if len(each) == 1:
        return each[0]
    return Rows(*(None if some[0] is None else xp.concat(list(some), axis=0) for some in zip(*each, strict=True)))


def slopes(xp: Namespace, z: Array, labels: Array, c: Rows, scaling: Scaling, compensated: bool) -> Array:
    """The derivative by a block of logits."""
    row, _, _ = kernels.shifted_rows(xp, z, 1, None, compensated, scaling)
    by_label, by_normalizer, by_entropy = (None if a is None else narrow(xp, a, z.dtype) for a in c[:3])
    g = xp.zeros_like(z)
    if by_label is not None:
        g = kernels.label_slopes(xp, row, labels, by_label, 1)
    if by_entropy is not None:
        g = g + kernels.entropy_slopes(xp, row, xp.expand_dims(by_entropy, axis=1), 1, compensated)
    if by_normalizer is not None:
        g = g + row.e / (1 + row.sum_ex_max) * xp.expand_dims(by_normalizer, axis=1)
    return kernels.sloped(xp, g, z, scaling)


def linear_log_probs_vjp(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    scaling: Scaling,
    cotangents: Rows,
    block_size: int | None = None,
) -> tuple[Array, ...]:
    """What cotangents give by the parameters and X, the logits made again block by block."""
    done = 0

    def loss(xp: Namespace, z: Array, piece: LossArgs) -> tuple[Array, Array]:
        nonlocal done
        start, done = done, done + z.shape[0]
        c = cotangents
        if z.shape[0] != X.shape[0]:
            c = Rows(*(None if a is None else slice_axis(a, 0, start, done) for a in c))
        compensated = args.precision == "high" and z.dtype == W.dtype
        return xp.zeros_like(z[:1, :1]), slopes(xp, z, piece.labels, c, scaling, compensated)

    return linear_cross_entropy_value_and_grad(
        xp, X, W, bias, args._replace(reduction="sum"), wrt, None, block_size, loss=loss
    )[1]
