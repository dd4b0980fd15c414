"""The curvature of the linear softmax model: its diagonal and its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np

from .._array.namespace import Library, ignore_fp_warnings, without_fp_warnings
from .._array.scalars import number
from .._array.transfer import to_host
from .._array.typing import Array, ArrayT, Namespace, NDArray
from .._docstrings import passes_on_to
from .._kernels.dense import device_of, narrow, product
from .._kernels.linear import BlockedLinear
from .._options import LossArgs
from ..backends._parameters import on_rows
from ..backends._registry import run
from ..backends.sparse.samples import library_of
from ..linear.functions import DataOptions, linear_cross_entropy
from ..linear.model import LinearCrossEntropy
from .fitted import parameters_of


def as_array_of(lib: Library, x: Array, a: NDArray) -> Array:
    """``a`` in the library, on the device and in the dtype of ``x``."""
    return lib.xp.asarray(a, dtype=x.dtype, device=device_of(x))


def _squares(xp: Namespace, x: Array, h: Array, bias: bool) -> tuple[Array, ...]:
    squares = product(xp, xp.matrix_transpose(h), x * x)
    return (squares, xp.sum(h, axis=0, dtype=h.dtype)) if bias else (squares,)


def _class_blocks(xp: Namespace, x: Array, h: Array, bias: bool) -> tuple[Array, ...]:
    if bias:
        x = xp.concat([x, xp.ones_like(h[:, :1])], axis=1)
    each = (product(xp, xp.matrix_transpose(h[:, k : k + 1] * x), x) for k in range(h.shape[1]))
    return (xp.stack(list(each), axis=0),)


def _sums(
    X: Array,
    W: Array,
    bias: Array | None,
    args: LossArgs,
    product: Callable[..., tuple[Array, ...]],
    block_size: int | None,
) -> tuple[Array, ...]:
    """Sums over blocks of rows of what ``product`` gives of them and the curvature of each class's logit, reduced."""
    lib, xp, X = library_of(X, "X")
    with ignore_fp_warnings(lib):
        model = BlockedLinear(xp, X, W, bias, args, block_size)
        sums: tuple[Array, ...] = ()
        for _, _, x, z, piece in model.blocks():
            curvature = run("cross_entropy_hessian_diag", lib, lib.xp, z, piece)
            parts = product(xp, narrow(xp, x, model.wide), curvature, bias is not None)
            sums = tuple(a + b for a, b in zip(sums, parts, strict=True)) if sums else parts
        divisor = model.divisor()
        return tuple(model.scaled(a, divisor) for a in sums)


def _block_products(
    loss: LinearCrossEntropy,
    W: Any,
    bias: Any,
    product: Callable[..., tuple[Array, ...]],
    shapes: Callable[[int, int], list[tuple[int, ...]]],
) -> Sequence[Array]:
    """``_sums`` of a bound loss; ``shapes(n_classes, n_features)`` are those of the results."""
    weights, intercept, args = loss._parameters(W, bias)
    k, m = (int(size) for size in weights.shape)
    data, options = (loss._X, weights, intercept, args), (product, loss._block_size(k))
    found = on_rows(loss._lib, _sums, data, options, shapes(k, m))
    return _sums(*data, *options) if found is None else found


def _check_bound(loss: Any) -> None:
    if not isinstance(loss, LinearCrossEntropy):
        raise TypeError(f"loss must be a LinearCrossEntropy, which holds its data, got {type(loss).__name__}")
    loss._reducible()


def hessian_diag(loss: LinearCrossEntropy, W: Any, bias: Any = None) -> Any:
    """Diagonal of the second derivative of a linear softmax loss.

    Parameters
    ----------
    loss : LinearCrossEntropy
        The loss, bound to its data.
    W : array or SoftmaxRegression
        ``(n_classes, n_features)``, transposed with ``sample_axis=1``; a fitted model brings its intercepts along.
    bias : array, optional
        ``(n_classes,)``.

    Returns
    -------
    array, or (array, array) with a bias
        Of W's shape, and of the bias's.

    Raises
    ------
    TypeError, ValueError
        As the methods of ``loss``; ValueError with ``reduction="none"``.

    Notes
    -----
    With the probabilities p of a sample x its entry for class k and feature m is ``p_k (1 - p_k) x_m**2``, plus the
    penalty's ``l2``; ``1 - p_k`` is summed from the other classes.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> loss = sg.LinearCrossEntropy(np.asarray([[2.0]]), np.asarray([0]))
    >>> sg.statistics.hessian_diag(loss, np.zeros((2, 1)))
    array([[1.],
           [1.]])
    """
    _check_bound(loss)
    W, bias = parameters_of(W, bias, loss.sample_axis)
    out = _block_products(loss, W, bias, _squares, lambda k, m: [(k, m)] if bias is None else [(k, m), (k,)])
    first = loss._out("W", out[0] + loss.l2 if loss.l2 else out[0])
    return first if bias is None else (first, out[1])


