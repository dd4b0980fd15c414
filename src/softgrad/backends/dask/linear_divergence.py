"""The divergence of two linear models on Dask arrays: one task a chunk of rows, partial sums merged by a tree."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from ..._array.namespace import library
from ..._array.typing import AnyArray, Namespace
from ..._kernels.divergence import DivergenceArgs
from ..._kernels.linear_divergence import Given, Model
from ..._options import LossArgs
from .chunks import on_chunk, quotient
from .linear import Graph, results


def _divergence_part(
    x: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    loss_args: LossArgs,
    args: DivergenceArgs,
    wrt: tuple[str, ...],
    *rest: Any,
) -> tuple[Any, ...]:
    """(value, gradients) of one chunk; the target's rows take the labels' place, its parameters precede the size."""
    args = args._replace(where=loss_args.where, sample_weight=loss_args.sample_weight, reduction=loss_args.reduction)
    target: Model | Given
    *parameters, block_size = rest
    if parameters:
        target = Model(loss_args.labels, *parameters[0])
    else:
        xp, count = library(x, "a chunk").xp, loss_args.labels.shape[1] // 2
        target = Given(loss_args.labels[:, :count], xp.astype(loss_args.labels[:, count:], xp.int64))
    value, grads = on_chunk("linear_divergence", x, W, bias, target, args, wrt, block_size)
    return (value, *grads)


def linear_divergence(
    xp: Namespace,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    target: Model | Given,
    args: DivergenceArgs,
    wrt: tuple[str, ...] = (),
    block_size: int | None = None,
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """The divergence, reduced, and its gradients by some of W, bias and X."""
    known: tuple[AnyArray, ...] = target
    rows, *small = known
    if isinstance(target, Given):
        # side by side: a graph has one array beside X; every integer that is a class is a number of float64
        rows, small = da.concatenate([a.astype(np.float64) for a in known], axis=1, allow_unknown_chunksizes=True), []
    loss_args = LossArgs(1, rows, False, sample_weight=args.sample_weight, where=args.where, reduction=args.reduction)
    bare = args._replace(where=None, sample_weight=None)
    graph = Graph(X, W, bias, loss_args, _divergence_part, (bare, tuple(wrt), block_size), small)
    if args.reduction == "none":
        return quotient(graph.stacked("divergences", 1, ()), None, W.dtype), ()
    shapes = {"divergence": (), "W": W.shape, "bias": (W.shape[0],), "X": X.shape}
    value, *grads = results(graph, ["divergence", *wrt], shapes)
    return value, tuple(grads)
