"""The divergences of two linear softmax models, neither's logits whole."""

from __future__ import annotations

from typing import Any, Unpack

from .._array.labels import same_shape, sample_weights, weights_of_visible
from .._array.namespace import Library, as_one_chunk, as_scalar, check_same_library, floating, library
from .._array.precision import resolve_precision
from .._array.scalars import number, one_of, positive
from .._array.typing import Array, ArrayT, Precision, Reduction, Wrt
from .._divergence import Direction, SharedOptions, js_divergence, kl_divergence, mixture_weight
from .._docstrings import passes_on_to
from .._kernels.dense import narrow
from .._kernels.divergence import DivergenceArgs
from .._kernels.linear_divergence import Model
from .._options import REDUCTIONS, LossArgs, only_known
from ..backends._registry import run
from .arguments import layout, mask_of_logits, names_of, transposed
from .model import LinearCrossEntropy


class LinearOptions(SharedOptions, total=False):
    """What both divergences of linear models take, as keywords."""

    sample_axis: int
    block_size: int | None


class LinearKLOptions(LinearOptions, total=False):
    """The same, with the direction."""

    direction: Direction


class LinearJSOptions(LinearOptions, total=False):
    """The same, with the weight of the target."""

    beta: float


def checked_model(lib: Library, like: Array, X: Any, W: Any, bias: Any, axis: int, suffix: str) -> Model:
    """A model in the layout and dtype of the kernels, checked."""
    arrays = {"X" + suffix: X, "W" + suffix: W}
    if bias is not None:
        arrays["bias" + suffix] = bias
    for name, a in arrays.items():
        a = as_one_chunk(lib, a, name) if name[0] != "X" else a
        check_same_library(lib, like, a, name, "X")
        wanted = 1 if name.startswith("bias") else 2
        if a.ndim != wanted:
            raise ValueError(
                f"{name} must have {('one dimension', 'two dimensions')[wanted - 1]}, got {tuple(a.shape)}"
            )
        a = narrow(lib.xp, floating(lib, a, name), like.dtype)
        arrays[name] = a if wanted == 1 else transposed(lib, a, axis)
    rows, weights, *rest = arrays.values()
    if not same_shape((weights.shape[1],), (rows.shape[1],)):
        raise ValueError(
            f"W{suffix} needs {weights.shape[1]} features, X{suffix} has {rows.shape[1]} (sample_axis={axis})"
        )
    if rest and not same_shape(tuple(rest[0].shape), (weights.shape[0],)):
        raise ValueError(f"bias{suffix} must have shape ({weights.shape[0]},), got {tuple(rest[0].shape)}")
    return Model(rows, weights, rest[0] if rest else None)


def checked_reduction(reduction: Any, names: tuple[str, ...]) -> str:
    """``reduction``, one that has a gradient by ``names``."""
    if one_of(reduction, "reduction", REDUCTIONS) == "none" and names:
        raise ValueError("reduction='none' gives a divergence for each sample: its gradient needs 'mean' or 'sum'")
    return str(reduction)


def _call(
    models: tuple[Any, ...],
    beta: float,
    names: tuple[str, ...],
    *,
    sample_axis: int = 0,
    block_size: int | None = None,
    where: Any = None,
    temperature: Any = 1.0,
    sample_weight: Any = None,
    reduction: Any = "mean",
    precision: Any = None,
) -> tuple[Any, tuple[Any, ...]]:
    X, W, X_target, W_target, bias, bias_target = models
    axis, block_size = layout(sample_axis, block_size)
    reduction = checked_reduction(reduction, names)
    lib = library(X, "X")
    like = floating(lib, X, "X")
    student = checked_model(lib, like, X, W, bias, axis, "")
    target = checked_model(lib, like, X_target, W_target, bias_target, axis, "_target")
    samples, classes = student.X.shape[0], student.W.shape[0]
    if not same_shape((target.X.shape[0],), (samples,)):
        raise ValueError(f"X_target has {target.X.shape[0]} samples, X has {samples} (sample_axis={axis})")
    if target.W.shape[0] != classes or not classes:
        raise ValueError(f"W_target has {target.W.shape[0]} classes, W has {classes} (sample_axis={axis})")
    weight = None if sample_weight is None else sample_weights(lib, like, sample_weight, (samples,))
    where = mask_of_logits(lib, student.X, where, (samples, classes), axis)
    visible = weights_of_visible(lib, like, LossArgs(1, student.X[:, 0], False, sample_weight=weight, where=where))
    args = DivergenceArgs(
        1,
        None,
        beta,
        positive(temperature, "temperature"),
        where,
        visible.sample_weight,
        reduction,
        resolve_precision(precision),
    )
    value, grads = run("linear_divergence", lib, lib.xp, *student, target, args, names, block_size)
    out = (g if name == "bias" else transposed(lib, g, axis) for name, g in zip(names, grads, strict=True))
    return as_scalar(lib, value), tuple(out)


