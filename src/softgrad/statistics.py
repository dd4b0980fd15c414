"""Statistics from the curvature of the linear softmax model: its diagonal, its blocks, the coefficients' precision.

:func:`hessian_diag` and :class:`BlockPreconditioner` take a loss that holds its data, a
:class:`softgrad.LinearCrossEntropy`; the other two take the data. The coefficients at which the curvature is wanted are
arrays, or those of a fitted :class:`softgrad.SoftmaxRegression`.
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
