"""What the penalty ``l2 / 2 * sum(W**2)`` adds to the loss of the linear model and to its derivatives.

``dtype`` is what a sum is rounded to, None its own: what a penalty is added to comes in float32 at least.
"""

from __future__ import annotations

from .._array.namespace import Library
from .._array.typing import Array, DType, Namespace
from .._kernels.dense import device_of, narrow
from ..backends._parameters import on_parameters


def _on_value(xp: Namespace, value: Array, W: Array, l2: float, dtype: DType) -> Array:
    wide = xp.astype(W, xp.float32) if xp.finfo(W.dtype).bits < 32 else W
    return narrow(xp, value + 0.5 * l2 * xp.sum(wide * wide, dtype=wide.dtype), dtype)


def _on_gradient(
    xp: Namespace, grad: Array, W: Array, l2: float, columns: tuple[int, ...] | None, dtype: DType
) -> Array:
    if columns is not None:
        W = xp.concat([W[i : i + 1, :] for i in columns], axis=0)
    return narrow(xp, grad + l2 * narrow(xp, W, grad.dtype), dtype)


def _on_hessian(xp: Namespace, block: Array, l2: float, dtype: DType) -> Array:
    size = block.shape[0] * block.shape[1]
    ridge = xp.eye(size, dtype=block.dtype, device=device_of(block))
    return narrow(xp, block + l2 * xp.reshape(ridge, block.shape), dtype)


def rounded(lib: Library, a: Array, dtype: DType) -> Array:
    """``a`` in ``dtype``."""
    return a if a.dtype == dtype else on_parameters(lib, narrow, (a,), dtype, dtype=dtype)


def on_value(lib: Library, value: Array, W: Array, l2: float, dtype: DType = None) -> Array:
    """The loss with the penalty of W."""
    dtype = value.dtype if dtype is None else dtype
    return on_parameters(lib, _on_value, (value, W), l2, dtype, dtype=dtype) if l2 else value


def on_gradient(
    lib: Library, grad: Array, W: Array, l2: float, columns: tuple[int, ...] | None = None, dtype: DType = None
) -> Array:
    """The gradient by W, or by the rows ``columns`` of it; a product with the second derivative likewise."""
    dtype = grad.dtype if dtype is None else dtype
    return on_parameters(lib, _on_gradient, (grad, W), l2, columns, dtype, dtype=dtype) if l2 else grad


def on_hessian(lib: Library, block: Array, l2: float, dtype: DType = None) -> Array:
    """The second derivative by W, ``(k, m, k, m)``."""
    dtype = block.dtype if dtype is None else dtype
    return on_parameters(lib, _on_hessian, (block,), l2, dtype, dtype=dtype) if l2 else block
