"""The linear softmax model with few classes on NumPy arrays, by compiled loops shared out to threads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..._options import LossArgs
from ..numpy.blocks import Floats, threads_for
from ..numpy.linear_call import run_blocks
from . import linear_loops as loops
from ._width import VECTOR_BYTES
from .rows import samples_of

#: Bytes of the samples of a block, which stay in the innermost cache for both products.
L1_BYTES = 24 << 10
#: Samples of a block at most, for the sake of its logits, and at least, for the sum that each block adds to.
MOST_ROWS, LEAST_ROWS = 256, 64
#: Samples of ``n`` times so many numbers are cut into sqrt(n) pieces; each has a gradient of its own to add to.
PIECE = 1 << 16


def _flattened(a: Floats) -> Floats:
    """The array as one axis, read-only: numba compiles for each of the two kinds, and a caller's may be that."""
    flat = a.reshape(-1)
    flat.flags.writeable = False
    return flat


def _block(m: int, itemsize: int, lanes: int, block_size: int | None) -> int:
    """Samples of a block, in whole vectors."""
    rows = max(LEAST_ROWS, min(MOST_ROWS, L1_BYTES // (m * itemsize)))
    if block_size is not None:
        rows = min(rows, block_size)
    return max(lanes, rows // lanes * lanes)


def _weights(W: Floats, bias: Floats | None, lanes: int) -> tuple[Floats, Floats]:
    """(for some classes, as many as a vector has lanes, a vector for each feature, and so on; the biases), with 0s."""
    k, m = W.shape
    groups = -(-k // lanes)
    padded = np.zeros((groups * lanes, m), W.dtype)
    padded[:k] = W
    biases = np.zeros(groups * lanes, W.dtype)
    if bias is not None:
        biases[:k] = bias
    return np.ascontiguousarray(padded.reshape(groups, lanes, m).transpose(0, 2, 1)), biases


def _sums(
    X: Floats, W: Floats, bias: Floats | None, args: LossArgs, block_size: int | None, want_grad: bool
) -> tuple[Any, Floats, Floats]:
    """(loss, its gradient with respect to W and to bias, in double precision)."""
    (n, m), k, dtype = X.shape, len(W), W.dtype
    samples = samples_of(args, (n,), k, dtype.char)
    each = np.zeros(n if args.reduction == "none" else 0, dtype)
    if samples.divisor == 0.0 or not n:
        value = each if args.reduction == "none" else np.zeros((), dtype)
        return value, np.zeros((k, m)), np.zeros(k)
    lanes = VECTOR_BYTES // dtype.itemsize
    w, biases = _weights(W, bias, lanes)
    rows, row = biases.size, -(-m // lanes) * lanes
    weights = np.empty(0, dtype) if samples.weights is None else samples.weights
    x, w, biases, labels, weights = map(_flattened, (X, w, biases, samples.labels, weights))
    skipped = _flattened(np.asarray([] if args.ignore_index is None else [args.ignore_index], dtype=np.int64))
    factor, block = dtype.type(1.0 / samples.divisor), _block(m, dtype.itemsize, lanes, block_size)

    def task(first: int, last: int) -> tuple[float, Floats, Floats]:
        grad_W, grad_bias = np.zeros((rows if want_grad else 0, row)), np.zeros(rows)
        total = loops.run(
            x, m, first, last, w, biases, k, labels, weights, skipped, factor, block, grad_W.reshape(-1), row,
            grad_bias, each,
        )  # fmt: skip
        return total, grad_W, grad_bias

    results = run_blocks(task, n, block, threads_for(X.size), math.isqrt(X.size // PIECE), 8 * rows * row)
    total, grad_W, grad_bias = results[0]
    for some, some_W, some_bias in results[1:]:
        total += some
        grad_W += some_W
        grad_bias += some_bias
    value = each if args.reduction == "none" else np.asarray(total / samples.divisor).astype(dtype)
    return value, grad_W[:k, :m], grad_bias[:k]


def linear_cross_entropy(
    xp: Any, X: Floats, W: Floats, bias: Floats | None, args: LossArgs, block_size: int | None = None
) -> Any:
    """Return the loss, reduced."""
    return _sums(X, W, bias, args, block_size, False)[0]


def linear_cross_entropy_value_and_grad(
    xp: Any,
    X: Floats,
    W: Floats,
    bias: Floats | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[Any, tuple[Floats, ...]]:
    """Return the loss and its gradients with respect to ``wrt``, of W and bias."""
    value, *grads = _sums(X, W, bias, args, block_size, True)
    named = dict(zip(("W", "bias"), grads, strict=True))
    some = slice(None) if classes is None else np.asarray(classes, np.intp)
    return value, tuple(named[name][some].astype(W.dtype) for name in wrt)
