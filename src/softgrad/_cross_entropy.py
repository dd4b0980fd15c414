"""The cross-entropy loss on logits, its gradient and its second derivative."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from ._errors import LabelError
from ._namespace import Library, fits, floating, kind, library, mask, one_axis, same_place, small
from ._precision import resolve_precision
from ._typing import Array, ArrayT, Job, Precision, Reduction
from .backends._registry import run

REDUCTIONS = ("none", "sum", "mean")


class LossOptions(TypedDict, total=False):
    """The fields of ``CrossEntropy``, as keywords."""

    axis: int
    label_smoothing: float
    class_weight: Any
    ignore_index: int | None
    z_loss: float
    reduction: Reduction
    precision: Precision


class CallOptions(LossOptions, total=False):
    """The same, with the arguments of its calls."""

    sample_weight: Any
    where: Any
    validate: bool


def finish(lib: Library, y: Array) -> Any:
    """A 0-d NumPy result as a scalar, as SciPy gives it."""
    return y[()] if lib.scalars and y.ndim == 0 else y


def number(value: Any, name: str, low: float, high: float = math.inf) -> float:
    """``value`` as a float between ``low`` and ``high``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    result = float(value)
    if not low <= result <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value!r}")
    return result


def sample_labels(lib: Library, x: Array, labels: Any, ndim: int, beside: str) -> tuple[Array, bool]:
    """(labels in a dtype for the kernels, whether they are weights by class), for logits of ``ndim`` dimensions."""
    xp = lib.xp
    if isinstance(labels, int) and not isinstance(labels, bool):
        labels = xp.asarray(labels, device=getattr(x, "device", None))
    same_place(lib, x, labels, "labels", beside)
    what = kind(xp, labels.dtype)
    if labels.ndim == ndim - 1:
        if what != "integer":
            raise TypeError(
                f"labels with one dimension less than the logits are class indices and must be integers, got dtype "
                f"{labels.dtype}"
            )
        return labels, False
    if labels.ndim == ndim:
        if what not in ("real", "integer"):
            raise TypeError(
                f"labels with as many dimensions as the logits are weights by class and must be real numbers, got "
                f"dtype {labels.dtype}"
            )
        return (labels if labels.dtype == x.dtype else xp.astype(labels, x.dtype)), True
    raise ValueError(
        f"labels of shape {tuple(labels.shape)} fit neither class indices nor weights by class for {beside} of shape "
        f"{tuple(x.shape)}"
    )


