"""The cross-entropy with its classes split over devices as a JAX function, with a closed form for reverse mode.

Nothing is compiled here: only the caller, who maps over it, knows the axis of the devices.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels import linear_shards, sharded
from ..._kernels.shards import Merged, Reduce
from ..._options import LossArgs
from .linear import NAMES, Arrays, split


def _axes(a: Any) -> frozenset[Any]:
    """The mesh axes along which an array is known to vary; none where that is not followed."""
    kind = jax.typeof(a) if hasattr(jax, "typeof") else None  # since 0.6
    varying = getattr(getattr(kind, "manual_axis_type", None), "varying", None)  # since 0.10, vma before
    return getattr(kind, "vma", frozenset()) if varying is None else varying


def _as_varying(grad: AnyArray, x: AnyArray) -> AnyArray:
    """A cotangent of ``x``, which devices that share ``x`` add up."""
    more = tuple(sorted(_axes(grad) - _axes(x)))
    return jax.lax.psum(grad, more) if more else grad


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _merged(logits: AnyArray, first: Any, arrays: Arrays, args: LossArgs, reduce: Reduce) -> Any:
    return tuple(sharded.merged(jnp, logits, args._replace(**arrays), first, reduce))


def _merged_forward(logits: AnyArray, first: Any, arrays: Arrays, args: LossArgs, reduce: Reduce) -> Any:
    out = _merged(logits, first, arrays, args, reduce)
    return out, (logits, first, arrays, out)


def _merged_backward(args: LossArgs, reduce: Reduce, kept: Any, cotangents: Any) -> Any:
    logits, first, arrays, out = kept
    args = args._replace(**arrays)
    grad = sharded.share_gradient(jnp, logits, Merged(*out), args, first, Merged(*cotangents).loss)
    return _as_varying(grad, logits), None, None


_merged.defvjp(_merged_forward, _merged_backward)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _linear_merged(
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    first: Any,
    arrays: Arrays,
    args: LossArgs,
    reduce: Reduce,
    block_size: int | None,
) -> Any:
    args = args._replace(**arrays)
    return tuple(linear_shards.merged_linear_shares(jnp, X, W, bias, args, first, reduce, block_size))


def _linear_forward(
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    first: Any,
    arrays: Arrays,
    args: LossArgs,
    reduce: Reduce,
    block: Any,
) -> Any:
    out = _linear_merged(X, W, bias, first, arrays, args, reduce, block)
    return out, (X, W, bias, first, arrays, out)


def _linear_backward(args: LossArgs, reduce: Reduce, block: int | None, kept: Any, cotangents: Any) -> Any:
    X, W, bias, first, arrays, out = kept
    names = NAMES if bias is not None else NAMES[:2]
    model = linear_shards.LinearShard(jnp, X, W, bias, args._replace(**arrays), first, block)

    def merge_sums(grad: AnyArray, op: str) -> AnyArray:
        # where JAX follows what varies, the cotangent of a shared X is summed below
        return grad if _axes(grad) else reduce(grad, op)

    grads: tuple[AnyArray, ...] = model.grads(Merged(*out), Merged(*cotangents).loss, names, merge_sums)
    by_x, by_w, *by_bias = (
        _as_varying(g.astype(a.dtype), a) for g, a in zip(grads, (X, W, bias), strict=False) if a is not None
    )
    return by_x, by_w, by_bias[0] if by_bias else None, None, None


_linear_merged.defvjp(_linear_forward, _linear_backward)


def _recorded(_: Any, logits: AnyArray, args: LossArgs, first: Any, reduce: Reduce) -> Any:
    static, arrays = split(args)
    return _merged(logits, first, arrays, static, reduce)


def _linear_recorded(
    _: Any,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    args: LossArgs,
    first: Any,
    reduce: Reduce,
    block_size: int | None,
) -> Any:
    static, arrays = split(args)
    return _linear_merged(X, W, bias, first, arrays, static, reduce, block_size)


def sharded_cross_entropy(xp: Any, logits: AnyArray, args: LossArgs, first: Any, reduce: Reduce) -> AnyArray:
    """The loss, reduced."""
    return sharded.sharded_cross_entropy(jnp, logits, args, first, reduce, _recorded)


def sharded_linear_cross_entropy(
    xp: Any,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    args: LossArgs,
    first: Any,
    reduce: Reduce,
    block_size: int | None = None,
) -> AnyArray:
    """The loss, reduced."""
    return linear_shards.sharded_linear_cross_entropy(
        jnp, X, W, bias, args, first, reduce, block_size, _linear_recorded
    )
