"""The linear softmax model on NumPy arrays: logits a block at a time, worked on while they are in cache.

Many classes: a block of logits of some 32 MiB comes from one large matrix product, threads turn pieces of it into the
gradient in place, and a second product adds it to the weights' gradient. Few classes: each thread takes its own span
of samples in blocks whose X stays in cache for both products, the logits class first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._array.typing import AnyArray
from ..._kernels import linear as linear_kernels
from ..._options import LossArgs
from . import loss as numpy_loss
from . import products as numpy_products
from .blocks import Floats, Memory, column_sums
from .curvature import Curvature
from .linear_call import Linear, Pieces
from .loss_blocks import Loss
from .tiles import tiles

#: Bytes of logits above which a block is cut along the classes too.
MOST_BYTES = 64 << 20


def _declined(W: Floats, args: LossArgs) -> bool:
    """Whether a loss is for the generic kernel, whose blocks of logits then come here."""
    return bool(args.beyond(numpy_loss.TAKEN)) or (args.precision == "high" and W.dtype.char == "d")


def _generic_rows(X: Floats, W: Floats, block_size: int | None) -> int:
    """Rows of a block of the generic kernel, which may copy those of X."""
    return block_size or linear_kernels.copied_rows(len(X), len(W), X.shape[1], W.itemsize)


def _too_many(model: Linear) -> bool:
    rows = model.block_size or linear_kernels.BLOCK_ROWS
    return min(rows, model.n) * model.k * model.work.itemsize > MOST_BYTES and not model.args.dense


def linear_cross_entropy(
    xp: Any, X: Floats, W: Floats, bias: Floats | None, args: LossArgs, block_size: int | None = None
) -> Any:
    """Return the loss, reduced."""
    if _declined(W, args):
        rows = _generic_rows(X, W, block_size)
        return linear_kernels.linear_cross_entropy(xp, X, W, bias, args, rows, loss=numpy_loss.cross_entropy)
    model = Linear(xp, X, W, bias, args, block_size)
    return model.value(_sums(model)[0])


def linear_cross_entropy_value_and_grad(
    xp: Any,
    X: Floats,
    W: Floats,
    bias: Floats | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[Any, tuple[AnyArray, ...]]:
    """Return the loss and its gradients with respect to ``wrt``."""
    if _declined(W, args):
        rows = _generic_rows(X, W, block_size)
        return linear_kernels.linear_cross_entropy_value_and_grad(
            xp, X, W, bias, args, wrt, classes, rows, loss=numpy_loss.cross_entropy_value_and_grad
        )
    model = Linear(xp, X, W, bias, args, block_size, wrt, classes)
    total, grad_W, grad_bias = _sums(model)
    if model.grad_X is not None and (model.weight is not None or args.ignore_index is not None):
        # 0 times what is NaN in a parameter
        model.grad_X[~model.counts(0, model.n)] = 0
    named = {"W": grad_W, "bias": grad_bias, "X": model.grad_X}
    return model.value(total), tuple(named[name].astype(W.dtype, copy=False) for name in wrt)


def _sums(model: Linear) -> tuple[float, Any, Any]:
    """(sum of losses, gradient with respect to W, to bias)."""
    if model.divisor == 0.0 or not model.n:
        # nothing counts: not even a NaN in what is ignored
        for a in (model.losses, model.grad_X):
            if a is not None:
                a[...] = 0
        return 0.0, np.zeros((model.columns, model.m), model.work), np.zeros(model.columns, model.work)
    if _too_many(model):
        return tiles(model)
    return _many(model) if model.many else _few(model)


def _many(model: Linear) -> tuple[float, Any, Any]:
    args, work, k = model.args, model.work, model.k
    want_grad = bool(model.wrt)
    pieces = Pieces(model, lambda: Loss(args, k, Memory(work), model.scale, want_grad))
    b = model.rows()
    Z = np.empty((min(b, model.n), k), work)
    grad_W = np.empty((model.columns if "W" in model.wrt else 0, model.m), work)
    grad_bias = np.zeros(k)
    total = 0.0
    for start in range(0, model.n, b):
        stop = min(start + b, model.n)
        x, z = model.block(start, stop), Z[: stop - start]
        numpy_products.product_beside(z, x, model.W.T, grad_W)
        first = start

        def piece(loss: Loss, i: int, j: int, x: Floats = x, z: Floats = z, first: int = first) -> tuple[Any, ...]:
            rows = z[i:j]
            if model.bias is not None:
                np.add(rows, model.bias, out=rows)
            losses = _losses(model, loss, rows, first + i, first + j)
            irregular = losses is None
            if losses is None:
                kept = model.cleared(x[i:j], first + i, first + j)
                losses, rows[...] = model.generic(kept, first + i, first + j)
            sums = column_sums(rows, np.empty(k, work)) if "bias" in model.wrt else None
            return model.note(losses, first + i), sums, irregular

        results = pieces.run(stop - start, piece)
        total += sum(result[0] for result in results)
        if any(result[2] for result in results):
            x = model.cleared(x, start, stop)
        if "bias" in model.wrt:
            for result in results:
                grad_bias += result[1]
        if "W" in model.wrt:
            some = z if model.classes is None else z.take(model.classes, axis=1)
            numpy_products.add_product(grad_W, some.T, x, start == 0)
        if model.grad_X is not None:
            numpy_products.write_product(model.grad_X[start:stop], z, model.W)
    return total, grad_W, grad_bias if model.classes is None else grad_bias.take(model.classes)


def _losses(model: Linear, loss: Loss, z: Floats, start: int, stop: int) -> Floats | None:
    """Losses of some rows of logits, which become their gradient."""
    if model.args.dense:
        losses = loss.weighted_rows(z, z, model.labels[start:stop], model.sample_weights(start, stop))
    else:
        target = model.target(loss, start, stop)
        if target is None:
            return None
        losses = loss.rows(z, z, target)
    return losses if loss.irregular is None else None


def _few(model: Linear) -> tuple[float, Any, Any]:
    args, work, k, m = model.args, model.work, model.k, model.m
    want_grad = bool(model.wrt)
    size, group = model.span_rows()

    def task(first: int, last: int) -> tuple[float, Floats, Floats]:
        loss = Loss(args, k, Memory(work), model.scale, want_grad)
        products = numpy_products.Small(model.W, group, loss.memory)
        grad_W, grad_bias, total = np.zeros((k, m), work), np.zeros(k), 0.0
        with np.errstate(all="ignore"):
            for start in range(first, last, size):
                stop = min(start + size, last)
                x = model.block(start, stop)
                z = products.logits(x)
                if model.bias is not None:
                    z += model.bias[:, None]
                losses = None
                target = model.target(loss, start, stop)
                if target is not None:
                    losses = loss.small_columns(z, target)
                if losses is None or loss.irregular is not None:
                    x = model.cleared(x, start, stop)
                    losses, grad = model.generic(x, start, stop)
                    np.copyto(z, grad.T)
                total += model.note(losses, start)
                if "W" in model.wrt:
                    products.add_gradient(grad_W, z, x)
                if "bias" in model.wrt:
                    grad_bias += np.add.reduce(z, axis=1)
                if model.grad_X is not None:
                    products.write_rows(model.grad_X[start:stop], z)
        return total, grad_W, grad_bias

    results = model.run_spans(task, size)
    total = sum(result[0] for result in results)
    grad_W, grad_bias = results[0][1], results[0][2]
    for _, some_W, some_bias in results[1:]:
        grad_W += some_W
        grad_bias += some_bias
    if model.classes is not None:
        return total, grad_W.take(model.classes, axis=0), grad_bias.take(model.classes)
    return total, grad_W, grad_bias


def linear_cross_entropy_hvp(
    xp: Any,
    X: Floats,
    W: Floats,
    bias: Floats | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    vectors: tuple[Floats, ...],
    block_size: int | None = None,
) -> tuple[AnyArray, ...]:
    """Return the second derivative with respect to ``wrt``, times ``vectors``."""
    model = Linear(xp, X, W, bias, args, block_size)
    if _declined(W, args) or "X" in wrt or _too_many(model) or not model.n or model.divisor == 0.0:
        rows = _generic_rows(X, W, block_size)
        return linear_kernels.linear_cross_entropy_hvp(xp, X, W, bias, args, wrt, vectors, rows)
    model.wrt = wrt
    curvature = Curvature(
        model, dict(zip(wrt, (np.asarray(v).astype(model.work, copy=False) for v in vectors), strict=True))
    )
    h_W, h_bias = curvature.many() if model.many else curvature.few()
    named = {"W": h_W, "bias": h_bias}
    return tuple(named[name].astype(W.dtype, copy=False) for name in wrt)
