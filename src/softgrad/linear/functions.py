"""The functions that are shorthands for ``LinearCrossEntropy``."""

from __future__ import annotations

from typing import Any, Unpack

from .._array.typing import ArrayT, Wrt
from .._docstrings import passes_on_to
from .._options import LossKeywords, only_known
from .model import LinearCrossEntropy


class DataOptions(LossKeywords, total=False):
    """The options of ``LinearCrossEntropy``, as keywords."""

    sample_axis: int
    l2: float
    sample_weight: Any
    block_size: int | None
    where: Any
    validate: bool


class Options(DataOptions, total=False):
    """The options of the functions, as keywords."""

    wrt: Wrt
    classes: Any


def _bound(
    X: Any, labels: Any, options: Any, function: str, own: tuple[str, ...]
) -> tuple[LinearCrossEntropy, dict[str, Any]]:
    given = dict(options)
    call = {name: given.pop(name) for name in own if name in given}
    only_known(options, {*DataOptions.__annotations__, *own}, function)
    return LinearCrossEntropy(X, labels, **given), call


@passes_on_to(LinearCrossEntropy, LinearCrossEntropy.value)
def linear_cross_entropy(
    X: ArrayT, labels: Any, W: ArrayT, bias: ArrayT | None = None, **options: Unpack[DataOptions]
) -> ArrayT:
    """Cross-entropy of the linear softmax model, ``logits = X W^T + bias``, the logits never stored whole.

    Returns
    -------
    array
        0-d, or ``(n_samples,)`` with ``reduction="none"``; of X's library, device and dtype.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or they are of two libraries.
    ValueError
        If shapes do not agree, or an option is out of its range.
    IndexError
        With ``validate=True``, if a label is out of range.

    Notes
    -----
    See :doc:`/derivation` for the formula and where it comes from.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([0, 1])
    >>> print(sg.linear_cross_entropy(X, labels, np.zeros((2, 2))).round(6))
    0.693147
    """
    bound, _ = _bound(X, labels, options, "linear_cross_entropy", ())
    return bound.value(W, bias)


@passes_on_to(LinearCrossEntropy, LinearCrossEntropy.grad, raises=linear_cross_entropy)
def linear_cross_entropy_grad(
    X: ArrayT, labels: Any, W: ArrayT, bias: ArrayT | None = None, **options: Unpack[Options]
) -> Any:
    """Gradient of :func:`linear_cross_entropy`: with respect to W, ``(S - Y)^T X``.

    Returns
    -------
    array or tuple of arrays
        One array for a single name, else a tuple in the order of ``wrt``; None is "W", with a bias ("W", "bias").

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([0, 1])
    >>> sg.linear_cross_entropy_grad(X, labels, np.zeros((2, 2)), reduction="sum")
    array([[-0.5,  1. ],
           [ 0.5, -1. ]])
    """
    bound, call = _bound(X, labels, options, "linear_cross_entropy_grad", ("wrt", "classes"))
    return bound.grad(W, bias, **call)


@passes_on_to(LinearCrossEntropy, LinearCrossEntropy.value_and_grad, raises=linear_cross_entropy)
def linear_cross_entropy_value_and_grad(
    X: ArrayT, labels: Any, W: ArrayT, bias: ArrayT | None = None, **options: Unpack[Options]
) -> tuple[ArrayT, Any]:
    """:func:`linear_cross_entropy` and its gradient, from one pass over X.

    Returns
    -------
    (array, array or tuple of arrays)
        The loss, and what :func:`linear_cross_entropy_grad` gives.

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, Y = np.asarray([[1.0, 3.0]]), np.eye(2)
    >>> value, grad = sg.linear_cross_entropy_value_and_grad(
    ...     X, Y, np.zeros((1, 2)), sample_axis=1, reduction="sum"
    ... )
    >>> grad
    array([[ 1., -1.]])
    """
    bound, call = _bound(X, labels, options, "linear_cross_entropy_value_and_grad", ("wrt", "classes"))
    return bound.value_and_grad(W, bias, **call)


@passes_on_to(LinearCrossEntropy, LinearCrossEntropy.hvp, raises=linear_cross_entropy)
def linear_cross_entropy_hvp(
    X: ArrayT, labels: Any, W: ArrayT, vector: Any, bias: ArrayT | None = None, **options: Unpack[Options]
) -> Any:
    """Second derivative of :func:`linear_cross_entropy`, times a vector.

    Returns
    -------
    array or tuple of arrays
        As ``vector``.

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[2.0]]), np.asarray([0])
    >>> sg.linear_cross_entropy_hvp(X, labels, np.zeros((2, 1)), np.asarray([[1.0], [0.0]]))
    array([[ 1.],
           [-1.]])
    """
    bound, call = _bound(X, labels, options, "linear_cross_entropy_hvp", ("wrt",))
    return bound.hvp(W, vector, bias, **call)


@passes_on_to(LinearCrossEntropy, LinearCrossEntropy.hessian, raises=linear_cross_entropy)
def linear_cross_entropy_hessian(
    X: ArrayT, labels: Any, W: ArrayT, bias: ArrayT | None = None, **options: Unpack[Options]
) -> Any:
    """The whole second derivative of :func:`linear_cross_entropy`, for a small model.

    Returns
    -------
    array or tuple of tuples of arrays
        For a single name of shape ``W.shape + W.shape``; else one row of blocks for each name.

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[2.0]]), np.asarray([0])
    >>> sg.linear_cross_entropy_hessian(X, labels, np.zeros((2, 1))).reshape(2, 2)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    bound, call = _bound(X, labels, options, "linear_cross_entropy_hessian", ("wrt",))
    return bound.hessian(W, bias, **call)
