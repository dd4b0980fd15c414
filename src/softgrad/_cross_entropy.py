"""The cross-entropy loss on logits, its gradient and its second derivative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._array.labels import (
    check_labels,
    logits_and_axis,
    loss_args,
    same_shape,
    sample_labels,
    sample_weights,
    weights_of_visible,
)
from ._array.namespace import Library, as_scalar, check_same_library, floating, mask
from ._array.scalars import integer
from ._array.typing import Array, ArrayT
from ._docstrings import passes_on_to
from ._options import LossArgs, LossOptions
from .backends._registry import run


@passes_on_to(LossOptions)
@dataclass(frozen=True, kw_only=True, eq=False)
class CrossEntropy(LossOptions):
    """Cross-entropy of logits with labels: ``logsumexp(x) - x[label]``, with its derivatives.

    It holds options and no data: every call is given its labels.

    Parameters
    ----------
    axis : int, default -1
        The axis of the logits that counts the classes.

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

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "axis", integer(self.axis, "axis"))

    def _loss_args(
        self, logits: Any, labels: Any, sample_weight: Any, where: Any, validate: bool
    ) -> tuple[Library, Array, LossArgs]:
        lib, x, args = self._share(logits, labels, sample_weight, where, validate)
        return lib, x, weights_of_visible(lib, x, args)

    def _share(
        self, logits: Any, labels: Any, sample_weight: Any, where: Any, validate: bool
    ) -> tuple[Library, Array, LossArgs]:
        """(library, logits, arguments) of some of the classes; a sample may have visible classes elsewhere."""
        lib, x, axis = logits_and_axis(logits, self.axis)
        classes = x.shape[axis]
        labels, dense = sample_labels(lib, x, labels, x.ndim, "logits")
        shape = tuple(x.shape[:axis]) + tuple(x.shape[axis + 1 :])
        if not same_shape(tuple(labels.shape), tuple(x.shape) if dense else shape):
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, but logits of shape {tuple(x.shape)} with classes along "
                f"axis {self.axis} need {tuple(x.shape) if dense else shape}"
            )
        if validate and not dense:
            check_labels(lib, labels, classes, self.ignore_index)
        weight = None if sample_weight is None else sample_weights(lib, x, sample_weight, shape)
        visible = None if where is None else mask(lib, x, where, x_name="logits")
        return lib, x, loss_args(lib, x, self, classes, axis, labels, dense, weight, visible)

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
            Class indices (integers of the logits' shape without ``axis``), or a distribution over the classes
            (real numbers of the logits' shape).
        sample_weight : array or number, optional
            Broadcasts to the samples' shape; booleans are 1 and 0. A sample of weight 0 counts for nothing, whatever
            its logits.
        where : bool array, optional
            True keeps a class, False takes it out of the softmax. Broadcasts to the logits. A sample whose classes are
            all taken out counts for nothing, as one of weight 0.
        validate : bool, default False
            Raise if a label is out of range, which has to wait for the device. Otherwise the loss and gradient of such
            a sample are NaN.

        Returns
        -------
        array
            0-d, or of the samples' shape with ``reduction="none"``; in the logits' dtype.
        """
        lib, x, args = self._loss_args(logits, labels, sample_weight, where, validate)
        return as_scalar(lib, run("cross_entropy", lib, lib.xp, x, args))

    @passes_on_to(__call__)
    def grad(
        self,
        logits: ArrayT,
        labels: Any,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> ArrayT:
        """The gradient with respect to the logits.

        Returns
        -------
        array
            Of the logits' shape and dtype. With ``reduction="none"`` a sample's row is the gradient of its own loss.
        """
        lib, x, args = self._loss_args(logits, labels, sample_weight, where, validate)
        return run("cross_entropy_grad", lib, lib.xp, x, args)

    @passes_on_to(__call__)
    def value_and_grad(
        self,
        logits: ArrayT,
        labels: Any,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> tuple[ArrayT, ArrayT]:
        """The loss and its gradient, from one maximum and one exponential.

        Returns
        -------
        (array, array)
            What the call gives, and what ``grad`` gives.
        """
        lib, x, args = self._loss_args(logits, labels, sample_weight, where, validate)
        value, grad = run("cross_entropy_value_and_grad", lib, lib.xp, x, args)
        return as_scalar(lib, value), grad

    @passes_on_to(__call__)
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
        """The second derivative with respect to the logits, times a vector.

        Parameters
        ----------
        vector : array
            Of the logits' shape.

        Returns
        -------
        array
            Of the logits' shape and dtype.
        """
        lib, x, args = self._loss_args(logits, labels, sample_weight, where, validate)
        check_same_library(lib, x, vector, "vector", "logits")
        direction: Array = floating(lib, vector, "vector")
        if not same_shape(tuple(direction.shape), tuple(x.shape)):
            raise ValueError(f"vector has shape {tuple(direction.shape)}, logits have {tuple(x.shape)}")
        return run("cross_entropy_hvp", lib, lib.xp, x, args, direction)

    @passes_on_to(__call__)
    def hessian_diag(
        self,
        logits: ArrayT,
        labels: Any,
        *,
        sample_weight: Any = None,
        where: Any = None,
        validate: bool = False,
    ) -> ArrayT:
        """The diagonal of the second derivative with respect to the logits.

        Returns
        -------
        array
            Of the logits' shape and dtype.
        """
        lib, x, args = self._loss_args(logits, labels, sample_weight, where, validate)
        return run("cross_entropy_hessian_diag", lib, lib.xp, x, args)

    @passes_on_to(__call__)
    def total_weight(self, logits: ArrayT, labels: Any, *, sample_weight: Any = None, where: Any = None) -> ArrayT:
        """What the mean divides by: the sum of sample weight times class weight over the samples that count.

        Returns
        -------
        array
            0-d, in the logits' dtype; in float32 where that is narrower.
        """
        lib, x, args = self._loss_args(logits, labels, sample_weight, where, False)
        return as_scalar(lib, run("total_weight", lib, lib.xp, x, args))
