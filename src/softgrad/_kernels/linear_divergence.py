"""The divergence of two linear softmax models: blocks of rows of both through it, neither's logits whole.

Arrays are X (n, m), W (k, m), bias (k,); the target's may have another number of features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from .._array.typing import Array, Namespace
from .dense import joined, narrow, product, wide_dtype
from .divergence import DivergenceArgs, divergence
from .linear import Gradients, block_rows, logits_of, memory_of, some_rows
from .loss import divided, sum_all


class Given(NamedTuple):
    """A target known at some classes: log-probabilities (n, m) and labels (n, m)."""

    log_probs: Array
    labels: Array


class Model(NamedTuple):
    """A linear model and its samples."""

    X: Array
    W: Array
    bias: Array | None


def part(args: DivergenceArgs, start: int, stop: int, n: int) -> DivergenceArgs:
    """The arguments of rows ``start`` to ``stop``, of a sum."""
    some: DivergenceArgs = some_rows(args, start, stop, n)
    return some._replace(reduction="none" if args.reduction == "none" else "sum")


def zero_ignored(xp: Namespace, x: Array, args: DivergenceArgs) -> Array:
    """Rows, zero where the sample does not count: no product may make NaN of 0 times them."""
    if args.sample_weight is None:
        return x
    return xp.where(xp.expand_dims(args.sample_weight != 0, axis=1), x, xp.zeros_like(x))


def wide_target(xp: Namespace, target: Model | Given, dtype: Any) -> Model | Given:
    """The target, the parameters of a model in ``dtype``."""
    if isinstance(target, Given):
        return target
    bias = None if target.bias is None else narrow(xp, target.bias, dtype)
    return Model(target.X, narrow(xp, target.W, dtype), bias)


def against(
    xp: Namespace, args: DivergenceArgs, target: Model | Given, rows: Callable[[Array], Array], dtype: Any
) -> DivergenceArgs:
    """The arguments of a block, whose rows of an array are ``rows(array)``, with the target in them."""
    if isinstance(target, Given):
        return args._replace(target=narrow(xp, rows(target.log_probs), dtype), labels=rows(target.labels))
    x = zero_ignored(xp, narrow(xp, rows(target.X), dtype), args)
    return args._replace(target=logits_of(xp, x, target.W, target.bias))


def rows_of_block(n: int, k: int, bits: int, block_size: int | None, memory: int | None = None) -> int:
    """Rows of a block, for which two arrays of logits and the gradient are held."""
    return block_rows(n, k, bits // 4, block_size, memory)


def linear_divergence(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array | None,
    target: Model | Given,
    args: DivergenceArgs,
    wrt: tuple[str, ...] = (),
    block_size: int | None = None,
    loss: Callable[..., Any] = divergence,
) -> tuple[Array, tuple[Array, ...]]:
    """The divergence, reduced, and its gradients by some of W, bias and X; the target is a constant."""
    n, dtype, wide = X.shape[0], W.dtype, wide_dtype(xp, W, args.precision)
    size = rows_of_block(n, W.shape[0], xp.finfo(wide).bits, block_size, memory_of(xp, X))
    W, bias = narrow(xp, W, wide), None if bias is None else narrow(xp, bias, wide)
    target = wide_target(xp, target, wide)
    grads = Gradients(xp, wrt, W, args, partial(product, xp), zero_ignored)
    values: list[Array] = []
    for start in range(0, max(n, 1), size):
        stop = min(start + size, n)
        piece = part(args, start, stop, n)

        def block(a: Array, start: int = start, stop: int = stop) -> Array:
            return a if stop - start == n else a[start:stop, :]

        x = zero_ignored(xp, narrow(xp, block(X), wide), piece)
        z = logits_of(xp, x, W, bias)
        piece = against(xp, piece, target, block, wide)
        value, slopes = loss(xp, z, piece, ("logits",) if wrt else ())
        values.append(value)
        if wrt:
            grads.add(x, slopes[0], piece)
    if args.reduction == "none":
        return narrow(xp, joined(xp, values), dtype), ()
    mean = mean_divisor(xp, args, n, values[0])
    reduced = [sum(values[1:], values[0]), *grads.found().values()]
    value, *found = (narrow(xp, a if mean is None else divided(xp, a, mean), dtype) for a in reduced)
    return value, tuple(found)


def mean_divisor(xp: Namespace, args: DivergenceArgs, n: int, like: Array) -> Array | None:
    """What the mean divides by, or None."""
    if args.reduction != "mean":
        return None
    if args.sample_weight is None:
        return xp.zeros_like(like) + n
    return sum_all(xp, narrow(xp, args.sample_weight, like.dtype))
