"""The linear softmax model as a JAX function: a scan over blocks of rows, two matrix products each.

Its rule for forward mode makes the gradients block by block, so that reverse mode keeps them and nothing of the
logits' size.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from ..._array.typing import AnyArray
from ..._kernels import loss as generic
from ..._kernels.dense import product, wide_dtype
from ..._kernels.linear import block_rows, finite_parameters, logits_of, memory_of, zero_ignored
from ..._options import ARRAYS, LossArgs
from . import loss as jax_loss
from .dense import total
from .rules import is_symbolic_zero

NAMES = ("X", "W", "bias")


class Model(NamedTuple):
    """What is static of a call."""

    args: LossArgs
    block_size: int | None
    wrt: tuple[str, ...] = ()
    classes: tuple[int, ...] | None = None


#: What is not, beside X, W and bias: arrays or None, by name.
Arrays: TypeAlias = dict[str, Any]


def split(args: LossArgs) -> tuple[LossArgs, Arrays]:
    """(what is static of the arguments, their arrays)."""
    return args._replace(**dict.fromkeys(ARRAYS)), dict(zip(ARRAYS, args.arrays, strict=True))


def taken(a: AnyArray, start: Any, size: int, n: int) -> AnyArray:
    """Rows of an array that has ``n`` of them, or one for all."""
    if a is None or a.shape[0] != n:
        return a
    return a if size == n else jax.lax.dynamic_slice_in_dim(a, start, size)


class Products(NamedTuple):
    """The products of a call; on an accelerator those of half precision have operands in it, and sum in float32."""

    #: The dtype to compute in, that of the operands, and that of sums by W.
    wide: Any
    operand: Any
    sums: Any

    def __call__(self, a: AnyArray, b: AnyArray, dtype: Any = None) -> AnyArray:
        """``a @ b``."""
        if self.operand == self.wide:
            return product(jnp, a, b)
        a, b = a.astype(self.operand), b.astype(self.operand)
        return jnp.matmul(a, b, preferred_element_type=self.wide if dtype is None else dtype)


def _products(W: AnyArray, precision: str | None, memory: int | None) -> Products:
    wide = jnp.dtype(wide_dtype(jnp, W, precision))
    # float16 has not the range that weights, or a mean over many samples, need
    if memory is None or precision is not None or W.dtype != jnp.bfloat16:
        return Products(wide, wide, wide)
    return Products(wide, W.dtype, W.dtype)


def over_blocks(n: int, rows: int, body: Callable[[Any, int], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Sums and rows of ``body(start, size)`` over all blocks."""
    if n <= rows:
        return body(0, n)
    count = n // rows
    sums, _ = jax.eval_shape(lambda: body(0, rows))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), sums)

    def step(carry: Any, i: AnyArray) -> tuple[Any, Any]:
        more, out = body(i * rows, rows)
        return jax.tree.map(jnp.add, carry, more), out

    sums, parts = jax.lax.scan(jax.checkpoint(step), zeros, jnp.arange(count))
    parts = jax.tree.map(lambda a: a.reshape(count * rows, *a.shape[2:]), parts)
    if count * rows < n:
        more, tail = body(count * rows, n - count * rows)
        sums = jax.tree.map(jnp.add, sums, more)
        parts = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), parts, tail)
    return sums, parts


def _weight_sum(n: int, k: int, args: LossArgs, dtype: Any) -> AnyArray:
    """What the mean divides by."""
    w = None
    if args.dense:
        labels = args.labels.astype(dtype)
        w = total(labels if args.class_weight is None else labels * args.class_weight.astype(dtype), 1)
    elif args.class_weight is not None:
        w = jax_loss.label_weight(args, k, dtype)
    return generic.weight_sum(jnp, jnp.zeros((n, 1), dtype), args, None if w is None else w[:, None])


