"""The back end for JAX arrays: every kernel compiled, with closed forms under every transform.

A compilation is kept for each shape, dtype and set of options, as for JAX's own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._options import OPTIONS, LossArgs
from .._declaration import GENERIC, Backend
from . import dense, linear, shards
from . import loss as jax_loss
from .linear import split as _split

_DERIVATIVES = ("softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp")


@partial(jax.jit, static_argnums=(0, 1))
def _with_arrays(function: Callable[..., Any], args: LossArgs, arrays: Any, logits: AnyArray, *more: AnyArray) -> Any:
    return function(logits, args._replace(**arrays), *more)


_softmax, _log_softmax, _logsumexp = (
    jax.jit(function, static_argnums=(2, 3)) for function in (dense.softmax, dense.log_softmax, dense.logsumexp)
)
_generic = {name: partial(function, jnp) for name, function in GENERIC.items()}
_derivatives = {name: jax.jit(_generic[name], static_argnums=(2,)) for name in _DERIVATIVES}
_signed = jax.jit(_generic["signed_logsumexp"], static_argnums=(2, 4))
_complex = jax.jit(_generic["complex_logsumexp"], static_argnums=(2,))
_value = jax.jit(linear.value, static_argnums=(4,))
_value_and_grad = jax.jit(linear.value_and_grad, static_argnums=(4,))
_hvp = jax.jit(linear.hvp, static_argnums=(5,))


def softmax(xp: Any, x: AnyArray, axis: int, where: AnyArray | None = None, precision: str | None = None) -> AnyArray:
    """``exp(x) / sum(exp(x))``."""
    return _softmax(x, where, axis, precision)


def log_softmax(
    xp: Any, x: AnyArray, axis: int, where: AnyArray | None = None, precision: str | None = None
) -> AnyArray:
    """``x - logsumexp(x)``."""
    return _log_softmax(x, where, axis, precision)


def logsumexp(xp: Any, x: AnyArray, axis: int, where: AnyArray | None = None, precision: str | None = None) -> AnyArray:
    """``log(sum(exp(x)))``, without ``axis``."""
    return _logsumexp(x, where, axis, precision)


def signed_logsumexp(
    xp: Any, x: AnyArray, b: AnyArray, axis: int, where: AnyArray | None = None, precision: str | None = None
) -> tuple[AnyArray, AnyArray]:
    """log|sum(b exp(x))| and the sum's sign."""
    return _signed(x, b, axis, where, precision)


def complex_logsumexp(
    xp: Any, x: AnyArray, b: AnyArray | None, axis: int, where: AnyArray | None = None
) -> tuple[AnyArray, AnyArray]:
    """log|sum(b exp(x))| and the sum's phase."""
    return _complex(x, b, axis, where)


def softmax_vjp(xp: Any, probs: AnyArray, cotangent: AnyArray, axis: int) -> AnyArray:
    """``p (c - sum(p c))``."""
    return _derivatives["softmax_vjp"](probs, cotangent, axis)


def softmax_jvp(xp: Any, probs: AnyArray, tangent: AnyArray, axis: int) -> AnyArray:
    """``p (t - sum(p t))``."""
    return _derivatives["softmax_jvp"](probs, tangent, axis)


def log_softmax_vjp(xp: Any, log_probs: AnyArray, cotangent: AnyArray, axis: int) -> AnyArray:
    """``c - p sum(c)``."""
    return _derivatives["log_softmax_vjp"](log_probs, cotangent, axis)


def log_softmax_jvp(xp: Any, log_probs: AnyArray, tangent: AnyArray, axis: int) -> AnyArray:
    """``t - sum(p t)``."""
    return _derivatives["log_softmax_jvp"](log_probs, tangent, axis)


def cross_entropy(xp: Any, logits: AnyArray, args: LossArgs) -> AnyArray:
    """The loss, reduced."""
    return _with_arrays(jax_loss.cross_entropy, *_split(args), logits)


def cross_entropy_value_and_grad(xp: Any, logits: AnyArray, args: LossArgs) -> tuple[AnyArray, AnyArray]:
    """Loss and gradient."""
    return _with_arrays(jax_loss.value_and_grad, *_split(args), logits)


def cross_entropy_grad(xp: Any, logits: AnyArray, args: LossArgs) -> AnyArray:
    """The gradient with respect to the logits."""
    return _with_arrays(jax_loss.grad, *_split(args), logits)


def cross_entropy_hvp(xp: Any, logits: AnyArray, args: LossArgs, vector: AnyArray) -> AnyArray:
    """Second derivative times ``vector``."""
    return _with_arrays(jax_loss.hvp, *_split(args), logits, vector)


def cross_entropy_hessian_diag(xp: Any, logits: AnyArray, args: LossArgs) -> AnyArray:
    """Diagonal of the second derivative."""
    return _with_arrays(_generic["cross_entropy_hessian_diag"], *_split(args), logits)


def total_weight(xp: Any, logits: AnyArray, args: LossArgs) -> AnyArray:
    """What the mean divides by."""
    return _with_arrays(_generic["total_weight"], *_split(args), logits)


def linear_cross_entropy(
    xp: Any, X: AnyArray, W: AnyArray, bias: AnyArray | None, args: LossArgs, block_size: int | None = None
) -> AnyArray:
    """The loss, reduced."""
    static, arrays = _split(args)
    return _value(X, W, bias, arrays, linear.Model(static, block_size))


def linear_cross_entropy_value_and_grad(
    xp: Any,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """The loss and its gradients."""
    static, arrays = _split(args)
    return _value_and_grad(X, W, bias, arrays, linear.Model(static, block_size, tuple(wrt), classes))


def linear_cross_entropy_hvp(
    xp: Any,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    vectors: tuple[AnyArray, ...],
    block_size: int | None = None,
) -> tuple[AnyArray, ...]:
    """Second derivative with respect to ``wrt``, times ``vectors``."""
    static, arrays = _split(args)
    return _hvp(X, W, bias, arrays, tuple(vectors), linear.Model(static, block_size, tuple(wrt)))


_SHARDED = ("sharded_cross_entropy", "sharded_linear_cross_entropy")
_LOG_PROBS = ("log_probs", "log_probs_vjp", "entropy", "entropy_vjp")
_LINEAR_LOG_PROBS = ("linear_log_probs", "linear_log_probs_vjp")
_OWN = [name for name in GENERIC if name not in (*_LOG_PROBS, *_LINEAR_LOG_PROBS, "linear_cross_entropy_hessian")]

BACKEND = Backend(
    name="jax",
    types=("jaxlib:ArrayImpl", "jax:Tracer"),
    functions={
        **{name: f"{__name__}:{name}" for name in _OWN if not name.startswith("sharded")},
        "divergence": f"{__name__}.divergence:divergence",
        "linear_divergence": f"{__name__}.linear_divergence:linear_divergence",
        **{name: f"{__name__}.log_probs:{name}" for name in _LOG_PROBS},
        **{name: f"{__name__}.linear_log_probs:{name}" for name in _LINEAR_LOG_PROBS},
        **{name: f"{shards.__name__}:{name}" for name in _SHARDED},
    },
    options=OPTIONS,
)