@passes_on_to(kl_divergence, LinearCrossEntropy, raises=kl_divergence)
def linear_kl_divergence(
    X: ArrayT,
    W: ArrayT,
    X_target: ArrayT,
    W_target: ArrayT,
    bias: ArrayT | None = None,
    bias_target: ArrayT | None = None,
    *,
    sample_axis: int = 0,
    direction: Direction = "forward",
    where: Any = None,
    temperature: float = 1.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    precision: Precision = None,
) -> ArrayT:
    """:func:`kl_divergence` of two linear models, ``logits = X W^T + bias``, neither's logits stored whole.

    Parameters
    ----------
    X, X_target : array
        Samples as the student and as the teacher see them: ``(n_samples, n_features)``, or
        ``(n_features, n_samples)`` with ``sample_axis=1``. The numbers of features may differ. X's floating dtype
        decides for all.
    W, W_target : array
        ``(n_classes, n_features)`` of each, transposed with ``sample_axis=1``.
    bias, bias_target : array, optional
        ``(n_classes,)``.
    block_size : int, optional
        Rows of a block, for which the logits of both models are held; None chooses by the number of classes.

    Returns
    -------
    array
        0-d, or ``(n_samples,)`` with ``reduction="none"``; of X's library, device and dtype.

    Notes
    -----
    The teacher is a constant for automatic differentiation. The products round the logits, and no more digits than
    they have are there for a divergence of models that nearly agree.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, X_target = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([[1.0], [2.0]])
    >>> print(sg.linear_kl_divergence(X, np.zeros((2, 2)), X_target, np.asarray([[1.0], [0.0]])).round(6))
    0.219379
    """
    options = {
        "sample_axis": sample_axis,
        "block_size": block_size,
        "where": where,
        "temperature": temperature,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "precision": precision,
    }
    models = (X, W, X_target, W_target, bias, bias_target)
    return _call(models, mixture_weight(direction), (), **options)[0]


@passes_on_to(linear_kl_divergence, raises=linear_kl_divergence)
def linear_kl_divergence_value_and_grad(
    X: ArrayT,
    W: ArrayT,
    X_target: ArrayT,
    W_target: ArrayT,
    bias: ArrayT | None = None,
    bias_target: ArrayT | None = None,
    *,
    wrt: Wrt = None,
    **options: Unpack[LinearKLOptions],
) -> tuple[ArrayT, Any]:
    """:func:`linear_kl_divergence` and its gradient by the student's parameters, from one pass.

    Parameters
    ----------
    wrt : str or tuple of str, optional
        Some of "W", "bias" and "X"; None is "W", with a bias ("W", "bias").

    Returns
    -------
    (array, array or tuple of arrays)
        The divergence; one gradient for a single name, else a tuple in the order of ``wrt``.

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, W, W_target = np.asarray([[2.0]]), np.zeros((2, 1)), np.asarray([[np.log(3) / 2], [0.0]])
    >>> value, grad = sg.linear_kl_divergence_value_and_grad(X, W, X, W_target)
    >>> print(value.round(6), grad.round(6).tolist())
    0.130812 [[-0.5], [0.5]]
    """
    only_known(options, LinearKLOptions.__annotations__, "linear_kl_divergence_value_and_grad")
    names, single = names_of(wrt, bias)
    rest: dict[str, Any] = dict(options)
    beta = mixture_weight(rest.pop("direction", "forward"))
    value, grads = _call((X, W, X_target, W_target, bias, bias_target), beta, names, **rest)
    return value, grads[0] if single else grads


@passes_on_to(linear_kl_divergence, js_divergence, without=("direction", "axis"), raises=linear_kl_divergence)
def linear_js_divergence(
    X: ArrayT,
    W: ArrayT,
    X_target: ArrayT,
    W_target: ArrayT,
    bias: ArrayT | None = None,
    bias_target: ArrayT | None = None,
    *,
    beta: float = 0.5,
    **options: Unpack[LinearOptions],
) -> ArrayT:
    """:func:`js_divergence` of two linear models, ``logits = X W^T + bias``, neither's logits stored whole.

    Returns
    -------
    array
        0-d, or ``(n_samples,)`` with ``reduction="none"``; of X's library, device and dtype.

    Raises
    ------
    ValueError
        If ``beta`` is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, W = np.asarray([[50.0]]), np.asarray([[1.0], [0.0]])
    >>> print(sg.linear_js_divergence(X, W, X, W[::-1]).round(6))
    0.693147
    """
    only_known(options, LinearOptions.__annotations__, "linear_js_divergence")
    models = (X, W, X_target, W_target, bias, bias_target)
    return _call(models, number(beta, "beta", 0.0, 1.0), (), **options)[0]


@passes_on_to(
    linear_js_divergence, linear_kl_divergence_value_and_grad, without=("direction",), raises=linear_js_divergence
)
def linear_js_divergence_value_and_grad(
    X: ArrayT,
    W: ArrayT,
    X_target: ArrayT,
    W_target: ArrayT,
    bias: ArrayT | None = None,
    bias_target: ArrayT | None = None,
    *,
    wrt: Wrt = None,
    **options: Unpack[LinearJSOptions],
) -> tuple[ArrayT, Any]:
    """:func:`linear_js_divergence` and its gradient by the student's parameters, from one pass.

    Returns
    -------
    (array, array or tuple of arrays)
        The divergence; one gradient for a single name, else a tuple in the order of ``wrt``.

    Raises
    ------
    ValueError
        If ``reduction`` is "none".

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, W = np.asarray([[2.0]]), np.asarray([[1.0], [0.0]])
    >>> value, grad = sg.linear_js_divergence_value_and_grad(X, W, X, W)
    >>> print(value)
    0.0
    """
    only_known(options, LinearJSOptions.__annotations__, "linear_js_divergence_value_and_grad")
    names, single = names_of(wrt, bias)
    rest: dict[str, Any] = dict(options)
    beta = number(rest.pop("beta", 0.5), "beta", 0.0, 1.0)
    value, grads = _call((X, W, X_target, W_target, bias, bias_target), beta, names, **rest)
    return value, grads[0] if single else grads
