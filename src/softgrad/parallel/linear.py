"""The linear softmax model whose classes are split over processes."""

from __future__ import annotations

from typing import Any, Unpack

from .._array.namespace import as_scalar
from .._array.typing import Array, ArrayT, Wrt
from .._docstrings import passes_on_to
from .._kernels.shards import Reduce
from .._options import LossArgs, only_known
from ..backends._registry import run
from ..linear.functions import DataOptions
from ..linear.model import LinearCrossEntropy
from .arguments import REFUSED, checked, first_of, takes
from .dense import cross_entropy as dense_cross_entropy


def _prepared(
    X: Any, labels: Any, W: Any, bias: Any, first_class: Any, reduce: Any, options: DataOptions, function: str
) -> tuple[LinearCrossEntropy, Array, Array | None, LossArgs, Any, Reduce]:
    only_known(options, set(DataOptions.__annotations__) - {"l2", "validate"}, function)
    model = LinearCrossEntropy(X, labels, **options)
    if model._xp is not model._lib.xp:
        raise TypeError("X is a sparse matrix: with classes split over processes X must be an array")
    weights, intercept, args = model._share(W, bias)
    lib = model._lib
    return (
        model,
        weights,
        intercept,
        takes(args, function),
        first_of(lib, model._like, first_class),
        checked(lib, reduce),
    )


@passes_on_to(
    *(LinearCrossEntropy, LinearCrossEntropy.value, dense_cross_entropy),
    without=("l2", "axis", *REFUSED),
    raises=dense_cross_entropy,
)
def linear_cross_entropy(
    X: ArrayT,
    labels: Any,
    W: ArrayT,
    bias: ArrayT | None = None,
    *,
    first_class: Any,
    reduce: Any,
    **options: Unpack[DataOptions],
) -> ArrayT:
    """:func:`softgrad.linear_cross_entropy` of a model whose classes are split over processes.

    Parameters
    ----------
    X : array
        The samples, the same in each process: ``(n_samples, n_features)``, or ``(n_features, n_samples)`` with
        ``sample_axis=1``.
    labels : array
        Class indices ``(n_samples,)``, counted over all processes and the same in each; or the share of a distribution,
        ``(n_samples, classes of the share)``, transposed with ``sample_axis=1``.
    W : array
        The process's share of the coefficients: ``(classes of the share, n_features)``, transposed with
        ``sample_axis=1``.
    bias : array, optional
        The share's part; None is 0.
    class_weight : array, list of numbers, optional
        The share's part: one weight for each of its classes; None is 1.
    logit_shift : array, list of numbers, optional
        The share's part: one number for each of its classes, added last; None is 0.
    sample_weight : array or number, optional
        The same in each process: one weight per sample; booleans are 1 and 0.
    where : bool array, optional
        The share's part: True keeps a class.
    block_size : int, optional
        Rows of a block; None chooses by the number of classes of the share. Processes may differ.

    Returns
    -------
    array
        0-d, or ``(n_samples,)`` with ``reduction="none"``: the same in every process.

    Notes
    -----
    ``reduce`` is called as in :func:`softgrad.parallel.cross_entropy`, however many blocks there are. The derivatives
    by the share of W and bias call it no more; the derivative by X, which all classes add to, is summed by one more
    call. Where the logits take more than one block they are made again for the gradient, rather than kept.

    A penalty on W is yours to add: its gradient by the share of W is that of the share alone.

    Examples
    --------
    A single process holds all classes:

    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([0, 1])
    >>> loss = sg.parallel.linear_cross_entropy(
    ...     X, labels, np.zeros((2, 2)), first_class=0, reduce=lambda array, op: array
    ... )
    >>> print(loss.round(6))
    0.693147
    """
    model, weights, intercept, args, first, reduce = _prepared(
        X, labels, W, bias, first_class, reduce, options, "linear_cross_entropy"
    )
    lib = model._lib
    value = run(
        "sharded_linear_cross_entropy",
        lib,
        lib.xp,
        model._X,
        weights,
        intercept,
        args,
        first,
        reduce,
        model.block_size,
    )
    return as_scalar(lib, value)


@passes_on_to(linear_cross_entropy, raises=linear_cross_entropy)
def linear_cross_entropy_value_and_grad(
    X: ArrayT,
    labels: Any,
    W: ArrayT,
    bias: ArrayT | None = None,
    *,
    first_class: Any,
    reduce: Any,
    wrt: Wrt = None,
    **options: Unpack[DataOptions],
) -> tuple[ArrayT, Any]:
    """:func:`linear_cross_entropy` and its gradient.

    Parameters
    ----------
    wrt : str or tuple of str, optional
        Some of "W", "bias" and "X"; None is "W", with a bias ("W", "bias"). The same in each process.

    Returns
    -------
    (array, array or tuple of arrays)
        The loss; one gradient for a single name, else a tuple in the order of ``wrt``: by the share of W and bias the
        process's own, by X the same in every process.

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    A single process holds all classes:

    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([0, 1])
    >>> value, grad = sg.parallel.linear_cross_entropy_value_and_grad(
    ...     X, labels, np.zeros((2, 2)), first_class=0, reduce=lambda array, op: array, reduction="sum"
    ... )
    >>> grad
    array([[-0.5,  1. ],
           [ 0.5, -1. ]])
    """
    model, weights, intercept, args, first, reduce = _prepared(
        X, labels, W, bias, first_class, reduce, options, "linear_cross_entropy_value_and_grad"
    )
    model._reducible()
    names, single = model._names(wrt, bias)
    lib = model._lib
    value, grads = run(
        "sharded_linear_cross_entropy_value_and_grad",
        lib,
        lib.xp,
        model._X,
        weights,
        intercept,
        args,
        names,
        first,
        reduce,
        model.block_size,
    )
    grads = tuple(model._out(name, g) for name, g in zip(names, grads, strict=True))
    return as_scalar(lib, value), grads[0] if single else grads
