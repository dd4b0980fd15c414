"""Cross-entropy of Dask arrays: rows chunk by chunk, sums by Dask's tree reduction."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from ..._array.namespace import library, without_fp_warnings
from ..._array.typing import AnyArray, Namespace
from ..._kernels import loss as loss_kernels
from ..._kernels.dense import held_dtype, widen
from ..._kernels.targets import target
from ..._options import ARRAYS, BY_CLASS, LossArgs
from .chunks import entry, on_chunk, quotient, rowwise, sum_all


def _chunk_args(args: LossArgs, x: AnyArray, arrays: tuple[AnyArray, ...]) -> LossArgs:
    """What a kernel is given of a chunk: ``arrays`` as ``ARRAYS`` names them."""
    xp = library(x, "a chunk").xp
    own = dict(zip(ARRAYS, arrays, strict=True))
    by_class = {name: xp.reshape(own[name], (-1,)) for _, name in BY_CLASS if own[name] is not None}
    return args._replace(**own | by_class, reduction="none")


def _kernel(x: AnyArray, vector: AnyArray, *arrays: AnyArray, function: str, args: LossArgs) -> Any:
    piece = _chunk_args(args, x, arrays)
    if args.reduction != "none":
        x, _ = widen(library(x, "a chunk").xp, x, None)
    return on_chunk(function, x, piece, *(() if vector is None else (vector,)))


@without_fp_warnings
def _weights(x: AnyArray, vector: AnyArray, *arrays: AnyArray, args: LossArgs) -> Any:
    piece = _chunk_args(args, x, arrays)
    xp = library(x, "a chunk").xp
    x, _ = widen(xp, x, None)
    w = target(xp, x, piece._replace(label_smoothing=0.0), None)[3]
    kept, weight = loss_kernels.keep(xp, piece, x)
    ones = xp.ones_like(loss_kernels.cut_class(xp, x, args.axis)) if w is None else w
    return xp.squeeze(loss_kernels.scaled(xp, ones, kept, weight), axis=args.axis)


def _rows(
    call: Any, logits: AnyArray, args: LossArgs, *, keeps_axis: bool, vector: AnyArray = None, **options: Any
) -> AnyArray:
    """One row of results a sample, before the reduction.

    What is reduced is in float32 at least, as what is weighted may outgrow half; the rest is rounded once.
    """
    bare = args._replace(**dict.fromkeys(ARRAYS))
    # a class vector is one chunk for all: the axes that it lacks are given as size 1
    shape = (-1,) + (1,) * (logits.ndim - 1 - args.axis)
    own = dict(zip(ARRAYS, args.arrays, strict=True))
    by_class = {name: da.reshape(own[name].rechunk(-1), shape) for _, name in BY_CLASS if own[name] is not None}
    samples = {"sample_weight"} if args.dense else {"sample_weight", "labels"}
    arrays = [(logits, True), (vector, True), *((a, name not in samples) for name, a in (own | by_class).items())]
    dtype = logits.dtype if args.reduction == "none" and call is _kernel else _held(logits)
    return rowwise(call, args.axis, arrays, dtype, keeps_axis=keeps_axis, options={"args": bare, **options})


def _held(logits: AnyArray) -> Any:
    return held_dtype(np, logits.dtype)


def total_weight(xp: Namespace, logits: AnyArray, args: LossArgs) -> AnyArray:
    """Total weight, the divisor of the mean, 0-d."""
    return sum_all(_rows(_weights, logits, args, keeps_axis=False), _held(logits))


def _reduced(xp: Namespace, losses: AnyArray, logits: AnyArray, args: LossArgs) -> AnyArray:
    if args.reduction == "none":
        return quotient(losses, None, logits.dtype)
    value = sum_all(losses, losses.dtype)
    return quotient(value, total_weight(xp, logits, args) if args.reduction == "mean" else None, logits.dtype)


def _scaled(xp: Namespace, rows: AnyArray, logits: AnyArray, args: LossArgs) -> AnyArray:
    return quotient(rows, total_weight(xp, logits, args) if args.reduction == "mean" else None, logits.dtype)


def cross_entropy(xp: Namespace, logits: AnyArray, args: LossArgs) -> AnyArray:
    """The loss, reduced."""
    losses = _rows(_kernel, logits, args, keeps_axis=False, function="cross_entropy")
    return _reduced(xp, losses, logits, args)


def _derivative(xp: Namespace, logits: AnyArray, args: LossArgs, function: str, vector: AnyArray = None) -> AnyArray:
    rows = _rows(_kernel, logits, args, keeps_axis=True, vector=vector, function=function)
    return _scaled(xp, rows, logits, args)


def cross_entropy_grad(xp: Namespace, logits: AnyArray, args: LossArgs) -> AnyArray:
    """Gradient by the logits."""
    return _derivative(xp, logits, args, "cross_entropy_grad")


def cross_entropy_hvp(xp: Namespace, logits: AnyArray, args: LossArgs, vector: AnyArray) -> AnyArray:
    """Second derivative times ``vector``."""
    return _derivative(xp, logits, args, "cross_entropy_hvp", vector)


def cross_entropy_hessian_diag(xp: Namespace, logits: AnyArray, args: LossArgs) -> AnyArray:
    """Diagonal of the second derivative."""
    return _derivative(xp, logits, args, "cross_entropy_hessian_diag")


def cross_entropy_value_and_grad(xp: Namespace, logits: AnyArray, args: LossArgs) -> tuple[AnyArray, AnyArray]:
    """Loss and gradient in one pass over the chunks."""
    both = _rows(_kernel, logits, args, keeps_axis=True, function="cross_entropy_value_and_grad")
    losses, grads = (entry(both, i, args.axis, keeps_axis=i == 1) for i in (0, 1))
    return _reduced(xp, losses, logits, args), _scaled(xp, grads, logits, args)
