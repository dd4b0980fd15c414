"""Cotangents of log-probabilities of one label a sample on CuPy arrays, by the kernel of the loss."""

from __future__ import annotations

from typing import Any

from ..._array.typing import AnyArray, Namespace
from ..._kernels import log_probs as generic
from ..._kernels.scaling import Scaling
from .rows import cross_entropy_grad


def log_probs_vjp(
    xp: Namespace,
    x: AnyArray,
    labels: AnyArray,
    cotangent: AnyArray,
    axis: int,
    where: None,
    precision: None,
    scaling: Scaling,
) -> Any:
    """``c (onehot - p)`` of a sample's only label."""
    return generic.one_label_vjp(xp, x, labels, cotangent, axis, precision, cross_entropy_grad)
