"""The back end for PyTorch tensors, on any device.

Tensors that nothing records go through kernels that write in place; on a CPU those of ``torch_cpu`` come first. What
autograd records, ``torch.func`` transforms or ``torch.compile`` traces goes through operations whose every derivative
is a closed form.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..._kernels import high as high_kernels
from ..._kernels import linear as linear_kernels
from ..._kernels import loss as loss_kernels
from ..._kernels.log_probs import PLAIN
from ..._kernels.scaling import Scaling
from ..._options import OPTIONS, LossArgs
from .._declaration import Backend
from .._registry import call
from . import autograd as operations
from . import dense, linear, linear_recorded, recorded, recorded_kernels, shards
from . import loss as torch_loss
from .blocks import XP, autocast, is_eager, why_not_eager

_DENSE = ("softmax", "log_softmax", "logsumexp")
_VALUES = ("cross_entropy", "linear_cross_entropy")
_DERIVATIVES = ("cross_entropy_grad", "cross_entropy_value_and_grad", "linear_cross_entropy_value_and_grad")
_SHARDED = (
    "sharded_cross_entropy",
    "sharded_cross_entropy_value_and_grad",
    "sharded_linear_cross_entropy",
    "sharded_linear_cross_entropy_value_and_grad",
)
_LOG_PROBS = ("log_probs", "log_probs_vjp", "entropy")
#: What has derivatives of its own wherever it is called.
_RECORDS = (*_DENSE, *_LOG_PROBS, "linear_log_probs", *_SHARDED, "divergence", "linear_divergence")


def _is_compensated(x: Tensor, precision: str | None) -> bool:
    return precision == "high" and x.dtype is torch.float64


def should_run(function: str, xp: Any, x: Any, *rest: Any) -> bool | str:
    """Decline what a kernel that writes in place cannot do."""
    if function in _RECORDS:
        return True
    args = next(each for each in rest if isinstance(each, LossArgs))
    if function in _VALUES:
        return True
    if _is_compensated(x, args.precision) and function.startswith("linear"):
        return "precision='high' in float64 compensates a rounding error, which only the generic kernel does"
    if args.precision == "high" and not function.startswith("linear"):
        return "precision='high' is rounded as everywhere by the generic kernel"
    others = args.beyond(torch_loss.TAKEN)
    if others:
        return f"no kernel in place takes {', '.join(others)}"
    arrays = [each for each in (x, *rest) if isinstance(each, Tensor)]
    why = why_not_eager(*arrays, *args.arrays)
    return True if why is None else f"{why}: the generic kernel can be differentiated"


def _dense(
    name: str,
    operation: operations.Operation,
    x: Tensor,
    axis: int,
    where: Tensor | None,
    precision: str | None,
    *scaling: Scaling,
) -> Tensor:
    if where is not None:
        where = where.expand(x.shape)
    if not is_eager(x, where):
        if operations.nested_forward():
            return getattr(high_kernels, name)(XP, x, axis, where, precision)
        return operations.recorded(operation, x, where, axis, precision, *scaling)
    if precision == "high":
        return getattr(high_kernels, name)(XP, x, axis, where, precision)
    if where is None:
        return getattr(dense, name)(x, axis, precision)
    hidden = ~where
    value: Tensor = getattr(dense, name)(x.masked_fill(hidden, -math.inf), axis, precision)
    return value if name == "logsumexp" else value.masked_fill_(hidden, 0.0 if name == "softmax" else -math.inf)


def softmax(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: str | None = None) -> Tensor:
    """``exp(x) / sum(exp(x))``."""
    return _dense("softmax", operations.SOFTMAX, x, axis, where, precision)


def log_softmax(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: str | None = None) -> Tensor:
    """``x - logsumexp(x)``."""
    return _dense("log_softmax", operations.LOG_SOFTMAX, x, axis, where, precision, PLAIN)


def logsumexp(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: str | None = None) -> Tensor:
    """``log(sum(exp(x)))``, without ``axis``."""
    return _dense("logsumexp", operations.LOG_SUM_EXP, x, axis, where, precision)


def _autocast(x: Tensor) -> Tensor:
    """Half precision under autocast goes through float32 and stays there, as torch's own losses do."""
    if x.dtype in (torch.float16, torch.bfloat16) and autocast(x):
        return x.to(torch.float32)
    return x


def cross_entropy(xp: Any, logits: Tensor, args: LossArgs) -> Tensor:
    """The loss, reduced."""
    x = _autocast(logits)
    value: Tensor
    if recorded_kernels.takes(logits, args):
        value = recorded_kernels.cross_entropy(logits, args).to(x.dtype)
    elif operations.nested_forward():
        value = loss_kernels.cross_entropy(xp, x, args)
    elif not is_eager(x, *args.arrays):
        value = recorded.cross_entropy(x, args).to(x.dtype)
    elif x is not logits:
        value = call("cross_entropy", xp, x, args)
    elif args.beyond(torch_loss.TAKEN) or args.precision == "high":
        value = high_kernels.cross_entropy(xp, x, args)
    else:
        value = torch_loss.in_place(xp, x, args, True, False)[0]
    return value


def cross_entropy_grad(xp: Any, logits: Tensor, args: LossArgs) -> Tensor:
    """The gradient with respect to the logits."""
    return torch_loss.in_place(xp, logits, args, False, True)[1]


def cross_entropy_value_and_grad(xp: Any, logits: Tensor, args: LossArgs) -> tuple[Tensor, Tensor]:
    """Loss and gradient."""
    x = _autocast(logits)
    if x is logits:
        return torch_loss.in_place(xp, x, args, True, True)
    value, grad = call("cross_entropy_value_and_grad", xp, x, args)
    return value, grad.to(logits.dtype)


def linear_cross_entropy(
    xp: Any, X: Tensor, W: Tensor, bias: Tensor | None, args: LossArgs, block_size: int | None = None
) -> Tensor:
    """The loss, reduced; where autograd records it, with its gradients, block by block."""
    extra = args.arrays
    if not _is_compensated(X, args.precision):
        if is_eager(X, W, bias, *extra):
            return linear.linear_cross_entropy(xp, X, W, bias, args, block_size)
        if linear_recorded.recordable(X, W, bias, *extra):
            return linear_recorded.LinearLoss.apply(xp, X, W, bias, args, block_size)
    return linear_kernels.linear_cross_entropy(xp, X, W, bias, args, block_size, cross_entropy)


def linear_cross_entropy_value_and_grad(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss and its gradients."""
    return linear.value_and_grad(xp, X, W, bias, args, wrt, classes, block_size)


BACKEND = Backend(
    name="torch",
    types=("torch:Tensor",),
    functions={
        **{name: f"{__name__}:{name}" for name in (*_DENSE, *_VALUES, *_DERIVATIVES)},
        **{name: f"{shards.__name__}:{name}" for name in _SHARDED},
        "divergence": f"{__name__}.divergence:divergence",
        "linear_divergence": f"{__name__}.linear_divergence:linear_divergence",
        **{name: f"{__name__}.log_probs:{name}" for name in _LOG_PROBS},
        "linear_log_probs": f"{__name__}.linear_log_probs:linear_log_probs",
    },
    should_run=f"{__name__}:should_run",
    options=OPTIONS,
)