def same_shape(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two shapes agree as far as they are known."""
    return len(a) == len(b) and all(m == n or m != m or n != n for m, n in zip(a, b, strict=True))


def sample_weights(lib: Library, x: Array, weight: Any, shape: tuple[Any, ...]) -> Array:
    """``sample_weight`` broadcast to the samples' shape, in ``x``'s dtype."""
    xp = lib.xp
    if isinstance(weight, numbers.Real):
        weight = small(lib, x, weight, "sample_weight")
    same_place(lib, x, weight, "sample_weight", "the first argument")
    if kind(xp, weight.dtype) not in ("real", "integer"):
        raise TypeError(f"sample_weight must hold real numbers, got dtype {weight.dtype}")
    if not fits(tuple(weight.shape), shape):
        raise ValueError(
            f"sample_weight of shape {tuple(weight.shape)} does not broadcast to the samples' {shape}"
        )
    weight = weight if weight.dtype == x.dtype else xp.astype(weight, x.dtype)
    return weight if tuple(weight.shape) == shape else xp.broadcast_to(weight, shape)


def class_weights(lib: Library, x: Array, weight: Any, classes: int) -> Array:
    """``class_weight`` as one number a class, in ``x``'s dtype."""
    weight = small(lib, x, weight, "class_weight")
    if not same_shape(tuple(weight.shape), (classes,)):
        raise ValueError(
            f"class_weight must have one number for each of the {classes} classes, got shape {tuple(weight.shape)}"
        )
    return weight


def check_labels(lib: Library, labels: Array, classes: int, ignore_index: int | None) -> None:
    """Raise where a class index is no class; this waits for the device."""
    xp = lib.xp
    bad = xp.logical_or(labels < 0, labels >= classes)
    if ignore_index is not None:
        bad = xp.logical_and(bad, labels != ignore_index)
    flat = xp.reshape(bad, (-1,))
    if flat.shape[0] == 0 or not bool(xp.any(flat)):
        return
    index = int(xp.argmax(xp.astype(flat, xp.int32)))
    label = int(xp.reshape(labels, (-1,))[index])
    place = []
    for size in reversed(labels.shape):
        index, remainder = divmod(index, size)
        place.append(remainder)
    raise LabelError(
        f"labels[{', '.join(map(str, reversed(place)))}] is {label}: there are {classes} classes"
    )


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Cross-entropy of logits with labels: ``logsumexp(x) - x[label]``, with its derivatives.

    It holds options and no data: every call is given its labels.

    Parameters
    ----------
    axis : int, default -1
        The axis of the logits that counts the classes.
    label_smoothing : float, default 0.0
        Share of the target, from 0 to 1, that goes to all classes alike (to the allowed ones under ``where``).
    class_weight : array, list of numbers, optional
        One weight a class; multiplies that class's term of the loss, as in PyTorch.
    ignore_index : int, optional
        The label of samples that count for nothing.
    z_loss : float, default 0.0
        Factor of ``logsumexp(x)**2``, added to each sample's loss.
    reduction : {"mean", "sum", "none"}, default "mean"
        The mean divides by the sum of sample weight times class weight.
    precision : {"high", "default"}, optional
        See :func:`softgrad.precision`.

    Raises
    ------
    TypeError, ValueError
        If an option is of the wrong type, or out of its range.

    Notes
    -----
    The loss of sample i with target weights v (one-hot, smoothed, times the class weights; T their sum) is
    ``T logsumexp(x) - sum(v x)`` and its gradient ``T softmax(x) - v``. Both are computed from the sum of the
    exponentials without the class at hand, so that nothing cancels where the loss is small.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> loss = sg.CrossEntropy(reduction="sum")
    >>> logits, labels = np.asarray([[20.0, 0.0], [0.0, 0.0]]), np.asarray([0, 1])
    >>> print(loss(logits, labels).round(6))
    0.693147
    >>> value, grad = loss.value_and_grad(logits, labels)
    >>> grad[1]
    array([ 0.5, -0.5])
    """

    axis: int = -1
    label_smoothing: float = 0.0
    class_weight: Any = None
    ignore_index: int | None = None
    z_loss: float = 0.0
    reduction: Reduction = "mean"
    precision: Precision = None

    def __post_init__(self) -> None:
        if isinstance(self.axis, bool) or not hasattr(self.axis, "__index__"):
            raise TypeError(f"axis must be an int, got {self.axis!r}")
        number(self.label_smoothing, "label_smoothing", 0.0, 1.0)
        number(self.z_loss, "z_loss", 0.0)
        if self.ignore_index is not None and (
            isinstance(self.ignore_index, bool) or not hasattr(self.ignore_index, "__index__")
        ):
            raise TypeError(f"ignore_index must be an int or None, got {self.ignore_index!r}")
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {self.reduction!r}")
        resolve_precision(self.precision)

    def _job(
        self, logits: Any, labels: Any, sample_weight: Any, where: Any, validate: bool
    ) -> tuple[Library, Array, Job]:
        lib = library(logits, "logits")
        x = floating(lib, logits, "logits")
        if x.ndim == 0:
            raise ValueError("logits must have a class axis, got an array of no dimensions")
        axis = one_axis(self.axis, x.ndim)
        classes = x.shape[axis]
        if classes == 0:
            raise ValueError(f"logits of shape {tuple(x.shape)} have no classes along axis {self.axis}")
        labels, dense = sample_labels(lib, x, labels, x.ndim, "logits")
        shape = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
        if not same_shape(tuple(labels.shape), tuple(x.shape) if dense else shape):
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, but logits of shape {tuple(x.shape)} with classes along "
                f"axis {self.axis} want {tuple(x.shape) if dense else shape}"
            )
        if validate and not dense:
            check_labels(lib, labels, classes, self.ignore_index)
        job = Job(
            axis,
            labels,
            dense,
            float(self.label_smoothing),
            None if self.class_weight is None else class_weights(lib, x, self.class_weight, classes),
            None if sample_weight is None else sample_weights(lib, x, sample_weight, shape),
            self.ignore_index,
            float(self.z_loss),
            None if where is None else mask(lib, x, where, beside="logits"),
            self.reduction,
            resolve_precision(self.precision),
        )
        return lib, x, job

    def __call__(
        self,
        logits: ArrayT,
        labels: Any,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> ArrayT:
        """The loss.

        Parameters
        ----------
        logits : array
            Real numbers, classes along ``axis``.
        labels : array
            Class indices (integers of the logits' shape without ``axis``), or one weight a class (real numbers of
            the logits' shape).
        sample_weight : array or number, optional
            Broadcasts to the samples' shape. A sample of weight 0 counts for nothing, whatever its logits.
        where : bool array, optional
            True keeps a class, False takes it out of the softmax. Broadcasts to the logits.
        validate : bool, default False
            Whether to raise where a label is out of range, which waits for the device. Without it such a sample's
            loss and gradient are NaN.

        Returns
        -------
        array
            0-d, or of the samples' shape with ``reduction="none"``; in the logits' dtype.
        """
        lib, x, job = self._job(logits, labels, sample_weight, where, validate)
        return finish(lib, run("cross_entropy", lib, lib.xp, x, job))

    def grad(
        self,
        logits: ArrayT,
        labels: Any,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> ArrayT:
        """The gradient with respect to the logits; arguments as for the call.

        Returns
        -------
        array
            Of the logits' shape and dtype. With ``reduction="none"`` a sample's row is the gradient of its own loss.
        """
        lib, x, job = self._job(logits, labels, sample_weight, where, validate)
        return run("cross_entropy_grad", lib, lib.xp, x, job)

    def value_and_grad(
        self,
        logits: ArrayT,
        labels: Any,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> tuple[ArrayT, ArrayT]:
        """The loss and its gradient, from one maximum and one exponential; arguments as for the call.

        Returns
        -------
        (array, array)
            What the call gives, and what ``grad`` gives.
        """
        lib, x, job = self._job(logits, labels, sample_weight, where, validate)
        value, grad = run("cross_entropy_value_and_grad", lib, lib.xp, x, job)
        return finish(lib, value), grad

    def hvp(
        self,
        logits: ArrayT,
        labels: Any,
        vector: ArrayT,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> ArrayT:
        """The second derivative with respect to the logits, times a vector; other arguments as for the call.

        Parameters
        ----------
        vector : array
            Of the logits' shape.

        Returns
        -------
        array
            Of the logits' shape and dtype.
        """
        lib, x, job = self._job(logits, labels, sample_weight, where, validate)
        same_place(lib, x, vector, "vector", "logits")
        vector = floating(lib, vector, "vector")
        if not same_shape(tuple(vector.shape), tuple(x.shape)):
            raise ValueError(f"vector has shape {tuple(vector.shape)}, logits have {tuple(x.shape)}")
        return run("cross_entropy_hvp", lib, lib.xp, x, job, vector)

    def hessian_diag(
        self,
        logits: ArrayT,
        labels: Any,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> ArrayT:
        """The diagonal of the second derivative with respect to the logits; arguments as for the call.

        Returns
        -------
        array
            Of the logits' shape and dtype.
        """
        lib, x, job = self._job(logits, labels, sample_weight, where, validate)
        return run("cross_entropy_hessian_diag", lib, lib.xp, x, job)

    def total_weight(
        self, logits: ArrayT, labels: Any, *, sample_weight: Any = None, where: Any = None
    ) -> ArrayT:
        """What the mean divides by: the sum of sample weight times class weight over the samples not ignored.

        Returns
        -------
        array
            0-d, in the logits' dtype.
        """
        lib, x, job = self._job(logits, labels, sample_weight, where, False)
        return finish(lib, run("total_weight", lib, lib.xp, x, job))


def _split_options(options: CallOptions, function: str) -> tuple[CrossEntropy, dict[str, Any]]:
    given: dict[str, Any] = dict(options)
    call = {name: given.pop(name) for name in ("sample_weight", "where", "validate") if name in given}
    unknown = sorted(set(given) - set(LossOptions.__annotations__))
    if unknown:
        known = sorted(CallOptions.__annotations__)
        raise TypeError(f"{function} has no option {unknown[0]!r}; it has {known}")
    return CrossEntropy(**given), call


def cross_entropy(logits: ArrayT, labels: Any, **options: Unpack[CallOptions]) -> ArrayT:
    """Cross-entropy of logits with labels: ``logsumexp(x) - x[label]``.

    Parameters
    ----------
    logits : array
        Real numbers, classes along ``axis`` (the last by default).
    labels : array
        Class indices (integers of the logits' shape without ``axis``), or one weight a class (real numbers of the
        logits' shape).
    **options
        Those of :class:`CrossEntropy` and of its calls: ``axis, label_smoothing, class_weight, ignore_index, z_loss,
        reduction, precision, sample_weight, where, validate``.

    Returns
    -------
    array
        0-d, or of the samples' shape with ``reduction="none"``; in the logits' library, device and floating dtype.

    Raises
    ------
    TypeError
        If the logits are not real numbers, the labels of no dtype that fits, or the arrays of two libraries.
    ValueError
        If shapes do not agree, or an option is out of its range.
    IndexError
        With ``validate=True``, if a label is out of range.

    Notes
    -----
    With the label at the maximum it is ``log1p(sum of exp(x_j - x_label) over the others)``: right to the last
    digits however small.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> print(sg.cross_entropy(np.asarray([[40.0, 0.0]]), np.asarray([0])))
    4.248354255291589e-18
    """
    loss, call = _split_options(options, "cross_entropy")
    return loss(logits, labels, **call)


def cross_entropy_grad(logits: ArrayT, labels: Any, **options: Unpack[CallOptions]) -> ArrayT:
    """Gradient of :func:`cross_entropy` with respect to the logits: ``softmax(x) - onehot(label)``.

    Parameters
    ----------
    logits, labels, **options
        As for :func:`cross_entropy`.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype; with ``reduction="none"`` a sample's row is the
        gradient of its own loss.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`cross_entropy`.

    Notes
    -----
    At the label it is minus the sum of the other probabilities, never ``p - 1``.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.cross_entropy_grad(np.asarray([[0.0, 0.0]]), np.asarray([0]))
    array([[-0.5,  0.5]])
    """
    loss, call = _split_options(options, "cross_entropy_grad")
    return loss.grad(logits, labels, **call)


def cross_entropy_value_and_grad(
    logits: ArrayT, labels: Any, **options: Unpack[CallOptions]
) -> tuple[ArrayT, ArrayT]:
    """:func:`cross_entropy` and its gradient, from one maximum and one exponential.

    Parameters
    ----------
    logits, labels, **options
        As for :func:`cross_entropy`.

    Returns
    -------
    (array, array)
        The loss, and its gradient with respect to the logits.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> value, grad = sg.cross_entropy_value_and_grad(np.asarray([[0.0, 0.0]]), np.asarray([0]))
    >>> print(value.round(6), grad)
    0.693147 [[-0.5  0.5]]
    """
    loss, call = _split_options(options, "cross_entropy_value_and_grad")
    return loss.value_and_grad(logits, labels, **call)


def cross_entropy_hvp(logits: ArrayT, labels: Any, vector: ArrayT, **options: Unpack[CallOptions]) -> ArrayT:
    """Second derivative of :func:`cross_entropy` with respect to the logits, times a vector.

    Parameters
    ----------
    logits, labels
        As for :func:`cross_entropy`.
    vector : array
        Of the logits' shape.
    **options
        As for :func:`cross_entropy`.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype.

    Raises
    ------
    TypeError, ValueError, IndexError
        As :func:`cross_entropy`.

    Notes
    -----
    ``p * (u - sum(p * u))`` for each sample, with u centred on its value at the maximum so that nothing cancels.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> sg.cross_entropy_hvp(np.asarray([[0.0, 0.0]]), np.asarray([0]), np.asarray([[1.0, 0.0]]))
    array([[ 0.25, -0.25]])
    """
    loss, call = _split_options(options, "cross_entropy_hvp")
    return loss.hvp(logits, labels, vector, **call)
