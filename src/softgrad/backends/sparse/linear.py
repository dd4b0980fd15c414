"""The linear softmax model on CSR arrays: blocks whose logits, and whose own entries, stay bounded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._array.typing import AnyArray, Namespace
from ..._kernels import linear as linear_kernels
from ..._kernels import linear_log_probs as log_prob_kernels
from ..._kernels.linear import BLOCK_BYTES, BLOCK_ROWS
from ..._kernels.linear_log_probs import Rows, Wanted
from ..._kernels.scaling import Scaling
from ..._options import LossArgs
from ..numpy import loss as numpy_loss


def rows_of_block(X: Any, classes: int, copies: int = 1) -> int:
    """Rows of a block: as many of logits, and ``copies`` of its entries (a number and an index each), as fit."""
    n, size = max(1, X.shape[0]), X.dtype.itemsize
    entries = copies * (X.nnz / n) * (size + X.indices.itemsize)
    most = max(BLOCK_ROWS, int(BLOCK_BYTES / max(1.0, classes * size, entries)))
    # all blocks of about the same size
    return -(-n // -(-n // most))


def _few_rows(X: Any, classes: int) -> int:
    """Rows of a block for the generic kernels, which hold some more arrays of its size."""
    return max(16, rows_of_block(X, classes) // 8)


def _by_columns(W: AnyArray) -> AnyArray:
    """``W`` whose transpose is in order of memory, as SciPy's product wants it."""
    return np.asfortranarray(W)


def linear_cross_entropy(
    xp: Namespace, X: Any, W: AnyArray, bias: AnyArray, args: LossArgs, block_size: int | None = None
) -> AnyArray:
    """The loss, reduced."""
    rows = block_size or rows_of_block(X, len(W))
    return linear_kernels.linear_cross_entropy(xp, X, _by_columns(W), bias, args, rows, loss=numpy_loss.cross_entropy)


def linear_cross_entropy_value_and_grad(
    xp: Namespace,
    X: Any,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """The loss and its gradients by W and bias."""
    rows, loss = block_size or rows_of_block(X, len(W)), numpy_loss.cross_entropy_value_and_grad
    return linear_kernels.linear_cross_entropy_value_and_grad(
        xp, X, _by_columns(W), bias, args, wrt, classes, rows, loss=loss
    )


def linear_cross_entropy_hvp(
    xp: Namespace,
    X: Any,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wrt: tuple[str, ...],
    vectors: tuple[AnyArray, ...],
    block_size: int | None = None,
) -> tuple[AnyArray, ...]:
    """Second derivative by W and bias, times ``vectors``."""
    rows = block_size or rows_of_block(X, len(W))
    turned = tuple(_by_columns(v) for v in vectors)
    return linear_kernels.linear_cross_entropy_hvp(xp, X, _by_columns(W), bias, args, wrt, turned, rows)


def linear_cross_entropy_hessian(
    xp: Namespace, X: Any, W: AnyArray, bias: AnyArray, args: LossArgs, intercept: bool, block_size: int | None = None
) -> AnyArray:
    """The Hessian as (k, m, k, m)."""
    rows = block_size or rows_of_block(X, len(W), copies=2)
    return linear_kernels.linear_cross_entropy_hessian(xp, X, _by_columns(W), bias, args, intercept, rows)


def linear_log_probs(
    xp: Namespace, X: Any, W: AnyArray, bias: AnyArray, args: LossArgs, wanted: Wanted, block_size: int | None = None
) -> Rows:
    """What is wanted of every sample."""
    rows = block_size or _few_rows(X, len(W))
    return log_prob_kernels.linear_log_probs(xp, X, _by_columns(W), bias, args, wanted, rows)


def linear_log_probs_vjp(
    xp: Namespace,
    X: Any,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wrt: tuple[str, ...],
    scaling: Scaling,
    cotangents: Rows,
    block_size: int | None = None,
) -> tuple[AnyArray, ...]:
    """What cotangents give by W and bias."""
    rows = block_size or _few_rows(X, len(W))
    return log_prob_kernels.linear_log_probs_vjp(xp, X, _by_columns(W), bias, args, wrt, scaling, cotangents, rows)
