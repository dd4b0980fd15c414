"""The divergence of two softmaxes on JAX arrays: compiled, with a closed form of its derivative."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels import divergence as generic
from ..._kernels.divergence import NAMES, DivergenceArgs


class Arrays(NamedTuple):
    """The arrays of a call beside the logits."""

    target: AnyArray
    where: AnyArray | None
    sample_weight: AnyArray | None
    labels: AnyArray | None


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _each(x: AnyArray, y: AnyArray, where: AnyArray | None, args: DivergenceArgs) -> AnyArray:
    return generic.rows(jnp, x, y, args._replace(where=where), ())[0]


def _each_jvp(args: DivergenceArgs, primals: Any, tangents: Any) -> Any:
    x, y, where = primals
    moved = {
        name: t
        for name, t in zip(NAMES, tangents, strict=False)
        if not isinstance(t, jax.custom_derivatives.SymbolicZero)
    }
    value, grads = generic.rows(jnp, x, y, args._replace(where=where), tuple(moved))
    change = jnp.zeros_like(value)
    for g, t in zip(grads, moved.values(), strict=True):
        change = change + jnp.sum(g * t, axis=args.axis, keepdims=True)
    return value, change


_each.defjvp(_each_jvp, symbolic_zeros=True)


def rows(
    xp: Any, x: AnyArray, y: AnyArray, args: DivergenceArgs, wrt: tuple[str, ...]
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """The rows of the generic kernel; of a value alone, with a rule for its derivative."""
    if wrt:
        return generic.rows(xp, x, y, args, wrt)
    return _each(x, y, args.where, args._replace(target=None, where=None, sample_weight=None)), ()


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(args: DivergenceArgs, wrt: tuple[str, ...], x: AnyArray, arrays: Arrays) -> Any:
    return generic.divergence(jnp, x, args._replace(**arrays._asdict()), wrt, rows)


def divergence(xp: Any, logits: AnyArray, args: DivergenceArgs, wrt: tuple[str, ...] = ()) -> Any:
    """The divergence, reduced, and its gradients by ``wrt``."""
    arrays = Arrays(args.target, args.where, args.sample_weight, args.labels)
    return _compiled(args._replace(target=None, where=None, sample_weight=None, labels=None), wrt, logits, arrays)
