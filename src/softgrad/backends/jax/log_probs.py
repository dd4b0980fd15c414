"""Log-probabilities of labels and the entropy as JAX functions, with closed forms for their derivatives."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels import log_probs as generic
from ..._kernels.log_probs import PLAIN
from ..._kernels.scaling import Scaling
from .dense import centred, log_softmax, total, wide, zero_hidden


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _scaled(x: AnyArray, where: AnyArray | None, axis: int, precision: str | None, scaling: Scaling) -> AnyArray:
    """The log-softmax of scaled logits."""
    return generic.scaled_log_softmax(jnp, x, axis, where, precision, scaling)


def _moved(x: AnyArray, t: AnyArray, where: AnyArray | None, precision: str | None, scaling: Scaling) -> AnyArray:
    """The tangent of the scaled logits."""
    return generic.sloped(jnp, wide(zero_hidden(t, where), precision), wide(zero_hidden(x, where), precision), scaling)


def _scaled_jvp(axis: int, precision: str | None, scaling: Scaling, primals: Any, tangents: Any) -> Any:
    x, where = primals
    r = _scaled(x, where, axis, precision, scaling)
    t = _moved(x, tangents[0], where, precision, scaling)
    return r, zero_hidden(centred(jnp.exp(wide(r, precision)), t, axis), where).astype(r.dtype)


_scaled.defjvp(_scaled_jvp)


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _entropy(x: AnyArray, where: AnyArray | None, axis: int, precision: str | None, scaling: Scaling) -> AnyArray:
    return generic.entropy(jnp, x, axis, where, precision, scaling)


def _entropy_jvp(axis: int, precision: str | None, scaling: Scaling, primals: Any, tangents: Any) -> Any:
    x, where = primals
    h = _entropy(x, where, axis, precision, scaling)
    y = wide(x, precision)
    slope = generic.entropy_vjp(jnp, y, jnp.ones(h.shape, y.dtype), axis, where, precision, scaling)
    return h, total(slope * zero_hidden(wide(tangents[0], precision), where), axis).astype(h.dtype)


_entropy.defjvp(_entropy_jvp)


@partial(jax.jit, static_argnums=(3, 4, 5))
def _log_probs(
    x: AnyArray, labels: AnyArray, where: AnyArray | None, axis: int, precision: str | None, scaling: Scaling
) -> AnyArray:
    def of_rows(xp: Any, *args: Any) -> AnyArray:
        return log_softmax(x, where, axis, precision)

    if scaling.identity:
        return generic.log_probs(jnp, x, labels, axis, where, precision, scaling, of_rows)
    return generic.take_labels(jnp, _scaled(x, where, axis, precision, scaling), labels, axis)


_log_probs_vjp = jax.jit(partial(generic.log_probs_vjp, jnp), static_argnums=(3, 5, 6))
_entropy_vjp = jax.jit(partial(generic.entropy_vjp, jnp), static_argnums=(2, 4, 5))
_compiled_entropy = jax.jit(_entropy, static_argnums=(2, 3, 4))


def log_probs(
    xp: Any,
    x: AnyArray,
    labels: AnyArray,
    axis: int,
    where: AnyArray | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``log(softmax(x))`` at the labels."""
    return _log_probs(x, labels, where, axis, precision, scaling)


def log_probs_vjp(
    xp: Any,
    x: AnyArray,
    labels: AnyArray,
    cotangent: AnyArray,
    axis: int,
    where: AnyArray | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """The sum of c (onehot - p) over a sample's labels."""
    return _log_probs_vjp(x, labels, cotangent, axis, where, precision, scaling)


def entropy(
    xp: Any,
    x: AnyArray,
    axis: int,
    where: AnyArray | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``-sum(p log(p))``, without ``axis``."""
    return _compiled_entropy(x, where, axis, precision, scaling)


def entropy_vjp(
    xp: Any,
    x: AnyArray,
    cotangent: AnyArray,
    axis: int,
    where: AnyArray | None = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``c p (mean(d) - d)``."""
    return _entropy_vjp(x, cotangent, axis, where, precision, scaling)
