"""The Kullback-Leibler divergence from a target known at some classes only, such as its most likely ones."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from ._array.labels import logits_and_axis, same_shape, sample_weights
from ._array.namespace import Library, as_scalar, check_same_library, floating, kind, native
from ._array.precision import resolve_precision
from ._array.scalars import one_of, positive
from ._array.typing import Array, ArrayT, Precision, Reduction
from ._divergence import Direction, kl_divergence, mixture_weight
from ._docstrings import passes_on_to
from ._kernels.dense import held_dtype, narrow
from ._kernels.divergence import DivergenceArgs
from ._options import REDUCTIONS, only_known
from .backends._registry import run

Rest: TypeAlias = Literal["lump", "renormalize"]
RESTS = ("lump", "renormalize")


class SharedOptions(TypedDict, total=False):
    """What the divergences from some classes take, as keywords."""

    direction: Direction
    rest: Rest
    temperature: float
    sample_weight: Any
    reduction: Reduction
    precision: Precision


class TopKOptions(SharedOptions, total=False):
    """The same of logits, with their axis."""

    axis: int


def given_classes(
    lib: Library, x: Array, log_probs: Any, labels: Any, axis: int, samples: tuple[Any, ...], x_name: str
) -> tuple[Array, Array]:
    """(log-probabilities, labels) of a target, checked: of one shape, which is that of the samples without ``axis``."""
    check_same_library(lib, x, labels, "target_labels", x_name)
    labels = native(lib, labels)
    if kind(lib.xp, labels.dtype) != "integer":
        raise TypeError(f"target_labels are class indices and must be integers, got dtype {labels.dtype}")
    given = tuple(labels.shape)
    if labels.ndim != len(samples) + 1 or not same_shape(given[:axis] + given[axis + 1 :], samples) or not given[axis]:
        wanted = ", ".join(map(str, (*samples[:axis], "m", *samples[axis:])))
        raise ValueError(f"target_labels must have shape ({wanted}) with m of 1 or more, got {given}")
    check_same_library(lib, x, log_probs, "target_log_probs", x_name)
    y = floating(lib, log_probs, "target_log_probs")
    if not same_shape(tuple(y.shape), given):
        raise ValueError(f"target_log_probs have shape {tuple(y.shape)}, target_labels have {given}")
    return y if y.dtype == x.dtype else narrow(lib.xp, y, held_dtype(lib.xp, x.dtype)), labels


def _arguments(
    logits: Any,
    target_log_probs: Any,
    target_labels: Any,
    *,
    axis: Any = -1,
    direction: Any = "forward",
    rest: Any = "lump",
    temperature: Any = 1.0,
    sample_weight: Any = None,
    reduction: Any = "mean",
    precision: Any = None,
) -> tuple[Library, Array, DivergenceArgs]:
    lib, x, at = logits_and_axis(logits, axis)
    shape = tuple(x.shape)
    samples = shape[:at] + shape[at + 1 :]
    y, labels = given_classes(lib, x, target_log_probs, target_labels, at, samples, "logits")
    return (
        lib,
        x,
        DivergenceArgs(
            at,
            y,
            mixture_weight(direction),
            positive(temperature, "temperature"),
            sample_weight=None if sample_weight is None else sample_weights(lib, x, sample_weight, samples),
            reduction=one_of(reduction, "reduction", REDUCTIONS),
            precision=resolve_precision(precision),
            labels=labels,
            lump=one_of(rest, "rest", RESTS) == "lump",
        ),
    )


@passes_on_to(kl_divergence)
def top_k_kl_divergence(
    logits: ArrayT,
    target_log_probs: ArrayT,
    target_labels: Any,
    /,
    *,
    axis: int = -1,
    direction: Direction = "forward",
    rest: Rest = "lump",
    temperature: float = 1.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    precision: Precision = None,
) -> ArrayT:
    """Kullback-Leibler divergence from a target known at some classes only, such as its k most likely ones.

    Parameters
    ----------
    target_log_probs : array
        The teacher's log-probabilities of some classes: of the logits' shape, with any number of them along ``axis``.
    target_labels : array of ints
        Which classes those are, of the same shape, each once a sample.
    rest : {"lump", "renormalize"}, default "lump"
        What becomes of the classes that the teacher does not tell. "lump": they are one class, which has 1 less the
        sum of the others on both sides. "renormalize": they are left out of both distributions, which then add up to 1
        without them; target_log_probs may be logits.
    temperature : float, default 1.0
        Divides the logits. The teacher's log-probabilities have to be those at that temperature.

    Returns
    -------
    array
        0-d, or of the samples' shape with ``reduction="none"``; in the logits' library, device and floating dtype. NaN
        for a sample with a label that is no class.

    Raises
    ------
    TypeError
        If an array is not of real numbers, labels are no integers, or arrays are of two libraries.
    AxisError
        If ``axis`` is out of range.
    ValueError
        If shapes do not agree, or an option is out of its range.

    Notes
    -----
    :func:`kl_divergence` of rows of a few logits: those of the labels, and with "lump" one more, the logsumexp of all
    others, in which nothing cancels however little is left. Lumping classes never makes a divergence larger, so that
    it is a lower bound of that from the whole teacher, and is that one where the two agree on the rest up to a factor.
    The teacher's own rest is 1 less a sum, which has the rounding of its dtype; where that leaves nothing it is 0.

    Log-probabilities round where differences of logits do not: of a divergence D its relative error is about
    eps / sqrt(D), where :func:`kl_divergence` keeps its digits.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> logits, labels = np.zeros((1, 4)), np.asarray([[2, 0]])
    >>> print(sg.top_k_kl_divergence(logits, np.log([[0.5, 0.25]]), labels).round(6))
    0.173287
    >>> print(sg.top_k_kl_divergence(logits, np.log([[0.5, 0.25]]), labels, rest="renormalize").round(6))
    0.056633
    """
    options = {
        "axis": axis,
        "direction": direction,
        "rest": rest,
        "temperature": temperature,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "precision": precision,
    }
    lib, x, args = _arguments(logits, target_log_probs, target_labels, **options)
    return as_scalar(lib, run("divergence", lib, lib.xp, x, args)[0])


@passes_on_to(top_k_kl_divergence, raises=top_k_kl_divergence)
def top_k_kl_divergence_value_and_grad(
    logits: ArrayT, target_log_probs: ArrayT, target_labels: Any, /, **options: Unpack[TopKOptions]
) -> tuple[ArrayT, ArrayT]:
    """:func:`top_k_kl_divergence` and its gradient with respect to the logits.

    Returns
    -------
    (array, array)
        The divergence, and what :func:`top_k_kl_divergence_grad` gives.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> value, grad = sg.top_k_kl_divergence_value_and_grad(np.zeros((1, 4)), np.log([[0.5]]), np.asarray([[2]]))
    >>> print(value.round(6), grad.round(6))
    0.143841 [[ 0.083333  0.083333 -0.25      0.083333]]
    """
    only_known(options, TopKOptions.__annotations__, "top_k_kl_divergence")
    given: dict[str, Any] = dict(options)
    lib, x, args = _arguments(logits, target_log_probs, target_labels, **given)
    value, (grad,) = run("divergence", lib, lib.xp, x, args, ("logits",))
    return as_scalar(lib, value), grad


@passes_on_to(top_k_kl_divergence, raises=top_k_kl_divergence)
def top_k_kl_divergence_grad(
    logits: ArrayT, target_log_probs: ArrayT, target_labels: Any, /, **options: Unpack[TopKOptions]
) -> ArrayT:
    """Gradient of :func:`top_k_kl_divergence` with respect to the logits.

    Returns
    -------
    array
        Of the logits' shape and floating dtype. With ``reduction="none"`` a sample's row is the gradient of its own
        divergence.

    Notes
    -----
    Forward and at temperature 1 it is ``p - q`` at the labels, and that of the rest, shared out as the student has it,
    at the other classes; with ``rest="renormalize"`` these have 0.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> log_probs, labels = np.log([[0.5, 0.125]]), np.asarray([[2, 0]])
    >>> print(sg.top_k_kl_divergence_grad(np.zeros((1, 4)), log_probs, labels).round(12))
    [[ 0.125   0.0625 -0.25    0.0625]]
    """
    return top_k_kl_divergence_value_and_grad(logits, target_log_probs, target_labels, **options)[1]
