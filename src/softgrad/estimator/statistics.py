"""What the curvature of the linear softmax model tells: its diagonal, its blocks, and how sure the coefficients are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Unpack

import numpy as np

from .._array.labels import number
from .._array.namespace import Library, quiet
from .._array.transfer import to_host
from .._array.typing import Array, ArrayT, Job, Namespace
from .._kernels.linear import Wide
from ..backends._registry import run
from ..backends._small import on_rows
from ..backends.sparse.samples import home_of
from ..linear.arguments import samples_of
from ..linear.functions import DataOptions
from ..linear.model import LinearCrossEntropy

Host = np.ndarray[Any, Any]


def _beside(lib: Library, x: Array, a: Host) -> Array:
    return lib.xp.asarray(a, dtype=x.dtype, device=_device(x))


def _device(x: Array) -> Any:
    return getattr(x, "device", None)


def _spacing(loss: LinearCrossEntropy) -> float:
    return float(loss._lib.xp.finfo(loss._like.dtype).eps)


def _squares(xp: Namespace, x: Array, h: Array, bias: bool) -> tuple[Array, ...]:
    squares = xp.matmul(xp.matrix_transpose(h), x * x)
    return (squares, xp.sum(h, axis=0, dtype=h.dtype)) if bias else (squares,)


def _class_blocks(xp: Namespace, x: Array, h: Array, bias: bool) -> tuple[Array, ...]:
    if bias:
        x = xp.concat([x, xp.ones_like(h[:, :1])], axis=1)
    each = (xp.matmul(xp.matrix_transpose(h[:, k : k + 1] * x), x) for k in range(h.shape[1]))
    return (xp.stack(list(each), axis=0),)


def _sums(
    X: Array, W: Array, bias: Array, job: Job, product: Callable[..., tuple[Array, ...]], block_size: int | None
) -> tuple[Array, ...]:
    """Sums over blocks of rows of what ``product`` gives of them and the curvature of each class's logit, reduced."""
    lib, xp, X = home_of(X, "X")
    with quiet() if lib.warns else nullcontext():
        model = Wide(xp, X, W, bias, job, block_size)
        sums: tuple[Array, ...] = ()
        for _, _, x, z, piece in model.blocks():
            parts = product(xp, x, run("cross_entropy_hessian_diag", lib, lib.xp, z, piece), bias is not None)
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
    weights, intercept, job = loss._parameters(W, bias)
    k, m = (int(size) for size in weights.shape)
    data, options = (loss._X, weights, intercept, job), (product, loss._block_size(k))
    found = on_rows(loss._lib, _sums, data, options, shapes(k, m))
    return _sums(*data, *options) if found is None else found


def hessian_diag(loss: LinearCrossEntropy, W: ArrayT, bias: ArrayT | None = None) -> Any:
    """Diagonal of the second derivative of a linear softmax loss.

    Parameters
    ----------
    loss : LinearCrossEntropy
        The loss, bound to its data.
    W : array
        ``(n_classes, n_features)``, transposed with ``sample_axis=1``.
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
    loss._reducible()
    out = _block_products(loss, W, bias, _squares, lambda k, m: [(k, m)] if bias is None else [(k, m), (k,)])
    first = loss._out("W", out[0] + loss.l2 if loss.l2 else out[0])
    return first if bias is None else (first, out[1])


def linear_cross_entropy_hessian_diag(
    X: ArrayT, labels: Any, W: ArrayT, bias: ArrayT | None = None, **options: Unpack[DataOptions]
) -> Any:
    """Diagonal of the second derivative of :func:`linear_cross_entropy`.

    Parameters
    ----------
    X, labels, W, bias, **options
        As for :func:`linear_cross_entropy`.

    Returns
    -------
    array, or (array, array) with a bias
        Of W's shape, and of the bias's.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`linear_cross_entropy`; ValueError with ``reduction="none"``.

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
    W : array
        ``(n_classes, n_features)``, transposed with ``sample_axis=1``: where to take the second derivative.
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

    def __init__(self, loss: LinearCrossEntropy, W: Any, bias: Any = None, *, ridge: float = 1e-10) -> None:
        loss._reducible()
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
        self._inverse = _beside(lib, loss._like, inverse)

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
        first = loss._out("W", loss._beside(vector[0] if self._bias else vector, "vector"))
        rows = first
        if self._bias:
            rows = xp.concat([first, xp.expand_dims(loss._beside(vector[1], "vector"), axis=1)], axis=1)
        if tuple(rows.shape) != tuple(self._inverse.shape[:2]):
            raise ValueError(f"vector must have the shapes of W and the bias, got {tuple(first.shape)} for W")
        out = xp.squeeze(xp.matmul(self._inverse, xp.expand_dims(rows, axis=2)), axis=2)
        return (loss._out("W", out[:, :-1]), out[:, -1]) if self._bias else loss._out("W", out)