@passes_on_to(LinearCrossEntropy, LinearCrossEntropy.value, raises=linear_cross_entropy)
def linear_cross_entropy_hessian_diag(
    X: ArrayT, labels: Any, W: ArrayT, bias: ArrayT | None = None, **options: Unpack[DataOptions]
) -> Any:
    """Diagonal of the second derivative of :func:`linear_cross_entropy`.

    Returns
    -------
    array, or (array, array) with a bias
        Of W's shape, and of the bias's.

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[2.0]]), np.asarray([0])
    >>> sg.statistics.linear_cross_entropy_hessian_diag(X, labels, np.zeros((2, 1)), np.zeros(2))[1]
    array([0.25, 0.25])
    """
    return hessian_diag(LinearCrossEntropy(X, labels, **options), W, bias)


class BlockPreconditioner:
    """The inverse of the second derivative's diagonal blocks, one block a class: a preconditioner for solvers.

    Parameters
    ----------
    loss : LinearCrossEntropy
        The loss, bound to its data.
    W : array or SoftmaxRegression
        ``(n_classes, n_features)``, transposed with ``sample_axis=1``: where to take the second derivative. A fitted
        model brings its intercepts along.
    bias : array, optional
        ``(n_classes,)``.
    ridge : float, default 1e-10
        Added to the blocks' diagonals, relative to them, so that directions without curvature have an inverse.

    Raises
    ------
    TypeError, ValueError
        As the methods of ``loss``; ValueError if a block is not finite or not positive.

    Notes
    -----
    The block of class k is the sum of ``p_k (1 - p_k) x x^T`` over the samples, x with a 1 for the bias, plus the
    penalty. Building it costs ``n_classes`` times ``X^T X``, and a call two products with matrices of one class.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> loss = sg.LinearCrossEntropy(np.asarray([[2.0]]), np.asarray([0]))
    >>> approximate_inverse = sg.statistics.BlockPreconditioner(loss, np.zeros((2, 1)))
    >>> approximate_inverse(np.asarray([[1.0], [3.0]])).round(6)
    array([[1.],
           [3.]])
    """

    @without_fp_warnings
    def __init__(self, loss: LinearCrossEntropy, W: Any, bias: Any = None, *, ridge: float = 1e-10) -> None:
        _check_bound(loss)
        W, bias = parameters_of(W, bias, loss.sample_axis)
        ridge = number(ridge, "ridge", 0.0)
        self._loss, self._bias = loss, bias is not None
        lib = loss._lib
        features = int(loss._X.shape[1])
        size = features + self._bias
        sums = _block_products(loss, W, bias, _class_blocks, lambda k, m: [(k, size, size)])
        blocks = np.asarray(to_host(lib, *sums)[0], dtype=np.float64)
        inverse = np.empty_like(blocks)
        penalty = np.full(blocks.shape[1], loss.l2)
        penalty[features:] = 0.0
        for k, block in enumerate(blocks):
            inverse[k] = inverse_of(block + np.diag(penalty), f"the block of class {k}", 0.0, ridge)
        self._inverse = as_array_of(lib, loss._like, inverse)

    @without_fp_warnings
    def __call__(self, vector: Any) -> Any:
        """The blocks' inverse times a vector.

        Parameters
        ----------
        vector : array, or tuple of two arrays with a bias
            As the gradient is given by ``loss.grad``.

        Returns
        -------
        array or tuple of arrays
            As ``vector``.
        """
        loss, xp = self._loss, self._loss._lib.xp
        if self._bias and not (isinstance(vector, tuple) and len(vector) == 2):
            raise ValueError("vector must be a tuple of two arrays, for W and the bias")
        first = loss._out("W", loss._parameter(vector[0] if self._bias else vector, "vector"))
        rows = first
        if self._bias:
            rows = xp.concat([first, xp.expand_dims(loss._parameter(vector[1], "vector"), axis=1)], axis=1)
        if tuple(rows.shape) != tuple(self._inverse.shape[:2]):
            raise ValueError(f"vector must have the shapes of W and the bias, got {tuple(first.shape)} for W")
        out = xp.squeeze(product(xp, self._inverse, xp.expand_dims(rows, axis=2)), axis=2)
        return (loss._out("W", out[:, :-1]), out[:, -1]) if self._bias else loss._out("W", out)


def inverse_of(matrix: NDArray, name: str, spacing: float, ridge: float = 0.0) -> NDArray:
    """The inverse of a symmetric positive definite matrix, its rows and columns brought to one scale first.

    ``spacing`` is that of the numbers that the matrix was summed in: below it nothing is known of a direction.
    """
    diagonal = np.diag(matrix)
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"{name} is not finite")
    size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    correlation = matrix / size[:, None] / size[None, :] + ridge * np.eye(len(size))
    try:
        factor = np.linalg.cholesky(correlation)
    except np.linalg.LinAlgError:
        factor = np.zeros((1, 1))
    if np.min(np.diag(factor)) ** 2 < len(size) * spacing:
        raise ValueError(
            f"{name} is singular: a feature follows from others (or is 0), or the classes are separated so well that "
            f"the data do not bound the coefficients"
        )
    half = np.linalg.inv(factor)
    return (half.T @ half) / size[:, None] / size[None, :]
