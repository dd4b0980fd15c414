"""The divergence of a linear softmax model from a target known at some classes, without storing its logits."""

from __future__ import annotations

from typing import Any, Unpack

from .._array.labels import sample_weights
from .._array.namespace import as_scalar, floating, library
from .._array.precision import resolve_precision
from .._array.scalars import one_of, positive
from .._array.typing import ArrayT, Precision, Reduction, Wrt
from .._divergence import Direction, mixture_weight
from .._docstrings import passes_on_to
from .._kernels.divergence import DivergenceArgs
from .._kernels.linear_divergence import Given
from .._options import only_known
from .._top_k_divergence import RESTS, Rest, SharedOptions, given_classes, top_k_kl_divergence
from ..backends._registry import run
from .arguments import layout, names_of, transposed
from .divergence import checked_model, checked_reduction
from .model import LinearCrossEntropy


class LinearTopKOptions(SharedOptions, total=False):
    """What the divergence takes, as keywords."""

    sample_axis: int
    block_size: int | None


def _call(
    X: Any,
    W: Any,
    target_log_probs: Any,
    target_labels: Any,
    bias: Any,
    names: tuple[str, ...],
    *,
    sample_axis: Any = 0,
    direction: Any = "forward",
    rest: Any = "lump",
    temperature: Any = 1.0,
    sample_weight: Any = None,
    reduction: Any = "mean",
    block_size: Any = None,
    precision: Any = None,
) -> tuple[Any, tuple[Any, ...]]:
    axis, block_size = layout(sample_axis, block_size)
    reduction = checked_reduction(reduction, names)
    lib = library(X, "X")
    like = floating(lib, X, "X")
    student = checked_model(lib, like, X, W, bias, axis, "")
    samples = (student.X.shape[0],)
    given = given_classes(lib, like, target_log_probs, target_labels, 1 - axis, samples, "X")
    args = DivergenceArgs(
        1,
        None,
        mixture_weight(direction),
        positive(temperature, "temperature"),
        sample_weight=None if sample_weight is None else sample_weights(lib, like, sample_weight, samples),
        reduction=reduction,
        precision=resolve_precision(precision),
        lump=one_of(rest, "rest", RESTS) == "lump",
    )
    target = Given(*(transposed(lib, a, axis) for a in given))
    value, grads = run("linear_divergence", lib, lib.xp, *student, target, args, names, block_size)
    out = (g if name == "bias" else transposed(lib, g, axis) for name, g in zip(names, grads, strict=True))
    return as_scalar(lib, value), tuple(out)


@passes_on_to(top_k_kl_divergence, LinearCrossEntropy, LinearCrossEntropy.value_and_grad)
def linear_top_k_kl_divergence(
    X: ArrayT,
    W: ArrayT,
    target_log_probs: ArrayT,
    target_labels: Any,
    bias: ArrayT | None = None,
    *,
    sample_axis: int = 0,
    direction: Direction = "forward",
    rest: Rest = "lump",
    temperature: float = 1.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    block_size: int | None = None,
    precision: Precision = None,
) -> ArrayT:
    """:func:`top_k_kl_divergence` of a linear model, ``logits = X W^T + bias``, its logits never stored whole.

    Parameters
    ----------
    X : array
        Samples: ``(n_samples, n_features)``, or ``(n_features, n_samples)`` with ``sample_axis=1``.
    target_log_probs : array
        The teacher's log-probabilities of m classes a sample: ``(n_samples, m)``, or ``(m, n_samples)`` with
        ``sample_axis=1``; what :func:`linear_log_probs` with ``top_k=m`` calls ``top_log_probs``.
    target_labels : array of ints
        Which classes those are, of the same shape, each once a sample: its ``top_labels``.

    Returns
    -------
    array
        0-d, or ``(n_samples,)`` with ``reduction="none"``; of X's library, device and dtype.

    Raises
    ------
    TypeError
        If an array is not of real numbers, labels are no integers, or arrays are of two libraries.
    ValueError
        If shapes do not agree, or an option is out of its range.

    Notes
    -----
    The teacher is a constant for automatic differentiation.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, X_teacher = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([[1.0], [2.0]])
    >>> teacher = sg.linear_log_probs(X_teacher, np.asarray([0, 0]), np.asarray([[1.0], [0.0], [0.5]]), top_k=2)
    >>> W = np.zeros((3, 2))
    >>> print(sg.linear_top_k_kl_divergence(X, W, teacher.top_log_probs, teacher.top_labels).round(6))
    0.172319
    """
    options = {
        "sample_axis": sample_axis,
        "direction": direction,
        "rest": rest,
        "temperature": temperature,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "block_size": block_size,
        "precision": precision,
    }
    return _call(X, W, target_log_probs, target_labels, bias, (), **options)[0]


@passes_on_to(
    linear_top_k_kl_divergence,
    LinearCrossEntropy.value_and_grad,
    without=("classes",),
    raises=linear_top_k_kl_divergence,
)
def linear_top_k_kl_divergence_value_and_grad(
    X: ArrayT,
    W: ArrayT,
    target_log_probs: ArrayT,
    target_labels: Any,
    bias: ArrayT | None = None,
    *,
    wrt: Wrt = None,
    **options: Unpack[LinearTopKOptions],
) -> tuple[ArrayT, Any]:
    """:func:`linear_top_k_kl_divergence` and its gradient by the student's parameters, from one pass.

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
    >>> X, W = np.asarray([[2.0]]), np.zeros((3, 1))
    >>> value, grad = sg.linear_top_k_kl_divergence_value_and_grad(X, W, np.log([[0.5]]), np.asarray([[0]]))
    >>> print(value.round(6), grad.round(6).tolist())
    0.058892 [[-0.333333], [0.166667], [0.166667]]
    """
    only_known(options, LinearTopKOptions.__annotations__, "linear_top_k_kl_divergence_value_and_grad")
    names, single = names_of(wrt, bias)
    given: dict[str, Any] = dict(options)
    value, grads = _call(X, W, target_log_probs, target_labels, bias, names, **given)
    return value, grads[0] if single else grads