def _run(
    X: AnyArray, W: AnyArray, bias: AnyArray | None, arrays: Arrays, model: Model, grads: bool
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """The loss and, if asked for, its gradients."""
    n, k = X.shape[0], W.shape[0]
    args = model.args._replace(**arrays)
    if args.sample_weight is not None:
        args = args._replace(sample_weight=jnp.broadcast_to(args.sample_weight, (n,)))
    memory = memory_of(jnp, X)
    multiply = _products(W, args.precision, memory)
    dtype = multiply.wide
    operand = W.astype(multiply.operand)
    each = args.reduction == "none"
    finite_W = finite_parameters(jnp, operand, args)
    columns = None if model.classes is None else jnp.asarray(model.classes)

    def body(start: Any, size: int) -> tuple[Any, Any]:
        labels, weight, where = (taken(a, start, size, n) for a in (args.labels, args.sample_weight, args.where))
        piece = args._replace(labels=labels, sample_weight=weight, where=where, reduction="none" if each else "sum")
        rows = taken(X, start, size, n)
        assert rows is not None
        x = zero_ignored(jnp, rows.astype(operand.dtype), piece)
        z = logits_of(jnp, x, operand, None if bias is None else bias.astype(dtype), multiply)
        if not grads:
            value = jax_loss.cross_entropy(z, piece)
            return ({}, {"value": value}) if each else ({"value": value}, {})
        value, g = jax_loss.value_and_grad(z, piece)
        sums, out = {"value": value}, {}
        some = g if columns is None else g[:, columns]
        if "W" in model.wrt:
            sums["W"] = multiply(some.T, x, multiply.sums)
        if "bias" in model.wrt:
            sums["bias"] = jnp.sum(some, axis=0)
        if "X" in model.wrt:
            out["X"] = zero_ignored(jnp, multiply(g, finite_W), piece)
        return sums, out

    rows = block_rows(n, k, dtype.itemsize, model.block_size, memory)
    sums, parts = over_blocks(n, rows, body)
    results = {**sums, **parts}
    if args.reduction == "mean":
        weight_sum = _weight_sum(n, k, args, dtype)
        results = {name: generic.divided(jnp, a, weight_sum) for name, a in results.items()}
    value = results["value"].astype(W.dtype)
    return value, tuple(results[name].astype(W.dtype) for name in model.wrt) if grads else ()


def _moved(model: Model, grads: bool, primals: Any, tangents: Any) -> Any:
    """Results and their change, of what changes alone."""
    leaves, tree = jax.tree.flatten(primals)
    changes = {i: t for i, t in enumerate(jax.tree.leaves(tangents)) if not is_symbolic_zero(t)}

    def run(some: dict[int, AnyArray]) -> Any:
        X, W, bias, arrays = jax.tree.unflatten(tree, [some.get(i, leaf) for i, leaf in enumerate(leaves)])
        return _run(X, W, bias, arrays, model, grads)

    return jax.jvp(run, ({i: leaves[i] for i in changes},), (changes,))


# a scan that a rule makes itself would be cut, with the rules inside it lost, where a gradient is differentiated:
# what has a rule of its own is handed on whole
@partial(jax.custom_jvp, nondiff_argnums=(4,))
def value_and_grad(
    X: AnyArray, W: AnyArray, bias: AnyArray | None, arrays: Arrays, model: Model
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """The loss and its gradients."""
    return _run(X, W, bias, arrays, model, True)


def _value_and_grad_jvp(model: Model, primals: Any, tangents: Any) -> Any:
    return _moved(model, True, primals, tangents)


value_and_grad.defjvp(_value_and_grad_jvp, symbolic_zeros=True)


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def value(X: AnyArray, W: AnyArray, bias: AnyArray | None, arrays: Arrays, model: Model) -> AnyArray:
    """The loss, reduced."""
    return _run(X, W, bias, arrays, model, False)[0]


def _value_jvp(model: Model, primals: Any, tangents: Any) -> Any:
    if model.args.reduction == "none" or not all(map(is_symbolic_zero, jax.tree.leaves(tangents[3]))):
        return tuple(result[0] for result in _moved(model, False, primals, tangents))
    X, W, bias, arrays = primals
    moved = {name: t for name, t in zip(NAMES, tangents[:3], strict=True) if t is not None and not is_symbolic_zero(t)}
    dtype = W.dtype
    if dtype == jnp.float16:
        # its range is too small for gradients that wait for their cotangent
        W, bias = (None if a is None else a.astype(jnp.float32) for a in (W, bias))
    loss, grads = value_and_grad(X, W, bias, arrays, model._replace(wrt=tuple(moved)))
    tangent = jnp.zeros((), loss.dtype)
    for name, g in zip(moved, grads, strict=True):
        tangent = tangent + jnp.sum(g * moved[name]).astype(loss.dtype)
    return loss.astype(dtype), tangent.astype(dtype)


value.defjvp(_value_jvp, symbolic_zeros=True)


def hvp(
    X: AnyArray, W: AnyArray, bias: AnyArray | None, arrays: Arrays, vectors: tuple[AnyArray, ...], model: Model
) -> tuple[AnyArray, ...]:
    """Second derivative with respect to the model's ``wrt``, times ``vectors``."""
    given = dict(zip(NAMES, (X, W, bias), strict=True))

    def grads(*some: AnyArray) -> tuple[AnyArray, ...]:
        here = {**given, **dict(zip(model.wrt, some, strict=True))}
        return _run(here["X"], here["W"], here["bias"], arrays, model, True)[1]

    return jax.jvp(grads, tuple(given[name] for name in model.wrt), vectors)[1]
