"""The back end for PyTorch tensors, on any device.

Tensors that nothing records go through kernels that write in place, block by block on a CPU. What autograd records,
``torch.func`` transforms or ``torch.compile`` traces goes through operations whose every derivative is a closed form.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._kernels import high as high_kernels
from ..._kernels import linear as linear_kernels
from ..._kernels import loss as loss_kernels
from ..._options import LossArgs
from .._declaration import Backend
from . import autograd as operations
from . import dense, linear, linear_recorded, recorded, recorded_kernels, shards, shared
from . import loss as torch_loss
from .blocks import autocast, obstacle, plain
from .pull import log_softmax_pull, log_softmax_push, softmax_pull

_DENSE = ("softmax", "log_softmax", "logsumexp")
_VALUES = ("cross_entropy", "linear_cross_entropy")
_DERIVATIVES = ("cross_entropy_grad", "cross_entropy_value_and_grad", "linear_cross_entropy_value_and_grad")
_SECOND = ("cross_entropy_hvp", "cross_entropy_hessian_diag")
_SHARDED = (
    "sharded_cross_entropy",
    "sharded_cross_entropy_value_and_grad",
    "sharded_linear_cross_entropy",
    "sharded_linear_cross_entropy_value_and_grad",
)
_LOG_PROBS = ("log_probs", "log_probs_vjp", "entropy", "entropy_vjp")
_LINEAR_LOG_PROBS = ("linear_log_probs", "linear_log_probs_vjp")
#: What has derivatives of its own wherever it is called.
_RECORDS = (*_DENSE, *_LOG_PROBS, *_LINEAR_LOG_PROBS, *_SHARDED, "divergence", "linear_divergence")
_PULLS = ("softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp")


def _carries(x: Tensor, precision: str | None) -> bool:
    return precision == "high" and x.dtype is torch.float64


def should_run(function: str, xp: Any, x: Any, *rest: Any) -> bool | str:
    """Decline what a kernel that writes in place cannot do."""
    if function in _RECORDS:
        return True
    if function in _PULLS:
        why = obstacle(x, rest[0])
        if why is not None:
            return f"{why}: the generic kernel can be differentiated"
        same = x.dtype is rest[0].dtype and (x.dtype in (torch.float32, torch.float64) or shared.on_host(x))
        return (same and x.numel() > 0) or "an empty array, half precision and two dtypes are the generic kernel's"
    job = next(each for each in rest if isinstance(each, LossArgs))
    if function in _VALUES:
        return True
    if _carries(x, job.precision) and function.startswith("linear"):
        return "precision='high' in float64 carries a rounding error that the generic kernel alone does"
    if operations.settles(x, job.precision) and not function.startswith("linear"):
        return "precision='high' is rounded as everywhere by the generic kernel"
    others = job.beyond(torch_loss.TAKEN)
    if others:
        return f"no kernel in place takes {', '.join(others)}"
    if function in _SECOND and not shared.on_host(x):
        return "the generic kernel has the second derivative on other devices"
    arrays = [each for each in (x, *rest) if isinstance(each, Tensor)]
    why = obstacle(*arrays, *job.arrays)
    return True if why is None else f"{why}: the generic kernel can be differentiated"


def _dense(
    name: str, operation: operations.Operation, x: Tensor, axis: int, where: Tensor | None, precision: str | None
) -> Tensor:
    known = plain(x, where)
    if known and where is None and not (_carries(x, precision) or operations.settles(x, precision)):
        return getattr(dense, name)(x, axis, precision)
    if where is not None:
        where = where.expand(x.shape)
    if known:
        return getattr(operations, name)(x, where, axis, precision)
    if operations.nested_forward():
        return getattr(high_kernels, name)(operations.XP, x, axis, where, precision)
    return operations.recorded(operation, x, where, axis, precision)


def softmax(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: str | None = None) -> Tensor:
    """exp(x) / sum(exp(x))."""
    return _dense("softmax", operations.SOFTMAX, x, axis, where, precision)


def log_softmax(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: str | None = None) -> Tensor:
    """X - logsumexp(x)."""
    return _dense("log_softmax", operations.LOG_SOFTMAX, x, axis, where, precision)


def logsumexp(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: str | None = None) -> Tensor:
    """log(sum(exp(x))), without ``axis``."""
    return _dense("logsumexp", operations.LOG_SUM_EXP, x, axis, where, precision)


def softmax_vjp(xp: Any, probs: Tensor, cotangent: Tensor, axis: int) -> Tensor:
    """P (c - sum(p c))."""
    return softmax_pull(probs, cotangent, axis)


def log_softmax_vjp(xp: Any, log_probs: Tensor, cotangent: Tensor, axis: int) -> Tensor:
    """C - p sum(c)."""
    return log_softmax_pull(log_probs, cotangent, axis)


def log_softmax_jvp(xp: Any, log_probs: Tensor, tangent: Tensor, axis: int) -> Tensor:
    """T - sum(p t)."""
    return log_softmax_push(log_probs, tangent, axis)


#: The Jacobian diag(p) - p pT is symmetric.
softmax_jvp = softmax_vjp


def _autocast(x: Tensor) -> Tensor:
    """Half precision under autocast goes through float32 and stays there, as torch's own losses do."""
    if x.dtype in (torch.float16, torch.bfloat16) and autocast(x):
        return x.to(torch.float32)
    return x


