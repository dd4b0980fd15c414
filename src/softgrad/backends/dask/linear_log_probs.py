"""Log-probabilities of the linear model on Dask arrays: one task a chunk of rows."""

from __future__ import annotations

from typing import Any

import dask.array as da

from ..._array.typing import AnyArray, Namespace
from ..._kernels.linear_log_probs import Rows, Wanted
from ..._kernels.scaling import Scaling
from ..._options import LossArgs
from .chunks import on_chunk, quotient
from .linear import Graph, results


def linear_log_probs(
    xp: Namespace,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wanted: Wanted,
    block_size: int | None = None,
) -> Rows:
    """What is wanted of every sample."""
    graph = Graph(X, W, bias, args, "linear_log_probs", (wanted, block_size))
    chunks = graph.X.chunks[0]

    def rows(name: str, index: int, width: tuple[int, ...]) -> AnyArray:
        return quotient(graph.stacked(name, index, width), None, W.dtype)

    count, top, at = wanted.top_k, None, None
    if count:
        top = rows("top_log_probs", 4, (count,))
        at = graph.array("top_labels", graph.parts, 5, (chunks, (count,)), "int64")
    h = rows("entropy", 3, ()) if wanted.entropy else None
    return Rows(rows("log_probs", 1, args.labels.shape[1:]), rows("log_normalizer", 2, ()), h, top, at)


def _vjp_part(
    x: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wrt: tuple[str, ...],
    scaling: Scaling,
    entropy: bool,
    several: bool,
    given: tuple[AnyArray, ...],
    block_size: int | None,
) -> tuple[Any, ...]:
    """The sums of one chunk, of cotangents side by side."""
    (packed,) = given
    width = packed.shape[1] - entropy
    c = Rows(packed[:, :width] if several else None, None, packed[:, width] if entropy else None)
    return tuple(on_chunk("linear_log_probs_vjp", x, W, bias, args, wrt, scaling, c, block_size))


def linear_log_probs_vjp(
    xp: Namespace,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wrt: tuple[str, ...],
    scaling: Scaling,
    cotangents: Rows,
    block_size: int | None = None,
) -> tuple[AnyArray, ...]:
    """What cotangents give by the parameters and X, added up by a tree."""
    several, entropy = cotangents.log_probs is not None, cotangents.entropy is not None
    side = ([cotangents.log_probs] if several else []) + ([cotangents.entropy[:, None]] if entropy else [])
    packed = side[0] if len(side) == 1 else da.concatenate(side, axis=1, allow_unknown_chunksizes=True)
    options = (wrt, scaling, entropy, several, block_size)
    graph = Graph(X, W, bias, args._replace(reduction="sum"), _vjp_part, options, [None], packed)
    return tuple(results(graph, list(wrt), {"W": W.shape, "bias": (W.shape[0],), "X": X.shape}))
