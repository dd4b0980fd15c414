"""The identity that softgrad grew from, in its own notation: nabla_W E_in = X (S - Y)^T.

X is (M, N), a column for each sample; Y is (K, N), a one-hot column for each sample; W is (M, K), a column for each
class. The loss is a sum over the samples. These are the formulas as they are written down, with the N x K matrix
of logits in full: to check against, and to learn from. To compute with, take
:func:`softgrad.linear_cross_entropy_value_and_grad` with ``sample_axis=1, reduction="sum"``.
"""

from __future__ import annotations

from ._array.namespace import library
from ._array.typing import Array
from ._dense import log_softmax, softmax
from ._logsumexp import logsumexp

__all__ = [
    "gradient_column",
    "gradient_product",
    "loss_from_normalizer",
    "loss_from_probabilities",
    "slipped_gradient_column",
]


def _logits(X: Array, W: Array) -> Array:
    xp = library(X, "X").xp
    return xp.matmul(xp.matrix_transpose(W), X)


def loss_from_probabilities(X: Array, Y: Array, W: Array) -> Array:
    """E_in(W) = -sum_n sum_k 1{y_n = k} log(exp(w_k^T x_n) / sum_j exp(w_j^T x_n)).

    Parameters
    ----------
    X, Y, W : array
        Of shape (M, N), (K, N) and (M, K), of one floating dtype.

    Returns
    -------
    array
        0-d.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import identity
    >>> X, Y, W = np.ones((1, 2)), np.eye(2), np.zeros((1, 2))
    >>> print(identity.loss_from_probabilities(X, Y, W).round(6))
    1.386294
    """
    xp = library(X, "X").xp
    return -xp.sum(Y * log_softmax(_logits(X, W), axis=0))


def loss_from_normalizer(X: Array, Y: Array, W: Array) -> Array:
    """E_in(W) = sum_n sum_k 1{y_n = k} (log sum_j exp(w_j^T x_n) - w_k^T x_n).

    Parameters
    ----------
    X, Y, W : array
        Of shape (M, N), (K, N) and (M, K), of one floating dtype.

    Returns
    -------
    array
        0-d.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import identity
    >>> X, Y, W = np.ones((1, 2)), np.eye(2), np.zeros((1, 2))
    >>> print(identity.loss_from_normalizer(X, Y, W).round(6))
    1.386294
    """
    xp = library(X, "X").xp
    logits = _logits(X, W)
    return xp.sum(Y * (logsumexp(logits, axis=0, keepdims=True) - logits))


def gradient_column(X: Array, Y: Array, W: Array, i: int) -> Array:
    """Column i of the gradient: sum_n x_n (S_in - y_in).

    Parameters
    ----------
    X, Y, W : array
        Of shape (M, N), (K, N) and (M, K), of one floating dtype.
    i : int
        The class.

    Returns
    -------
    array
        Of shape (M,).

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import identity
    >>> X, Y, W = np.asarray([[1.0, 3.0]]), np.eye(2), np.zeros((1, 2))
    >>> identity.gradient_column(X, Y, W, 0)
    array([1.])
    """
    xp = library(X, "X").xp
    S = softmax(_logits(X, W), axis=0)
    return xp.sum(X * (S[i, :] - Y[i, :]), axis=1)


def gradient_product(X: Array, Y: Array, W: Array) -> Array:
    """The whole gradient as one product: X (S - Y)^T.

    Parameters
    ----------
    X, Y, W : array
        Of shape (M, N), (K, N) and (M, K), of one floating dtype.

    Returns
    -------
    array
        Of shape (M, K).

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import identity
    >>> X, Y, W = np.asarray([[1.0, 3.0]]), np.eye(2), np.zeros((1, 2))
    >>> identity.gradient_product(X, Y, W)
    array([[ 1., -1.]])
    """
    xp = library(X, "X").xp
    S = softmax(_logits(X, W), axis=0)
    return xp.matmul(X, xp.matrix_transpose(S - Y))


def slipped_gradient_column(X: Array, Y: Array, W: Array, i: int) -> Array:
    """The slip that hides the identity: the index i lost from the second term, sum_n x_n (S_in - sum_k y_kn).

    Wrong, and kept to show by how much: w_k^T x_n depends on w_i only where k = i.

    Parameters
    ----------
    X, Y, W : array
        Of shape (M, N), (K, N) and (M, K), of one floating dtype.
    i : int
        The class.

    Returns
    -------
    array
        Of shape (M,).

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import identity
    >>> X, Y, W = np.asarray([[1.0, 3.0]]), np.eye(2), np.zeros((1, 2))
    >>> identity.slipped_gradient_column(X, Y, W, 0)
    array([-2.])
    """
    xp = library(X, "X").xp
    S = softmax(_logits(X, W), axis=0)
    return xp.sum(X * (S[i, :] - xp.sum(Y, axis=0)), axis=1)
