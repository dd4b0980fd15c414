"""The linear model on CuPy arrays: the generic blocks, their loss and gradient in one kernel each."""

from __future__ import annotations

from typing import Any

from ..._array.typing import Array, Job, Namespace
from ..._kernels import linear as linear_kernels
from ..._kernels import loss as loss_kernels
from . import rows, should_run


def _value(xp: Namespace, z: Array, job: Job) -> Array:
    fits = should_run("cross_entropy", xp, z, job) is True
    return (rows if fits else loss_kernels).cross_entropy(xp, z, job)


def _value_and_grad(xp: Namespace, z: Array, job: Job) -> Any:
    fits = should_run("cross_entropy_value_and_grad", xp, z, job) is True
    return (rows if fits else loss_kernels).cross_entropy_value_and_grad(xp, z, job)


def linear_cross_entropy(
    xp: Namespace, X: Array, W: Array, bias: Array, job: Job, block_size: int | None = None
) -> Array:
    """The loss, reduced."""
    return linear_kernels.linear_cross_entropy(xp, X, W, bias, job, block_size, loss=_value)


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
    return linear_kernels.linear_cross_entropy_value_and_grad(
        xp, X, W, bias, job, wrt, classes, block_size, loss=_value_and_grad
    )