class CoefficientStatistics(NamedTuple):
    """How sure the coefficients of a fitted model are; see :func:`coefficient_statistics`.

    Attributes
    ----------
    coefficients : array of shape (n_classes - 1, n_features), with a last column for the bias where there is one
        Each class's less the reference's, the reference left out.
    standard_errors : array
        Of the same shape.
    z : array
        Their ratio.
    p_values : array
        The probability of a ratio as far from 0, if the true coefficient were 0.
    covariance : array of shape (size, size)
        Of the coefficients, row after row.
    """

    coefficients: Array
    standard_errors: Array
    z: Array
    p_values: Array
    covariance: Array


def inverse_of(matrix: Host, name: str, spacing: float, ridge: float = 0.0) -> Host:
    """The inverse of a symmetric positive definite matrix, its rows and columns brought to one scale first.

    ``spacing`` is that of the numbers that the matrix was summed in: below it nothing is known of a direction.
    """
    diagonal = np.diag(matrix)
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"{name} is not finite")
    size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    alike = matrix / size[:, None] / size[None, :] + ridge * np.eye(len(size))
    try:
        factor = np.linalg.cholesky(alike)
    except np.linalg.LinAlgError:
        factor = np.zeros((1, 1))
    if np.min(np.diag(factor)) ** 2 < len(size) * spacing:
        raise ValueError(
            f"{name} is singular: a feature follows from others (or is 0), or the classes are separated so well that "
            f"the data do not bound the coefficients"
        )
    half = np.linalg.inv(factor)
    return (half.T @ half) / size[:, None] / size[None, :]


def coefficient_statistics(
    X: Any,
    W: Any,
    bias: Any = None,
    *,
    reference: int = 0,
    sample_weight: Any = None,
    sample_axis: int = 0,
) -> CoefficientStatistics:
    """Standard errors of the coefficients of a model fitted by maximum likelihood, without a penalty.

    Parameters
    ----------
    X : array
        The samples of the fit: ``(n_samples, n_features)``, transposed with ``sample_axis=1``.
    W : array
        Fitted coefficients ``(n_classes, n_features)``, transposed with ``sample_axis=1``.
    bias : array, optional
        Fitted intercepts ``(n_classes,)``.
    reference : int, default 0
        The class that the others are compared with.
    sample_weight : array or number, optional
        How often each sample was seen.
    sample_axis : {0, 1}, default 0
        Layout of X and W.

    Returns
    -------
    CoefficientStatistics
        Arrays of X's library, device and dtype.

    Raises
    ------
    TypeError, ValueError
        If an array is of the wrong dtype, shape or library, or the information is singular.
    IndexError
        If there is no class ``reference``.

    Notes
    -----
    The covariance is the inverse of the information, the sum of ``(diag(p) - p p^T)`` (without the reference)
    times ``x x^T``: what ``MNLogit`` of statsmodels gives. The probabilities p come from :func:`softmax`, which does
    not overflow, and ``p (1 - p)`` from sums in which nothing cancels.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X = np.ones((4, 1))
    >>> sg.statistics.coefficient_statistics(X, np.zeros((2, 1))).standard_errors
    array([[1.]])
    """
    lib, rows, like = samples_of(X, sample_axis)
    # the curvature is that of any labels
    labels = lib.xp.zeros((rows.shape[0],), dtype=lib.xp.int64, device=_device(like))
    loss = LinearCrossEntropy(X, labels, sample_axis=sample_axis, reduction="sum", sample_weight=sample_weight)
    weights, intercept, job = loss._parameters(W, bias)
    classes = int(weights.shape[0])
    if classes < 2:
        raise ValueError(f"W of shape {tuple(W.shape)} has a single class: there is nothing to compare it with")
    if isinstance(reference, bool) or not hasattr(reference, "__index__"):
        raise TypeError(f"reference must be an int, got {reference!r}")
    if not -classes <= reference < classes:
        raise IndexError(f"reference is {reference}: there are {classes} classes")
    args = (loss._X, weights, intercept, job, intercept is not None, loss._block_size(classes))
    (full,) = to_host(lib, run("linear_cross_entropy_hessian", lib, loss._xp, *args))
    home = [np.asarray(a, dtype=np.float64) for a in to_host(lib, *(a for a in (weights, intercept) if a is not None))]
    theta = home[0] if intercept is None else np.concatenate([home[0], home[1][:, None]], axis=1)
    others = [k for k in range(classes) if k != reference % classes]
    size = len(others) * theta.shape[1]
    information = np.asarray(full, dtype=np.float64)[others][:, :, others].reshape(size, size)
    covariance = inverse_of((information + information.T) / 2, "the information matrix", _spacing(loss))
    estimate = theta[others] - theta[reference % classes]
    errors = np.sqrt(np.diag(covariance)).reshape(estimate.shape)
    z = estimate / errors
    p = np.asarray([math.erfc(abs(v) / math.sqrt(2)) for v in z.reshape(-1)]).reshape(z.shape)
    return CoefficientStatistics(*(_beside(lib, loss._like, a) for a in (estimate, errors, z, p, covariance)))
