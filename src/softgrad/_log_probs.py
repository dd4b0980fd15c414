"""Log-probabilities of given labels and the entropy of a softmax, with their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._array.labels import check_labels, logits_and_axis, same_shape
from ._array.namespace import Library, as_scalar, check_same_library, floating, kind, mask, native
from ._array.precision import resolve_precision
from ._array.scalars import positive
from ._array.typing import Array, ArrayT, Precision
from ._docstrings import passes_on_to
from ._kernels.dense import device_of
from ._kernels.scaling import Scaling
from ._options import LossArgs
from .backends._registry import run


def _masked_logits(logits: Any, axis: Any, where: Any) -> tuple[Library, Array, int, Array | None]:
    """(library, logits, class axis counted from the front, mask or None)."""
    lib, x, at = logits_and_axis(logits, axis)
    return lib, x, at, mask(lib, x, where, x_name="logits")


def scaling_of(temperature: Any, softcap: Any) -> Scaling:
    """The options that scale logits, checked."""
    return Scaling(positive(temperature, "temperature"), None if softcap is None else positive(softcap, "softcap"))


def with_axis(a: Array, axis: int) -> Array:
    """``a`` with an axis of one element; not by a reshape, for which a lazy library would have to know all sizes."""
    return a[(*(slice(None),) * axis, None, ...)]


def without_axis(a: Array, axis: int) -> Array:
    """``a`` without that axis."""
    return a[(*(slice(None),) * axis, 0, ...)]


def class_indices(lib: Library, x: Array, labels: Any, axis: int, validate: bool) -> tuple[Array, bool]:
    """(labels with the class axis, whether they came with it)."""
    xp = lib.xp
    if isinstance(labels, (int, np.integer)) and not isinstance(labels, bool):
        labels = xp.asarray(int(labels), device=device_of(x))
    check_same_library(lib, x, labels, "labels", "logits")
    labels = native(lib, labels)
    if kind(xp, labels.dtype) != "integer":
        raise TypeError(f"labels are class indices and must be integers, got dtype {labels.dtype}")
    shape = tuple(x.shape)
    samples = shape[:axis] + shape[axis + 1 :]
    several = labels.ndim == x.ndim
    given = tuple(labels.shape)
    if several:
        given = given[:axis] + given[axis + 1 :]
    if not same_shape(given, samples):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, but logits of shape {shape} with classes along axis {axis} need "
            f"{samples}, or that with any number of labels along axis {axis}"
        )
    if validate:
        check_labels(lib, labels, shape[axis], None)
    return labels if several else with_axis(labels, axis), several


def cotangent_of(lib: Library, x: Array, cotangent: Any, shape: tuple[Any, ...], of: str) -> Array:
    """``cotangent`` checked to be of ``shape``, beside the logits."""
    check_same_library(lib, x, cotangent, "cotangent", "logits")
    c = floating(lib, cotangent, "cotangent")
    if not same_shape(tuple(c.shape), shape):
        raise ValueError(f"cotangent has shape {tuple(c.shape)}, {of} have {shape}")
    return c


def log_probs(
    logits: ArrayT,
    labels: Any,
    /,
    *,
    axis: int = -1,
    where: Any = None,
    validate: bool = False,
    temperature: float = 1.0,
    softcap: float | None = None,
    precision: Precision = None,
) -> ArrayT:
    """Log-probabilities of given labels: ``log_softmax(logits)`` at them, the other classes' not kept.

    Parameters
    ----------
    logits : array
        Real numbers of any shape, classes along ``axis``.
    labels : array of ints
        One label a sample: of the logits' shape without ``axis``. Several: with any number of them along ``axis``, as
        ``take_along_axis`` has them.
    axis : int, default -1
        The axis of the logits that counts the classes.
    where : bool array, optional
        True keeps a class, False takes it out of the sum. Broadcasts to ``logits``. A hidden label has -inf.
    validate : bool, default False
        Raise if a label is out of range, which has to wait for the device.
    temperature : float, default 1.0
        What the logits are divided by, after ``softcap``.
    softcap : float, optional
        Logits are ``softcap * tanh(logits / softcap)`` first.
    precision : {"high", "default"}, optional
        See :func:`softgrad.precision`.

    Returns
    -------
    array
        Of the labels' shape, in the logits' library, device and floating dtype; NaN for a label that is no class. Rows
        of -inf alone, or with +inf or NaN in them, are NaN as in :func:`log_softmax`.

    Raises
    ------
    TypeError
        If ``logits`` is not an array of real numbers, or ``labels`` are no integers.
    AxisError
        If ``axis`` is out of range.
    ValueError
        If shapes do not agree, or ``precision`` is not known.
    LabelError
        With ``validate=True``, if a label is out of range.

    Notes
    -----
    ``d[label] - log1p(sum of the others)`` with ``d = x - max`` (Blanchard, Higham and Higham, 2021, IMA J. Numer.
    Anal. 41): no digits are lost where the label is nearly sure.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> logits = np.asarray([[20.0, 0.0], [0.0, 0.0]])
    >>> print(sg.log_probs(logits, np.asarray([0, 1])))
    [-2.06115362e-09 -6.93147181e-01]
    >>> sg.log_probs(logits, np.asarray([[1, 0], [0, 1]])).shape
    (2, 2)
    """
    lib, x, at, where = _masked_logits(logits, axis, where)
    labels, several = class_indices(lib, x, labels, at, validate)
    level, xp, scaling = resolve_precision(precision), lib.xp, scaling_of(temperature, softcap)
    if where is None and scaling.identity and labels.shape[at] == 1:
        held: Any = level
        args = LossArgs(axis=at, labels=without_axis(labels, at), dense=False, reduction="none", precision=held)
        value = -run("cross_entropy", lib, xp, x, args)
        return as_scalar(lib, with_axis(value, at) if several else value)
    value = run("log_probs", lib, xp, x, labels, at, where, level, scaling)
    return as_scalar(lib, value if several else without_axis(value, at))


@passes_on_to(log_probs, raises=log_probs)
def log_probs_vjp(
    logits: ArrayT,
    labels: Any,
    cotangent: ArrayT,
    /,
    *,
    axis: int = -1,
    where: Any = None,
    validate: bool = False,
    temperature: float = 1.0,
    softcap: float | None = None,
    precision: Precision = None,
) -> ArrayT:
    """Pull a cotangent of :func:`log_probs` back to the logits: the sum of ``c * (onehot(label) - p)``.

    Parameters
    ----------
    cotangent : array
        The derivative of a scalar with respect to the log-probabilities: of the labels' shape.

    Returns
    -------
    array
        The derivative with respect to ``logits``: of their shape and dtype. A row is NaN where a label is no class; a
        hidden class has 0, and so has what a hidden label is given.

    Raises
    ------
    ValueError
        If ``cotangent`` is not of the labels' shape.

    Notes
    -----
    At a label it is c times the sum of the other probabilities, not ``c * (1 - p)``, which keeps no digits near p = 1.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> logits, labels = np.asarray([[20.0, 0.0]]), np.asarray([0])
    >>> print(sg.log_probs_vjp(logits, labels, np.ones(1)))
    [[ 2.06115362e-09 -2.06115362e-09]]
    """
    lib, x, at, where = _masked_logits(logits, axis, where)
    labels, several = class_indices(lib, x, labels, at, validate)
    shape = tuple(labels.shape)
    c = cotangent_of(lib, x, cotangent, shape if several else shape[:at] + shape[at + 1 :], "the log-probabilities")
    c = c if several else with_axis(c, at)
    level, scaling = resolve_precision(precision), scaling_of(temperature, softcap)
    return run("log_probs_vjp", lib, lib.xp, x, labels, c, at, where, level, scaling)


@passes_on_to(log_probs)
def entropy(
    logits: ArrayT,
    /,
    *,
    axis: int = -1,
    where: Any = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    precision: Precision = None,
) -> ArrayT:
    """Entropy of the softmax, in nats: ``-sum(p * log(p))``.

    Parameters
    ----------
    where : bool array, optional
        True keeps a class, False takes it out. Broadcasts to ``logits``.

    Returns
    -------
    array
        Of the logits' shape without ``axis``, in their library, device and floating dtype. A row of -inf alone, or with
        +inf or NaN in it, is NaN; one that ``where`` hides whole is 0.

    Raises
    ------
    TypeError
        If ``logits`` is not an array of real numbers.
    AxisError
        If ``axis`` is out of range.
    ValueError
        If there are no classes, ``where`` does not broadcast to ``logits``, or ``precision`` is not known.

    Notes
    -----
    ``log1p(rest) - sum(p * d)`` with ``d = x - max`` and the sum ``rest`` of the exponentials less the largest: no
    term is negative, so that an entropy that is nearly 0 keeps its digits.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> print(sg.entropy(np.asarray([[0.0, 0.0], [40.0, 0.0]])))
    [6.93147181e-01 1.74182524e-16]
    """
    lib, x, at, where = _masked_logits(logits, axis, where)
    level, scaling = resolve_precision(precision), scaling_of(temperature, softcap)
    return as_scalar(lib, run("entropy", lib, lib.xp, x, at, where, level, scaling))


@passes_on_to(entropy, raises=entropy)
def entropy_vjp(
    logits: ArrayT,
    cotangent: ArrayT,
    /,
    *,
    axis: int = -1,
    where: Any = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    precision: Precision = None,
) -> ArrayT:
    """Pull a cotangent of :func:`entropy` back to the logits: ``-c * p * (log(p) + entropy)``.

    Parameters
    ----------
    cotangent : array
        The derivative of a scalar with respect to the entropies: of the logits' shape without ``axis``.

    Returns
    -------
    array
        The derivative with respect to ``logits``: of their shape and dtype; 0 where p is.

    Raises
    ------
    ValueError
        If ``cotangent`` is not of the entropies' shape.

    Notes
    -----
    As ``c * p * (mean - d)`` with ``d = x - max`` and its mean over p: the normalizer is in both terms, and left out.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> print(sg.entropy_vjp(np.asarray([40.0, 0.0]), np.asarray(1.0)))
    [-1.6993417e-16  1.6993417e-16]
    """
    lib, x, at, where = _masked_logits(logits, axis, where)
    shape = tuple(x.shape)
    c = cotangent_of(lib, x, cotangent, shape[:at] + shape[at + 1 :], "the entropies")
    level, scaling = resolve_precision(precision), scaling_of(temperature, softcap)
    return run("entropy_vjp", lib, lib.xp, x, c, at, where, level, scaling)
