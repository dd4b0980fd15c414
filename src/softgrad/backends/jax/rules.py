"""The generic kernels of a loss as JAX functions of the logits, with their own gradient and second derivative as rules.

Derivatives by anything else, labels and weights by class, are those of the kernels' operations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels import loss as generic
from ..._options import ARRAYS, LossArgs
from .dense import total, zero_hidden


def split(args: LossArgs) -> tuple[dict[str, Any], LossArgs]:
    """(Arrays by name, what is static) of each sample's loss, whatever its weight."""
    static = args._replace(**dict.fromkeys(ARRAYS), ignore_index=None, reduction="none")
    return {name: getattr(args, name) for name in ARRAYS if name != "sample_weight"}, static


def is_symbolic_zero(tangent: Any) -> bool:
    """Whether nothing moves along a tangent."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero) or tangent.dtype == jax.dtypes.float0


def _through_arrays(function: Any, arrays: dict[str, Any], tangents: dict[str, Any]) -> Any:
    """The change of ``function(arrays)`` as the arrays change, None where none does."""
    moved = {name: t for name, t in tangents.items() if t is not None and not is_symbolic_zero(t)}
    if not moved:
        return None
    return jax.jvp(lambda some: function(arrays | some), ({name: arrays[name] for name in moved},), (moved,))[1]


def _sum(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def losses(x: AnyArray, arrays: dict[str, Any], static: LossArgs) -> AnyArray:
    """One loss a sample."""
    return generic.cross_entropy(jnp, x, static._replace(**arrays))


def _losses_jvp(static: LossArgs, primals: Any, tangents: Any) -> Any:
    x, arrays = primals
    value = losses(x, arrays, static)
    tangent = _through_arrays(lambda some: generic.cross_entropy(jnp, x, static._replace(**some)), arrays, tangents[1])
    if not is_symbolic_zero(tangents[0]):
        slope = slopes(x, jnp.ones_like(value), arrays, static)
        tangent = _sum(tangent, total(slope * zero_hidden(tangents[0], arrays["where"]), static.axis))
    return value, jnp.zeros_like(value) if tangent is None else tangent


losses.defjvp(_losses_jvp, symbolic_zeros=True)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def slopes(x: AnyArray, weight: AnyArray, arrays: dict[str, Any], static: LossArgs) -> AnyArray:
    """The gradient of each sample's loss, times its weight."""
    return generic.cross_entropy_grad(jnp, x, static._replace(**arrays, sample_weight=weight))


def _slopes_jvp(static: LossArgs, primals: Any, tangents: Any) -> Any:
    x, weight, arrays = primals
    value = slopes(x, weight, arrays, static)

    def by_arrays(some: dict[str, Any]) -> AnyArray:
        return generic.cross_entropy_grad(jnp, x, static._replace(**some, sample_weight=weight))

    tangent = _through_arrays(by_arrays, arrays, tangents[2])
    if not is_symbolic_zero(tangents[0]):
        args = static._replace(**arrays, sample_weight=weight)
        tangent = _sum(tangent, generic.cross_entropy_hvp(jnp, x, args, zero_hidden(tangents[0], arrays["where"])))
    if not is_symbolic_zero(tangents[1]):
        each = slopes(x, jnp.ones_like(weight), arrays, static)
        tangent = _sum(tangent, each * jnp.expand_dims(tangents[1], static.axis))
    return value, jnp.zeros_like(value) if tangent is None else tangent


slopes.defjvp(_slopes_jvp, symbolic_zeros=True)