def cross_entropy(xp: Any, logits: Tensor, job: LossArgs) -> Tensor:
    """The loss, reduced."""
    x = _autocast(logits)
    if recorded_kernels.takes(logits, job):
        return recorded_kernels.cross_entropy(logits, job).to(x.dtype)
    if operations.nested_forward():
        return loss_kernels.cross_entropy(xp, x, job)
    if not plain(x, *job.arrays):
        return recorded.cross_entropy(x, job).to(x.dtype)
    if job.beyond(torch_loss.TAKEN) or operations.settles(x, job.precision):
        return high_kernels.cross_entropy(xp, x, job)
    value = torch_loss.cross_entropy(xp, x, job, True, False)[0]
    assert value is not None
    return value


def cross_entropy_grad(xp: Any, logits: Tensor, job: LossArgs) -> Tensor:
    """The gradient with respect to the logits."""
    grad = torch_loss.cross_entropy(xp, logits, job, False, True)[1]
    assert grad is not None
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Tensor, job: LossArgs) -> tuple[Tensor, Tensor]:
    """Loss and gradient."""
    x = _autocast(logits)
    value, grad = torch_loss.cross_entropy(xp, x, job, True, True)
    assert value is not None
    assert grad is not None
    return value, grad.to(logits.dtype)


def cross_entropy_hvp(xp: Any, logits: Tensor, job: LossArgs, vector: Tensor) -> Tensor:
    """The second derivative times ``vector``."""
    product: Tensor = shared.host("cross_entropy_hvp", logits, job, vector)
    return product


def cross_entropy_hessian_diag(xp: Any, logits: Tensor, job: LossArgs) -> Tensor:
    """The diagonal of the second derivative."""
    diagonal: Tensor = shared.host("cross_entropy_hessian_diag", logits, job)
    return diagonal


def linear_cross_entropy(
    xp: Any, X: Tensor, W: Tensor, bias: Tensor | None, job: LossArgs, block_size: int | None = None
) -> Tensor:
    """The loss, reduced; where autograd records it, with its gradients, block by block."""
    extra = job.arrays
    if not _carries(X, job.precision):
        if plain(X, W, bias, *extra):
            return linear.linear_cross_entropy(xp, X, W, bias, job, block_size)
        if linear_recorded.recordable(X, W, bias, *extra):
            return linear_recorded.LinearLoss.apply(xp, X, W, bias, job, block_size)
    return linear_kernels.linear_cross_entropy(xp, X, W, bias, job, block_size, cross_entropy)


def linear_cross_entropy_value_and_grad(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    job: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss and its gradients."""
    return linear.value_and_grad(xp, X, W, bias, job, wrt, classes, block_size)


#: Of a loss, that the kernels take.
_OPTIONS = (
    "softcap temperature logit_shift label_smoothing class_weight focal ignore_index z_loss precision "
    "sample_weight where"
)

BACKEND = Backend(
    name="torch",
    types=("torch:Tensor",),
    functions={
        **{name: f"{__name__}:{name}" for name in (*_DENSE, *_VALUES, *_DERIVATIVES, *_SECOND, *_PULLS)},
        **{name: f"{shards.__name__}:{name}" for name in _SHARDED},
        "divergence": f"{__name__}.divergence:divergence",
        "linear_divergence": f"{__name__}.linear_divergence:linear_divergence",
        **{name: f"{__name__}.log_probs:{name}" for name in _LOG_PROBS},
        **{name: f"{__name__}.linear_log_probs:{name}" for name in _LINEAR_LOG_PROBS},
    },
    should_run=f"{__name__}:should_run",
    options=tuple(_OPTIONS.split()),
)
