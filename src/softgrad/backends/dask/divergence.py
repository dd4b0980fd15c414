"""The divergence of two softmaxes on Dask arrays: rows by chunk, sums by Dask's tree."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._array.namespace import library, without_fp_warnings
from ..._array.typing import AnyArray, Namespace
from ..._kernels.dense import held_dtype, widen
from ..._kernels.divergence import DivergenceArgs
from .chunks import entry, on_chunk, quotient, rowwise, sum_all


def _chunk(
    x: AnyArray,
    target: AnyArray,
    weight: AnyArray,
    where: AnyArray,
    labels: AnyArray,
    *,
    args: DivergenceArgs,
    wrt: tuple[str, ...],
) -> Any:
    if args.reduction != "none":
        # in float32 at least, as what is weighted may outgrow half
        x, _ = widen(library(x, "a chunk").xp, x, None)
    args = args._replace(target=target, sample_weight=weight, where=where, labels=labels, reduction="none")
    value, grads = on_chunk("divergence", x, args, wrt)
    return (value, *grads)


@without_fp_warnings
def _ones(x: AnyArray, *, axis: int, held: Any) -> AnyArray:
    xp = library(x, "a chunk").xp
    return xp.ones_like(x[(*(slice(None),) * axis, 0, ...)], dtype=held)


def divergence(xp: Namespace, logits: AnyArray, args: DivergenceArgs, wrt: tuple[str, ...] = ()) -> Any:
    """The divergence, reduced, and its gradients by ``wrt``; each chunk is read once."""
    axis, held = args.axis, held_dtype(np, logits.dtype)
    bare = args._replace(target=None, where=None, sample_weight=None, labels=None)
    told = True if args.labels is None else None
    arrays = [
        (logits, True),
        (args.target, told),
        (args.sample_weight, False),
        (args.where, True),
        (args.labels, told),
    ]
    dtype = logits.dtype if args.reduction == "none" else held
    both = rowwise(_chunk, axis, arrays, dtype, keeps_axis=True, options={"args": bare, "wrt": wrt})
    value = entry(both, 0, axis, keeps_axis=False)
    divisor = None
    if args.reduction != "none":
        value = sum_all(value, held)
    if args.reduction == "mean":
        weight = args.sample_weight
        if weight is None:
            options = {"axis": axis, "held": held}
            weight = rowwise(_ones, axis, [(logits, True)], held, keeps_axis=False, options=options)
        divisor = sum_all(weight, held)
    grads = []
    for i, name in enumerate(wrt):
        of = logits if name == "logits" else args.target
        grads.append(quotient(entry(both, i + 1, axis, keeps_axis=True), divisor, of.dtype))
    return quotient(value, divisor, logits.dtype), tuple(grads)
