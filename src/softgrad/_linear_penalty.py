"""What the penalty ``l2 / 2 * sum(W**2)`` adds to the loss of the linear model and to its derivatives."""

from __future__ import annotations

from ._namespace import Library
from ._typing import Array, Namespace
from .backends._small import on_small


def _on_value(xp: Namespace, value: Array, W: Array, l2: float) -> Array:
    wide = xp.astype(W, xp.float32) if xp.finfo(W.dtype).bits < 32 else W
    return xp.astype(value + 0.5 * l2 * xp.sum(wide * wide, dtype=wide.dtype), value.dtype)


def _on_gradient(xp: Namespace, grad: Array, W: Array, l2: float, columns: tuple[int, ...] | None) -> Array:
    if columns is not None:
        W = xp.concat([W[i : i + 1, :] for i in columns], axis=0)
    return grad + l2 * W


def _on_hessian(xp: Namespace, block: Array, l2: float) -> Array:
    size = block.shape[0] * block.shape[1]
    ridge = xp.eye(size, dtype=block.dtype, device=getattr(block, "device", None))
    return block + l2 * xp.reshape(ridge, block.shape)


def on_value(lib: Library, value: Array, W: Array, l2: float) -> Array:
    """The loss with the penalty of W."""
    return on_small(lib, _on_value, (value, W), l2) if l2 else value


def on_gradient(lib: Library, grad: Array, W: Array, l2: float, columns: tuple[int, ...] | None = None) -> Array:
    """The gradient by W, or by the rows ``columns`` of it; a product with the second derivative likewise."""
    return on_small(lib, _on_gradient, (grad, W), l2, columns) if l2 else grad


def on_hessian(lib: Library, block: Array, l2: float) -> Array:
    """The second derivative by W, ``(k, m, k, m)``."""
    return on_small(lib, _on_hessian, (block,), l2) if l2 else block
