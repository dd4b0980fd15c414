"""The linear softmax loss on a scipy.sparse matrix: the dense loss on blocks of rows, two sparse products each."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._cross_entropy import CrossEntropy
from ._kernels_linear import block_rows

Host = np.ndarray[Any, Any]


class SparseLinearCrossEntropy:
    """Mean cross-entropy of ``X W^T + bias`` for a CSR matrix X, as a function of W and bias.

    Parameters
    ----------
    X : scipy.sparse CSR matrix or array
        ``(n_samples, n_features)``.
    labels : ndarray
        Class indices ``(n_samples,)``.
    count : int
        Number of classes.
    sample_weight : ndarray, optional
        ``(n_samples,)``.
    class_weight : ndarray, optional
        ``(n_classes,)``.
    l2 : float
        Adds ``l2 / 2 * sum(W**2)``.
    """

    def __init__(
        self, X: Any, labels: Host, count: int, *, sample_weight: Host | None, class_weight: Host | None, l2: float
    ) -> None:
        self.loss = CrossEntropy(class_weight=class_weight, reduction="sum")
        self.l2 = l2
        n, rows = X.shape[0], block_rows(X.shape[0], count, X.dtype.itemsize, None)
        self.blocks = []
        for start in range(0, n, rows):
            piece = slice(start, start + rows)
            weight = None if sample_weight is None else sample_weight[piece]
            x = X if rows >= n else X[piece]
            self.blocks.append((x, x.T, labels[piece], weight))
        each = np.ones(n) if class_weight is None else np.asarray(class_weight, dtype=np.float64)[labels]
        self.weight = float(each.sum() if sample_weight is None else each @ sample_weight)

    def value_and_grad(self, W: Host, bias: Host | None = None) -> tuple[Any, Any]:
        """(value, gradient); with a bias the gradient is a tuple."""
        value, grad, shift = 0.0, np.zeros_like(W), np.zeros(W.shape[0], dtype=W.dtype)
        for x, turned, labels, weight in self.blocks:
            z = x @ W.T if bias is None else x @ W.T + bias
            part, g = self.loss.value_and_grad(z, labels, sample_weight=weight)
            value += float(part)
            grad += (turned @ g).T
            shift += g.sum(axis=0)
        value = value / self.weight + 0.5 * self.l2 * float(np.sum(W * W))
        grad = grad / self.weight + self.l2 * W
        return value, grad if bias is None else (grad, shift / self.weight)

    def hvp(self, W: Host, vector: Any, bias: Host | None = None) -> Any:
        """The second derivative times ``vector``, which is a tuple where there is a bias."""
        direction, turn = (vector, None) if bias is None else vector
        out, shift = np.zeros_like(W), np.zeros(W.shape[0], dtype=W.dtype)
        for x, turned, labels, weight in self.blocks:
            z, dz = x @ W.T, x @ direction.T
            if bias is not None:
                z, dz = z + bias, dz + turn
            h = self.loss.hvp(z, labels, dz, sample_weight=weight)
            out += (turned @ h).T
            shift += h.sum(axis=0)
        out = out / self.weight + self.l2 * direction
        return out if bias is None else (out, shift / self.weight)
