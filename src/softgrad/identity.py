"""The identity that softgrad grew from, in its own notation: nabla_W E_in = X (S - Y)^T.

X is (M, N), a column for each sample; Y is (K, N), a one-hot column for each sample; W is (M, K), a column for each
class. The loss is a sum over the samples. These are the formulas as they are written down, with the N x K matrix
of logits in full: to check against, and to learn from. To compute with, take
:func:`softgrad.linear_cross_entropy_value_and_grad` with ``sample_axis=1, reduction="sum"``.
"""

from __future__ import annotations

import functools
from typing import Any

from ._array.labels import same_shape
from ._array.namespace import Function, Library, check_same_library, floating, ignore_fp_warnings, kind, library
from ._array.scalars import integer
from ._array.typing import AnyArray, Array, Namespace
from ._dense import log_softmax, softmax
from ._docstrings import passes_on_to
from ._kernels.dense import product
from ._logsumexp import logsumexp

__all__ = [
    "gradient_column",
    "gradient_product",
    "loss_from_normalizer",
    "loss_from_probabilities",
    "slipped_gradient_column",
]


def _ignores_fp_warnings(function: Function) -> Function:
    """A formula in which NumPy says nothing of infinities and NaNs; what compiles another library's sees none of it."""

    @functools.wraps(function)
    def call(X: Any, *args: Any, **kwargs: Any) -> Any:
        with ignore_fp_warnings(library(X, "X")):
            return function(X, *args, **kwargs)

    return call  # type: ignore[return-value]


def _operand(lib: Library, X: Array, a: Any, name: str) -> Array:
    """``a`` checked to be of X's library and device, in X's dtype."""
    check_same_library(lib, X, a, name, "X")
    if name != "Y" or kind(lib.xp, a.dtype) != "bool":
        a = floating(lib, a, name)
    return a if a.dtype == X.dtype else lib.xp.astype(a, X.dtype)


def _checked(X: Any, Y: Any, W: Any) -> tuple[Namespace, Array, Array, Array]:
    """(namespace, X, Y, the logits) of arguments whose shapes agree."""
    lib = library(X, "X")
    X = floating(lib, X, "X")
    Y, W = _operand(lib, X, Y, "Y"), _operand(lib, X, W, "W")
    for name, a, form in (("X", X, "(M, N)"), ("W", W, "(M, K)")):
        if a.ndim != 2:
            raise ValueError(f"{name} must have two dimensions {form}, got shape {tuple(a.shape)}")
    (features, samples), (rows, classes) = tuple(X.shape), tuple(W.shape)
    if not same_shape((rows,), (features,)):
        raise ValueError(f"W must be (M, K) with the M = {features} of X (M, N), got shape {tuple(W.shape)}")
    if not same_shape(tuple(Y.shape), (classes, samples)):
        raise ValueError(
            f"Y must hold a one-hot column for each sample, (K, N) = ({classes}, {samples}), got shape "
            f"{tuple(Y.shape)}; class indices go to softgrad.linear_cross_entropy"
        )
    return lib.xp, X, Y, product(lib.xp, lib.xp.matrix_transpose(W), X)


def _class(i: Any, classes: int) -> int:
    i = integer(i, "i")
    if not -classes <= i < classes:
        raise IndexError(f"i is {i}: there are {classes} classes")
    return i


@_ignores_fp_warnings
def loss_from_probabilities(X: AnyArray, Y: AnyArray, W: AnyArray) -> AnyArray:
    """E_in(W) = -sum_n sum_k 1{y_n = k} log(exp(w_k^T x_n) / sum_j exp(w_j^T x_n)).

    Parameters
    ----------
    X : array
        Samples of shape (M, N), a column each; its floating dtype decides for all.
    Y : array
        One-hot columns (or distributions) of shape (K, N): numbers or booleans, not class indices.
    W : array
        Weights of shape (M, K).

    Returns
    -------
    array
        0-d.

    Raises
    ------
    TypeError, ValueError
        If an array is not of real numbers or of another library than X, or the shapes do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import identity
    >>> X, Y, W = np.ones((1, 2)), np.eye(2), np.zeros((1, 2))
    >>> print(identity.loss_from_probabilities(X, Y, W).round(6))
    1.386294
    """
    xp, _, Y, logits = _checked(X, Y, W)
    return -xp.sum(Y * log_softmax(logits, axis=0))


@passes_on_to(loss_from_probabilities, raises=loss_from_probabilities)
@_ignores_fp_warnings
def loss_from_normalizer(X: AnyArray, Y: AnyArray, W: AnyArray) -> AnyArray:
    """E_in(W) = sum_n sum_k 1{y_n = k} (log sum_j exp(w_j^T x_n) - w_k^T x_n).

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
    xp, _, Y, logits = _checked(X, Y, W)
    return xp.sum(Y * (logsumexp(logits, axis=0, keepdims=True) - logits))


@passes_on_to(loss_from_probabilities, raises=loss_from_probabilities)
@_ignores_fp_warnings
def gradient_column(X: AnyArray, Y: AnyArray, W: AnyArray, i: int) -> AnyArray:
    """Column i of the gradient: sum_n x_n (S_in - y_in).

    Parameters
    ----------
    i : int
        The class.

    Returns
    -------
    array
        Of shape (M,).

    Raises
    ------
    IndexError
        If there is no class ``i``.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import identity
    >>> X, Y, W = np.asarray([[1.0, 3.0]]), np.eye(2), np.zeros((1, 2))
    >>> identity.gradient_column(X, Y, W, 0)
    array([1.])
    """
    xp, X, Y, logits = _checked(X, Y, W)
    S, i = softmax(logits, axis=0), _class(i, Y.shape[0])
    return xp.sum(X * xp.expand_dims(S[i, :] - Y[i, :], axis=0), axis=1)


@passes_on_to(loss_from_probabilities, raises=loss_from_probabilities)
@_ignores_fp_warnings
def gradient_product(X: AnyArray, Y: AnyArray, W: AnyArray) -> AnyArray:
    """The whole gradient as one product: X (S - Y)^T.

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
    xp, X, Y, logits = _checked(X, Y, W)
    S = softmax(logits, axis=0)
    return product(xp, X, xp.matrix_transpose(S - Y))


@passes_on_to(gradient_column, raises=gradient_column)
@_ignores_fp_warnings
def slipped_gradient_column(X: AnyArray, Y: AnyArray, W: AnyArray, i: int) -> AnyArray:
    """The slip that hides the identity: the index i lost from the second term, sum_n x_n (S_in - sum_k y_kn).

    Wrong, and kept to show by how much: w_k^T x_n depends on w_i only where k = i.

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
    xp, X, Y, logits = _checked(X, Y, W)
    S, i = softmax(logits, axis=0), _class(i, Y.shape[0])
    return xp.sum(X * xp.expand_dims(S[i, :] - xp.sum(Y, axis=0), axis=0), axis=1)
