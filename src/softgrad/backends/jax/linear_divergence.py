"""The divergence of two linear models on JAX arrays: a scan over blocks of rows that keeps no logits."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels import linear_divergence as generic
from ..._kernels.dense import product, wide_dtype
from ..._kernels.divergence import DivergenceArgs
from ..._kernels.divergence import divergence as kernel
from ..._kernels.linear import finite_parameters, logits_of, memory_of
from ..._kernels.linear_divergence import Given, Model
from ..._kernels.loss import divided
from .divergence import rows
from .linear import NAMES, over_blocks, taken
from .rules import is_symbolic_zero


class Fixed(NamedTuple):
    """The arrays of a call beside the student."""

    target: Model | Given
    where: AnyArray | None
    sample_weight: AnyArray | None


class Static(NamedTuple):
    """What is compiled into a call."""

    args: DivergenceArgs
    block_size: int | None
    wrt: tuple[str, ...] = ()


def _run(
    X: AnyArray, W: AnyArray, bias: AnyArray | None, fixed: Fixed, static: Static
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    n, k = X.shape[0], W.shape[0]
    wide, names = wide_dtype(jnp, W, static.args.precision), static.wrt
    target = generic.wide_target(jnp, jax.lax.stop_gradient(fixed.target), wide)
    args = static.args._replace(where=fixed.where, sample_weight=fixed.sample_weight)
    w, b = W.astype(wide), None if bias is None else bias.astype(wide)

    def body(start: Any, size: int) -> tuple[Any, Any]:
        piece = args._replace(
            where=taken(args.where, start, size, n),
            sample_weight=taken(args.sample_weight, start, size, n),
            reduction="none" if args.reduction == "none" else "sum",
        )
        x = generic.zero_ignored(jnp, taken(X, start, size, n).astype(wide), piece)
        z = logits_of(jnp, x, w, b)
        piece = generic.against(jnp, piece, target, lambda a: taken(a, start, size, n), wide)
        value, grads = kernel(jnp, z, piece, ("logits",) if names else (), rows)
        sums, out = ({}, {"value": value}) if args.reduction == "none" else ({"value": value}, {})
        if "W" in names:
            sums["W"] = product(jnp, grads[0].T, x)
        if "bias" in names:
            sums["bias"] = jnp.sum(grads[0], axis=0)
        if "X" in names:
            out["X"] = generic.zero_ignored(jnp, product(jnp, grads[0], finite_parameters(jnp, w, args)), piece)
        return sums, out

    size = generic.rows_of_block(n, k, jnp.finfo(wide).bits, static.block_size, memory_of(jnp, X))
    sums, parts = over_blocks(n, size, body)
    found = {**sums, **parts}
    mean = generic.mean_divisor(jnp, args, n, jnp.zeros((), wide))
    if mean is not None:
        found = {name: divided(jnp, a, mean) for name, a in found.items()}
    return found["value"].astype(W.dtype), tuple(found[name].astype(W.dtype) for name in names)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _value(X: AnyArray, W: AnyArray, bias: AnyArray | None, fixed: Fixed, static: Static) -> AnyArray:
    return _run(X, W, bias, fixed, static)[0]


def _value_jvp(static: Static, primals: Any, tangents: Any) -> Any:
    X, W, bias, fixed = primals
    moved = {name: t for name, t in zip(NAMES, tangents[:3], strict=True) if t is not None and not is_symbolic_zero(t)}
    weight = tangents[3].sample_weight
    if static.args.reduction == "none" or not (weight is None or is_symbolic_zero(weight)):
        arrays = dict(zip(NAMES, (X, W, bias), strict=True))
        moves = dict(moved)
        if weight is not None and not is_symbolic_zero(weight):
            arrays["weight"], moves["weight"] = fixed.sample_weight, weight

        def run(some: dict[str, AnyArray]) -> AnyArray:
            now = {**arrays, **some}
            held = fixed._replace(sample_weight=now.get("weight", fixed.sample_weight))
            return _run(now["X"], now["W"], now["bias"], held, static)[0]

        return jax.jvp(run, ({name: arrays[name] for name in moves},), (moves,))
    value, grads = _run(X, W, bias, fixed, static._replace(wrt=tuple(moved)))
    change = jnp.zeros((), value.dtype)
    for g, t in zip(grads, moved.values(), strict=True):
        change = change + jnp.sum(g * t).astype(value.dtype)
    return value, change


_value.defjvp(_value_jvp, symbolic_zeros=True)
_compiled = jax.jit(_value, static_argnums=(4,))
_with_grads = jax.jit(_run, static_argnums=(4,))


def linear_divergence(
    xp: Any,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    target: Model | Given,
    args: DivergenceArgs,
    wrt: tuple[str, ...] = (),
    block_size: int | None = None,
) -> Any:
    """The divergence, reduced, and its gradients by some of W, bias and X."""
    fixed = Fixed(target, args.where, args.sample_weight)
    static = Static(args._replace(target=None, where=None, sample_weight=None), block_size, tuple(wrt))
    if wrt:
        return _with_grads(X, W, bias, fixed, static)
    return _compiled(X, W, bias, fixed, static), ()
