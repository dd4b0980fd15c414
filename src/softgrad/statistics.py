"""Statistics from the curvature of the linear softmax model: its diagonal, its blocks, the coefficients' precision.

All take a loss that is bound to its data (:class:`softgrad.LinearCrossEntropy`) or the data themselves, and the
coefficients at which the curvature is wanted: as arrays, or as a fitted :class:`softgrad.SoftmaxRegression`.
"""

from __future__ import annotations

from .estimator.coefficients import CoefficientStatistics, coefficient_statistics
from .estimator.statistics import BlockPreconditioner, hessian_diag, linear_cross_entropy_hessian_diag

__all__ = [
    "BlockPreconditioner",
    "CoefficientStatistics",
    "coefficient_statistics",
    "hessian_diag",
    "linear_cross_entropy_hessian_diag",
]
