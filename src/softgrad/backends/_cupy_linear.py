"""The linear model on CuPy arrays: the generic blocks, their loss and gradient in one kernel each."""

from __future__ import annotations

from typing import Any

from .. import _kernels_linear, _kernels_loss
from .._typing import Array, Job, Namespace
from . import _cupy_rows
from .cupy import should_run


def _value(xp: Namespace, z: Array, job: Job) -> Array:
    fits = should_run("cross_entropy", xp, z, job) is True
    return (_cupy_rows if fits else _kernels_loss).cross_entropy(xp, z, job)


def _value_and_grad(xp: Namespace, z: Array, job: Job) -> Any:
    fits = should_run("cross_entropy_value_and_grad", xp, z, job) is True
    return (_cupy_rows if fits else _kernels_loss).cross_entropy_value_and_grad(xp, z, job)


def linear_cross_entropy(
    xp: Namespace, X: Array, W: Array, bias: Array, job: Job, block_size: int | None = None
) -> Array:
    """The loss, reduced."""
    return _kernels_linear.linear_cross_entropy(xp, X, W, bias, job, block_size, loss=_value)


def linear_cross_entropy_value_and_grad(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array,
    job: Job,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """The loss and its gradients."""
    return _kernels_linear.linear_cross_entropy_value_and_grad(
        xp, X, W, bias, job, wrt, classes, block_size, loss=_value_and_grad
    )
