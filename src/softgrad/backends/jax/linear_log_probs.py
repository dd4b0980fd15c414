"""Log-probabilities of the linear model as a JAX function: a scan over blocks, each made again in reverse mode."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels.dense import widen
from ..._kernels.linear import block_rows, logits_of, memory_of
from ..._kernels.linear_log_probs import Rows, Wanted, narrowed, recorded_block
from ..._kernels.scaling import Scaling
from ..._options import LossArgs
from .linear import NAMES, over_blocks, taken
from .log_probs import entropy, log_probs


class Model(NamedTuple):
    """What is static of a call."""

    wanted: Wanted
    precision: str | None
    block_size: int | None
    names: tuple[str, ...] = ()


def _found(X: AnyArray, W: AnyArray, bias: AnyArray | None, labels: AnyArray, model: Model) -> Rows:
    n, k = X.shape[0], W.shape[0]
    wide, compensated = widen(jnp, W, model.precision)
    offset, precision = None if bias is None else bias.astype(wide.dtype), "high" if compensated else None

    def body(start: Any, size: int) -> tuple[Any, Any]:
        rows, some = taken(X, start, size, n), taken(labels, start, size, n)
        assert rows is not None
        assert some is not None
        z = logits_of(jnp, rows.astype(wide.dtype), wide, offset)
        fixed = jax.lax.stop_gradient(z)
        return {}, recorded_block(jnp, z, fixed, some, model.wanted, precision, log_probs, entropy)

    rows = block_rows(n, k, wide.dtype.itemsize, model.block_size, memory_of(jnp, X))
    found: Rows = over_blocks(n, rows, body)[1]
    return narrowed(jnp, found, W.dtype)


_compiled = jax.jit(_found, static_argnums=(4,))


@partial(jax.jit, static_argnums=(5,))
def _vjp(
    X: AnyArray, W: AnyArray, bias: AnyArray | None, labels: AnyArray, c: Rows, model: Model
) -> tuple[AnyArray, ...]:
    given = dict(zip(NAMES, (X, W, bias), strict=True))

    def results(*some: AnyArray) -> Any:
        here = {**given, **dict(zip(model.names, some, strict=True))}
        found = _found(here["X"], here["W"], here["bias"], labels, model)
        return [a for a, g in zip(found, c, strict=True) if g is not None]

    value, pull = jax.vjp(results, *(given[name] for name in model.names))
    cotangents = [g for g in c if g is not None]
    slopes: tuple[AnyArray, ...] = pull([g.astype(v.dtype) for g, v in zip(cotangents, value, strict=True)])
    return slopes


def linear_log_probs(
    xp: Any,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    args: LossArgs,
    wanted: Wanted,
    block_size: int | None = None,
) -> Rows:
    """What is wanted of every sample."""
    return _compiled(X, W, bias, args.labels, Model(wanted, args.precision, block_size))


def linear_log_probs_vjp(
    xp: Any,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    scaling: Scaling,
    cotangents: Rows,
    block_size: int | None = None,
) -> tuple[AnyArray, ...]:
    """What cotangents give by the parameters and X."""
    wanted = Wanted(cotangents.entropy is not None, 0, scaling)
    return _vjp(X, W, bias, args.labels, cotangents, Model(wanted, args.precision, block_size, tuple(wrt)))
