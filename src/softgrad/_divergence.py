"""The Kullback-Leibler and Jensen-Shannon divergences of two softmaxes, from their logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from ._array.labels import logits_and_axis, same_shape, sample_weights, weights_of_visible
from ._array.namespace import Library, as_scalar, check_same_library, floating, kind, mask
from ._array.precision import resolve_precision
from ._array.scalars import number, one_of, positive
from ._array.typing import Array, ArrayT, Precision, Reduction
from ._docstrings import passes_on_to
from ._kernels.dense import held_dtype, narrow
from ._kernels.divergence import NAMES, DivergenceArgs
from ._options import REDUCTIONS, LossArgs, only_known
from .backends._registry import run

Direction: TypeAlias = Literal["forward", "reverse"]
LogitsName: TypeAlias = Literal["logits", "target_logits"]
LogitsNames: TypeAlias = LogitsName | Iterable[LogitsName]
DIRECTIONS = {"forward": 0.0, "reverse": 1.0}


class SharedOptions(TypedDict, total=False):
    """What every divergence takes, as keywords."""

    where: Any
    temperature: float
    sample_weight: Any
    reduction: Reduction
    precision: Precision


class Options(SharedOptions, total=False):
    """The same of logits, with their axis."""

    axis: int


class KLOptions(Options, total=False):
    """The same, with the direction."""

    direction: Direction


class JSOptions(Options, total=False):
    """The same, with the weight of the target."""

    beta: float


def mixture_weight(direction: Any) -> float:
    """The ``beta`` of a direction."""
    return DIRECTIONS[one_of(direction, "direction", tuple(DIRECTIONS))]


def logits_names(wrt: Any) -> tuple[tuple[str, ...], bool]:
    """(The arrays to differentiate by, whether the answer is a single array)."""
    single = isinstance(wrt, str)
    names = (wrt,) if single else tuple(wrt)
    for name in names:
        if name not in NAMES:
            raise ValueError(f"wrt must name some of {NAMES}, got {name!r}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"wrt must name each of its arrays once, got {wrt!r}")
    return names, single


def _arguments(
    logits: Any,
    target_logits: Any,
    beta: float,
    *,
    axis: Any = -1,
    where: Any = None,
    temperature: Any = 1.0,
    sample_weight: Any = None,
    reduction: Any = "mean",
    precision: Any = None,
) -> tuple[Library, Array, DivergenceArgs]:
    lib, x, place = logits_and_axis(logits, axis)
    one_of(reduction, "reduction", REDUCTIONS)
    check_same_library(lib, x, target_logits, "target_logits", "logits")
    y = floating(lib, target_logits, "target_logits")
    if not same_shape(tuple(y.shape), tuple(x.shape)):
        raise ValueError(f"target_logits have shape {tuple(y.shape)}, logits have {tuple(x.shape)}")
    y = y if y.dtype == x.dtype else narrow(lib.xp, y, held_dtype(lib.xp, x.dtype))
    shape = tuple(x.shape[:place]) + tuple(x.shape[place + 1 :])
    args = LossArgs(
        place,
        y,
        True,
        sample_weight=None if sample_weight is None else sample_weights(lib, x, sample_weight, shape),
        where=mask(lib, x, where, x_name="logits"),
    )
    args = weights_of_visible(lib, x, args)
    level = resolve_precision(precision)
    scale = positive(temperature, "temperature")
    return lib, x, DivergenceArgs(place, y, beta, scale, args.where, args.sample_weight, reduction, level)


def _value(logits: Any, target_logits: Any, beta: float, options: Any) -> Any:
    lib, x, args = _arguments(logits, target_logits, beta, **options)
    return as_scalar(lib, run("divergence", lib, lib.xp, x, args)[0])


def _value_and_grad(logits: Any, target_logits: Any, wrt: Any, beta: float, options: Any) -> tuple[Any, Any]:
    names, single = logits_names(wrt)
    lib, x, args = _arguments(logits, target_logits, beta, **options)
    value, grads = run("divergence", lib, lib.xp, x, args, names)
    xp, theirs = lib.xp, target_logits.dtype
    if kind(xp, theirs) == "real":
        grads = tuple(
            narrow(xp, g, theirs) if name == "target_logits" else g for name, g in zip(names, grads, strict=True)
        )
    return as_scalar(lib, value), grads[0] if single else grads


def kl_divergence(
    logits: ArrayT,
    target_logits: ArrayT,
    /,
    *,
    axis: int = -1,
    direction: Direction = "forward",
    where: Any = None,
    temperature: float = 1.0,
    sample_weight: Any = None,
    reduction: Reduction = "mean",
    precision: Precision = None,
) -> ArrayT:
    """Kullback-Leibler divergence between the softmaxes of two arrays of logits.

    Parameters
    ----------
    logits : array
        Real numbers, classes along ``axis``: the student, whose softmax is p.
    target_logits : array
        Of the same shape: the teacher, whose softmax is q. Logarithms of probabilities are logits too.
    axis : int, default -1
        The axis that counts the classes.
    direction : {"forward", "reverse"}, default "forward"
        Forward is ``KL(q || p) = sum(q * log(q / p))``, reverse ``KL(p || q)``.
    where : bool array, optional
        True keeps a class, False takes it out of both softmaxes. Broadcasts to the logits. A sample whose classes are
        all taken out counts for nothing.
    temperature : float, default 1.0
        Divides both arrays of logits. The result is not multiplied by its square, as Hinton, Vinyals and Dean (2015)
        do to keep the size of the gradient: multiply it yourself where that is wanted.
    sample_weight : array or number, optional
        Broadcasts to the samples' shape; booleans are 1 and 0. A sample of weight 0 counts for nothing, whatever its
        logits.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the sum of the sample weights: PyTorch's ``"batchmean"``.
    precision : {"high", "default"}, optional
        See :func:`softgrad.precision`.

    Returns
    -------
    array
        0-d, or of the samples' shape with ``reduction="none"``; in the logits' library, device and floating dtype.
        float16 and bfloat16 are computed in float32. Infinite where q has mass (forward; p in reverse) at a class of
        which the other one's logit is -inf; a class at which both are -inf adds nothing. A row of either with NaN,
        +inf or only -inf in it is NaN.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or they are of two libraries.
    ValueError
        If shapes do not agree, or an option is out of its range.

    Notes
    -----
    The logarithm of ``q / p`` is computed from the difference of the logits, and the terms as
    ``q * log(q / p) - (q - p)``, which are at least 0 and add up to the same. So the digits are kept where p and q
    nearly agree; ``sum(q * (log_q - log_p))`` leaves none of a divergence below the rounding of its terms.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> student, teacher = np.asarray([[0.0, 0.0]]), np.asarray([[1e-9, 0.0]])
    >>> print(f"{sg.kl_divergence(student, teacher):.6e}")
    1.250000e-19
    """
    options = {
        "axis": axis,
        "where": where,
        "temperature": temperature,
        "sample_weight": sample_weight,
        "reduction": reduction,
        "precision": precision,
    }
    return _value(logits, target_logits, mixture_weight(direction), options)


@passes_on_to(kl_divergence, raises=kl_divergence)
def kl_divergence_value_and_grad(
    logits: ArrayT, target_logits: ArrayT, /, *, wrt: LogitsNames = "logits", **options: Unpack[KLOptions]
) -> tuple[ArrayT, Any]:
    """:func:`kl_divergence` and its gradient.

    Parameters
    ----------
    wrt : str or tuple of str, default "logits"
        Some of "logits" and "target_logits".

    Returns
    -------
    (array, array or tuple of arrays)
        The divergence, and what :func:`kl_divergence_grad` gives.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> student, teacher = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    >>> value, grad = sg.kl_divergence_value_and_grad(student, teacher)
    >>> print(value.round(6), grad)
    0.130812 [[-0.25  0.25]]
    """
    only_known(options, KLOptions.__annotations__, "kl_divergence")
    beta = mixture_weight(options.pop("direction", "forward"))
    return _value_and_grad(logits, target_logits, wrt, beta, options)


@passes_on_to(kl_divergence_value_and_grad, raises=kl_divergence)
def kl_divergence_grad(
    logits: ArrayT, target_logits: ArrayT, /, *, wrt: LogitsNames = "logits", **options: Unpack[KLOptions]
) -> Any:
    """Gradient of :func:`kl_divergence`: of the forward one with respect to the logits, ``(p - q) / temperature``.

    Returns
    -------
    array or tuple of arrays
        One gradient for a single name, else a tuple in the order of ``wrt``; each of its array's shape and floating
        dtype. With ``reduction="none"`` a sample's row is the gradient of its own divergence.

    Notes
    -----
    The difference of the probabilities is ``-q * expm1(-log(q / p))`` where they are close. With respect to the logits
    of the distribution that the mean is over (the target in the forward direction) it is
    ``q * (log(q / p) - KL(q || p))``.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.kl_divergence_grad(np.asarray([[0.0, 0.0]]), np.asarray([[4e-9, 0.0]]))
    array([[-1.e-09,  1.e-09]])
    """
    return kl_divergence_value_and_grad(logits, target_logits, wrt=wrt, **options)[1]


@passes_on_to(kl_divergence, without=("direction",), raises=kl_divergence)
def js_divergence(logits: ArrayT, target_logits: ArrayT, /, *, beta: float = 0.5, **options: Unpack[Options]) -> ArrayT:
    """Generalised Jensen-Shannon divergence between the softmaxes of two arrays of logits.

    Parameters
    ----------
    beta : float, default 0.5
        Weight of the target in the mixture, from 0 to 1: see the notes.

    Returns
    -------
    array
        0-d, or of the samples' shape with ``reduction="none"``; in the logits' library, device and floating dtype. At
        most ``-beta log(beta) - (1 - beta) log(1 - beta)`` for beta between 0 and 1.

    Raises
    ------
    ValueError
        If ``beta`` is out of its range.

    Notes
    -----
    ``beta * KL(q || m) + (1 - beta) * KL(p || m)`` with the mixture ``m = beta * q + (1 - beta) * p``, as Agarwal et
    al. (2024, *On-policy distillation of language models*) define it and TRL and Liger compute it. Divided by
    ``beta * (1 - beta)`` it goes to ``KL(q || p)`` for beta to 0, and to ``KL(p || q)`` for beta to 1. By itself it
    goes to 0; as in TRL, ``beta=0`` and ``beta=1`` give those two divergences.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> print(sg.js_divergence(np.asarray([[0.0, 50.0]]), np.asarray([[50.0, 0.0]])).round(6))
    0.693147
    """
    only_known(options, Options.__annotations__, "js_divergence")
    return _value(logits, target_logits, number(beta, "beta", 0.0, 1.0), options)


@passes_on_to(js_divergence, kl_divergence_value_and_grad, without=("direction",), raises=js_divergence)
def js_divergence_value_and_grad(
    logits: ArrayT, target_logits: ArrayT, /, *, wrt: LogitsNames = "logits", **options: Unpack[JSOptions]
) -> tuple[ArrayT, Any]:
    """:func:`js_divergence` and its gradient.

    Returns
    -------
    (array, array or tuple of arrays)
        The divergence, and what :func:`js_divergence_grad` gives.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> x = np.asarray([[1.0, 2.0]])
    >>> value, grad = sg.js_divergence_value_and_grad(x, x)
    >>> print(value)
    0.0
    """
    only_known(options, JSOptions.__annotations__, "js_divergence")
    beta = number(options.pop("beta", 0.5), "beta", 0.0, 1.0)
    return _value_and_grad(logits, target_logits, wrt, beta, options)


@passes_on_to(js_divergence, kl_divergence_value_and_grad, without=("direction",), raises=js_divergence)
def js_divergence_grad(
    logits: ArrayT, target_logits: ArrayT, /, *, wrt: LogitsNames = "logits", **options: Unpack[JSOptions]
) -> Any:
    """Gradient of :func:`js_divergence`.

    Returns
    -------
    array or tuple of arrays
        One gradient for a single name, else a tuple in the order of ``wrt``; each of its array's shape and floating
        dtype. With ``reduction="none"`` a sample's row is the gradient of its own divergence.

    Notes
    -----
    With respect to the logits ``(1 - beta) * p * (log(p / m) - KL(p || m)) / temperature``.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> grad = sg.js_divergence_grad(np.asarray([[0.0, 0.0]]), np.asarray([[8e-9, 0.0]]))
    >>> print(grad.round(15))
    [[-5.e-10  5.e-10]]
    """
    return js_divergence_value_and_grad(logits, target_logits, wrt=wrt, **options)[1]
