"""Coordinates in which the loss of the linear model has about the same curvature in all directions, for fewer steps.

The Hessian of the softmax loss is at most (I - 1 1^T / K) / 2 times the second moments of the features (Bohning,
"Multinomial logistic regression algorithm", 1992), and close to a multiple of them where the probabilities are close to
each other. With ``A = factor * moments + penalty = L L^T`` the solver works on ``U = W L``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array.namespace import Library
from .._array.transfer import to_host
from .._array.typing import NDArray
from .._kernels.dense import device_of, product
from ..backends.sparse.chunks import are_sparse

#: Features above which the moments would be too large a matrix.
MOST_FEATURES = 2048
#: Rows that the moments are taken from: these, and this many for each feature.
ROWS, ROWS_A_FEATURE = 8192, 16
#: Curvature of a fitted model relative to one with equally likely classes; measured on a dozen data sets.
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
        Symmetric, positive definite but for rounding.
    spacing : float
        Relative spacing of the numbers that it was summed in.
    """

    def __init__(self, curvature: NDArray, spacing: float = 2.0**-52) -> None:
        size = np.sqrt(np.diag(curvature))
        correlation = curvature / size[:, None] / size[None, :]
        least = max(LEAST, 100 * spacing)
        while True:
            try:
                self.factor = np.linalg.cholesky(correlation + least * np.eye(len(size))) * size[:, None]
                break
            except np.linalg.LinAlgError:
                # rounding left a direction with less than no curvature; above 1 all are as good as uncorrelated
                if least > 1:
                    raise
                least *= 10
        self.inverse = np.linalg.inv(self.factor)

    def coefficients(self, u: NDArray) -> NDArray:
        """What the loss is computed at."""
        return u @ self.inverse

    def pulled_back(self, gradient: NDArray) -> NDArray:
        """The gradient with respect to the solver's variables."""
        return gradient @ self.inverse.T

    def variables(self, coefficients: NDArray) -> NDArray:
        """The solver's variables of given coefficients."""
        return coefficients @ self.factor


def second_moments(lib: Library | None, X: Any, weight: Any, intercept: bool) -> NDArray | None:
    """Mean of x x^T over the samples (x with a 1 for the intercept), on the host; None where it is not to be had.

    ``lib`` None is a scipy.sparse matrix. Where there are more than enough rows, every so many give the correlations,
    and all of them the squares.
    """
    n, m = int(X.shape[0]), int(X.shape[1])
    p = m + intercept
    if p > min(MOST_FEATURES, n) or are_sparse(X):
        return None
    step = max(1, n // max(ROWS, ROWS_A_FEATURE * m))
    some, weights = X[::step, :], None if weight is None else weight[::step]
    magnitude = np.ones(m)
    gram, sums, total_weight = _parts(lib, some, weights, None)
    if not (np.all(np.isfinite(gram)) and np.all(np.isfinite(sums))):
        magnitude = _magnitudes(lib, X)
        gram, sums, total_weight = _parts(lib, some, weights, magnitude)
    if not total_weight > 0:
        return None
    moments = np.empty((p, p))
    moments[:m, :m] = gram / total_weight * magnitude[:, None] * magnitude[None, :]
    if intercept:
        moments[m, :m] = moments[:m, m] = sums / total_weight * magnitude
        moments[m, m] = 1.0
    if step > 1:
        squares = np.append(_squares(lib, X, weight, magnitude), np.ones(int(intercept)))
        observed = np.diag(moments).copy()
        ratio = np.sqrt(squares / np.where(observed > 0, observed, 1.0))
        moments *= (1 - SHRINK) * ratio[:, None] * ratio[None, :]
        moments[np.arange(p), np.arange(p)] = squares
    return moments if np.all(np.isfinite(moments)) else None


def _magnitudes(lib: Library | None, X: Any) -> NDArray:
    """The largest magnitude of each feature: what their squares, which overflow, are divided by."""
    if lib is None:
        magnitude = np.asarray(abs(X).max(axis=0).todense(), dtype=np.float64).reshape(-1)
    else:
        magnitude = np.asarray(to_host(lib, lib.xp.max(lib.xp.abs(X), axis=0))[0], dtype=np.float64)
    return np.where(magnitude > 0, magnitude, 1.0)


def _over(lib: Library | None, X: Any, magnitude: NDArray | None) -> Any:
    if magnitude is None or np.all(magnitude == 1):
        return X
    if lib is None:
        return X.multiply(1 / magnitude[None, :]).tocsr().astype(X.dtype)
    return X / lib.xp.asarray(magnitude, dtype=X.dtype, device=device_of(X))


def _parts(lib: Library | None, X: Any, weight: Any, magnitude: NDArray | None) -> tuple[NDArray, NDArray, float]:
    """(sum of x x^T, sum of x, sum of the weights), features divided by ``magnitude``."""
    X = _over(lib, X, magnitude)
    if lib is None:
        weighted = X if weight is None else X.multiply(weight[:, None]).tocsr()
        total_weight = float(X.shape[0] if weight is None else weight.sum())
        return (
            (weighted.T @ X).toarray().astype(np.float64),
            np.asarray(weighted.sum(axis=0)).reshape(-1),
            float(total_weight),
        )
    xp = lib.xp
    weighted = X if weight is None else X * xp.expand_dims(weight, axis=1)
    out = [product(xp, xp.matrix_transpose(weighted), X), xp.sum(weighted, axis=0, dtype=X.dtype)]
    if weight is not None:
        out.append(xp.sum(weight, dtype=X.dtype))
    host = [np.asarray(a, dtype=np.float64) for a in to_host(lib, *out)]
    return host[0], host[1], float(X.shape[0] if weight is None else host[2])


def _squares(lib: Library | None, X: Any, weight: Any, magnitude: NDArray) -> NDArray:
    """Mean of the squares of each feature over all samples."""
    n, m = int(X.shape[0]), int(X.shape[1])
    if lib is None:
        X = _over(lib, X, magnitude)
        squares = X.multiply(X) if weight is None else X.multiply(X).multiply(weight[:, None])
        return np.asarray(squares.sum(axis=0)).reshape(-1) / (n if weight is None else weight.sum()) * magnitude**2
    xp = lib.xp
    total: Any = None
    rows = max(1, BLOCK // m)
    for start in range(0, n, rows):
        x = _over(lib, X[start : start + rows, :], magnitude)
        square = x * x if weight is None else x * x * xp.expand_dims(weight[start : start + rows], axis=1)
        part = xp.sum(square, axis=0, dtype=X.dtype)
        total = part if total is None else total + part
    host = to_host(lib, total) if weight is None else to_host(lib, total, xp.sum(weight, dtype=X.dtype))
    return np.asarray(host[0], dtype=np.float64) / (n if weight is None else float(host[1])) * magnitude**2


def scaling(
    moments: NDArray | None, classes: int, l2: float, intercept: bool, spacing: float = 2.0**-52
) -> Scaling | None:
    """The scaling for a model of so many classes and this penalty; None where there is nothing to scale by."""
    if moments is None:
        return None
    curvature = (SHARPNESS * (classes - 1) / classes**2) * moments
    diagonal = np.arange(len(moments) - intercept)
    curvature[diagonal, diagonal] += l2
    flat = np.diag(curvature) <= 0
    # a feature that is 0 everywhere has no gradient: any scale will do
    curvature[flat, flat] = 1.0
    return Scaling(curvature, spacing)
