"""The functions that are shorthands for ``CrossEntropy``."""

from __future__ import annotations

from typing import Any, Unpack

from ._array.typing import ArrayT
from ._cross_entropy import CrossEntropy
from ._docstrings import passes_on_to
from ._options import LossKeywords, only_known


class CallOptions(LossKeywords, total=False):
    """The options of ``CrossEntropy`` and the arguments of its calls, as keywords."""

    axis: int
    sample_weight: Any
    where: Any
    validate: bool


_PLAIN = CrossEntropy()


def _split_options(options: CallOptions, function: str) -> tuple[CrossEntropy, dict[str, Any]]:
    if not options:
        return _PLAIN, {}
    given: dict[str, Any] = dict(options)
    call: dict[str, Any] = {name: given.pop(name) for name in ("sample_weight", "where", "validate") if name in given}
    only_known(options, CallOptions.__annotations__, function)
    return CrossEntropy(**given), call


@passes_on_to(CrossEntropy, CrossEntropy.__call__)
def cross_entropy(logits: ArrayT, labels: Any, **options: Unpack[CallOptions]) -> ArrayT:
    """Cross-entropy of logits with labels: ``logsumexp(x) - x[label]``.

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
    >>> print(f"{sg.cross_entropy(np.asarray([[40.0, 0.0]]), np.asarray([0])):.10e}")
    4.2483542553e-18
    """
    loss, call = _split_options(options, "cross_entropy")
    return loss(logits, labels, **call)


@passes_on_to(CrossEntropy, CrossEntropy.grad, raises=cross_entropy)
def cross_entropy_grad(logits: ArrayT, labels: Any, **options: Unpack[CallOptions]) -> ArrayT:
    """Gradient of :func:`cross_entropy` with respect to the logits: ``softmax(x) - onehot(label)``.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype; with ``reduction="none"`` a sample's row is the
        gradient of its own loss.

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


@passes_on_to(CrossEntropy, CrossEntropy.value_and_grad, raises=cross_entropy)
def cross_entropy_value_and_grad(logits: ArrayT, labels: Any, **options: Unpack[CallOptions]) -> tuple[ArrayT, ArrayT]:
    """:func:`cross_entropy` and its gradient, from one maximum and one exponential.

    Returns
    -------
    (array, array)
        The loss, and its gradient with respect to the logits.

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


@passes_on_to(CrossEntropy, CrossEntropy.hvp, raises=cross_entropy)
def cross_entropy_hvp(logits: ArrayT, labels: Any, vector: ArrayT, **options: Unpack[CallOptions]) -> ArrayT:
    """Second derivative of :func:`cross_entropy` with respect to the logits, times a vector.

    Returns
    -------
    array
        Of the logits' shape, library, device and floating dtype.

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
