"""Coordinates in which the loss of the linear model curves alike in all directions, so that a solver takes few steps.

The Hessian of the softmax loss is at most (I - 1 1^T / K) / 2 times the second moments of the features (Bohning,
"Multinomial logistic regression algorithm", 1992), and close to a multiple of them where the probabilities are close to
each other. With ``A = factor * moments + penalty = L L^T`` the solver works on ``U = W L``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._namespace import Library
from ._typing import Array
from .backends._host import to_host

Host = np.ndarray[Any, Any]

#: Features above which the moments would be too large a matrix.
MOST_FEATURES = 2048
#: Rows that the moments are taken from: these, and this many for each feature.
ROWS, ROWS_A_FEATURE = 8192, 16
#: Curvature of a fitted model beside that of one where all classes are alike; measured on a dozen data sets.
SHARPNESS = 0.1
#: Least curvature of a direction, relative to its features: what bounds the step along collinear ones.
LEAST = 1e-7
#: Weight of the features' own moments where the others come from some of the rows.
SHRINK = 0.01
#: Elements of a block of rows.
BLOCK = 1 << 20


class Scaling:
    """The change of variables ``W = U L^{-1}``; rows are classes, columns features and the intercept.

    Parameters
    ----------
    curvature : ndarray of shape (p, p)
        Symmetric, positive definite.
    """

    def __init__(self, curvature: Host) -> None:
        size = np.sqrt(np.diag(curvature))
        alike = curvature / size[:, None] / size[None, :] + LEAST * np.eye(len(size))
        self.factor = np.linalg.cholesky(alike) * size[:, None]
        self.inverse = np.linalg.inv(self.factor)

    def coefficients(self, u: Host) -> Host:
        """What the loss is computed at."""
        return u @ self.inverse

    def pulled_back(self, gradient: Host) -> Host:
        """The gradient with respect to the solver's variables."""
        return gradient @ self.inverse.T

    def variables(self, coefficients: Host) -> Host:
        """The solver's variables of given coefficients."""
        return coefficients @ self.factor


def second_moments(lib: Library | None, X: Any, weight: Any, intercept: bool) -> Host | None:
    """Mean of x x^T over the samples (x with a 1 for the intercept), on the host; None where it is not to be had.

    ``lib`` None is a scipy.sparse matrix. Where there are more than enough rows, every so many give the correlations,
    and all of them the squares.
    """
    n, m = int(X.shape[0]), int(X.shape[1])
    p = m + intercept
    if p > min(MOST_FEATURES, n):
        return None
    step = max(1, n // max(ROWS, ROWS_A_FEATURE * m))
    if lib is None:
        parts = _sparse_parts(X[::step], None if weight is None else weight[::step])
    else:
        parts = _dense_parts(lib, X[::step, :], None if weight is None else weight[::step])
    gram, sums, mass = (np.asarray(a, dtype=np.float64) for a in parts)
    if not (mass > 0 and np.all(np.isfinite(gram)) and np.all(np.isfinite(sums))):
        return None
    moments = np.empty((p, p))
    moments[:m, :m] = gram / mass
    if intercept:
        moments[m, :m] = moments[:m, m] = sums / mass
        moments[m, m] = 1.0
    if step > 1:
        squares = np.append(_squares(lib, X, weight), np.ones(int(intercept)))
        if not np.all(np.isfinite(squares)):
            return None
        seen = np.diag(moments).copy()
        ratio = np.sqrt(squares / np.where(seen > 0, seen, 1.0))
        moments *= (1 - SHRINK) * ratio[:, None] * ratio[None, :]
        moments[np.arange(p), np.arange(p)] = squares
    return moments


def _dense_parts(lib: Library, X: Array, weight: Array) -> list[Host]:
    xp = lib.xp
    weighted = X if weight is None else X * xp.expand_dims(weight, axis=1)
    gram = xp.matmul(xp.matrix_transpose(weighted), X)
    sums = xp.sum(weighted, axis=0, dtype=X.dtype)
    if weight is None:
        return [*to_host(lib, gram, sums), np.asarray(X.shape[0])]
    return to_host(lib, gram, sums, xp.sum(weight, dtype=X.dtype))


def _sparse_parts(X: Any, weight: Any) -> list[Host]:
    weighted = X if weight is None else X.multiply(weight[:, None]).tocsr()
    gram = (weighted.T @ X).toarray()
    mass = X.shape[0] if weight is None else weight.sum()
    return [gram, np.asarray(weighted.sum(axis=0)).reshape(-1), np.asarray(mass)]


def _squares(lib: Library | None, X: Any, weight: Any) -> Host:
    """Mean of the squares of each feature over all samples."""
    n, m = int(X.shape[0]), int(X.shape[1])
    if lib is None:
        squares = X.multiply(X) if weight is None else X.multiply(X).multiply(weight[:, None])
        return np.asarray(squares.sum(axis=0)).reshape(-1) / (n if weight is None else weight.sum())
    xp = lib.xp
    total: Any = None
    rows = max(1, BLOCK // m)
    for start in range(0, n, rows):
        x = X[start : start + rows, :]
        square = x * x if weight is None else x * x * xp.expand_dims(weight[start : start + rows], axis=1)
        part = xp.sum(square, axis=0, dtype=X.dtype)
        total = part if total is None else total + part
    if weight is None:
        return np.asarray(to_host(lib, total)[0], dtype=np.float64) / n
    squares, mass = to_host(lib, total, xp.sum(weight, dtype=X.dtype))
    return np.asarray(squares, dtype=np.float64) / float(mass)


def scaling(moments: Host | None, classes: int, l2: float, intercept: bool) -> Scaling | None:
    """The scaling for a model of so many classes and this penalty; None where there is nothing to scale by."""
    if moments is None:
        return None
    curvature = (SHARPNESS * (classes - 1) / classes**2) * moments
    diagonal = np.arange(len(moments) - intercept)
    curvature[diagonal, diagonal] += l2
    flat = np.diag(curvature) <= 0
    # a feature that is 0 everywhere has no gradient: any scale will do
    curvature[flat, flat] = 1.0
    try:
        return Scaling(curvature)
    except np.linalg.LinAlgError:
        return None
