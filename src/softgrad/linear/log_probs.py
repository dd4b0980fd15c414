"""Log-probabilities of labels under the linear softmax model, whose logits are never stored whole."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._array.labels import check_labels, same_shape
from .._array.namespace import Library, check_same_library, floating, kind, library, native
from .._array.scalars import integer
from .._array.typing import Array, ArrayT, Precision, Wrt
from .._docstrings import passes_on_to
from .._kernels.linear_log_probs import Rows, Wanted
from .._log_probs import log_probs, scaling_of, with_axis, without_axis
from .._options import LossArgs
from ..backends._registry import run
from ..backends.sparse.samples import is_sparse
from .arguments import transposed
from .model import LinearCrossEntropy


class LinearLogProbs(NamedTuple):
    """What :func:`linear_log_probs` gives.

    Attributes
    ----------
    log_probs : array
        Of the labels' shape.
    log_normalizer : array
        ``(n_samples,)``: logsumexp of the logits.
    entropy : array or None
        ``(n_samples,)``.
    top_log_probs, top_labels : array or None
        ``(n_samples, top_k)``, or ``(top_k, n_samples)`` with ``sample_axis=1``: the likeliest classes, the likeliest
        first.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> found = sg.linear_log_probs(np.ones((2, 3)), np.asarray([0, 1]), np.zeros((4, 3)), top_k=2)
    >>> found.top_labels.shape, found.entropy
    ((2, 2), None)
    """

    log_probs: Any
    log_normalizer: Any
    entropy: Any = None
    top_log_probs: Any = None
    top_labels: Any = None


class _Problem:
    """The arguments of a call, checked, in the layout of the kernels."""

    def __init__(
        self, X: Any, labels: Any, W: Any, bias: Any, sample_axis: int, block_size: Any, precision: Any, validate: bool
    ) -> None:
        like = np.zeros(0) if is_sparse(X) else X
        lib = self.lib = library(like, "X")
        if X.ndim != 2:
            raise ValueError(f"X must have two dimensions, got shape {tuple(X.shape)}")
        axis = integer(sample_axis, "sample_axis", "0 or 1")
        check_same_library(lib, like, labels, "labels", "X")
        labels = native(lib, labels)
        if kind(lib.xp, labels.dtype) != "integer":
            raise TypeError(f"labels are class indices and must be integers, got dtype {labels.dtype}")
        if labels.ndim not in (1, 2):
            raise ValueError(f"labels must have one dimension, or two with several a sample; got {tuple(labels.shape)}")
        self.several = labels.ndim == 2
        if self.several:
            labels = transposed(lib, labels, axis)
        # its checks are those of the loss
        model = LinearCrossEntropy(
            X,
            labels[:, 0] if self.several and labels.shape[1] else labels,
            sample_axis=axis,
            block_size=block_size,
            reduction="none",
            precision=precision,
        )
        self.W, self.bias, args = model._parameters(W, bias)
        if validate:
            check_labels(lib, labels, self.W.shape[0], None)
        self.model, self.axis = model, axis
        self.args: LossArgs = args._replace(labels=labels if self.several else with_axis(labels, 1))

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What every kernel is given."""
        return self.lib, self.model._xp, self.model._X, self.W, self.bias, self.args

    def out(self, a: Array | None) -> Array | None:
        """Rows of samples as the caller has them."""
        return None if a is None else transposed(self.lib, a, self.axis)


@passes_on_to(log_probs, LinearCrossEntropy, LinearCrossEntropy.value_and_grad)
def linear_log_probs(
    X: ArrayT,
    labels: Any,
    W: ArrayT,
    bias: ArrayT | None = None,
    *,
    entropy: bool = False,
    top_k: int = 0,
    temperature: float = 1.0,
    softcap: float | None = None,
    sample_axis: int = 0,
    block_size: int | None = None,
    validate: bool = False,
    precision: Precision = None,
) -> LinearLogProbs:
    """Log-probabilities of labels under ``softmax(X W^T + bias)``, the logits never stored whole.

    Parameters
    ----------
    labels : array of ints
        ``(n_samples,)``, or several a sample: ``(n_samples, m)``, or ``(m, n_samples)`` with ``sample_axis=1``.
    entropy : bool, default False
        Whether to give the entropy of every sample too.
    top_k : int, default 0
        How many of the likeliest classes to give too, of equal ones the lowest first.

    Returns
    -------
    LinearLogProbs
        ``(log_probs, log_normalizer, entropy, top_log_probs, top_labels)``, the last three None where they are not
        asked for; of X's library, device and dtype. A label that is no class has NaN. Differentiable by PyTorch and
        JAX, which make each block of logits again and keep none.

    Raises
    ------
    TypeError
        If an array is not of real numbers, or labels are no integers.
    ValueError
        If shapes do not agree, or an option is out of its range.
    LabelError
        With ``validate=True``, if a label is out of range.

    Notes
    -----
    The formulas are those of :func:`log_probs` and :func:`entropy`. In memory is one block of logits, of 32 MiB or 128
    samples, whatever the number of samples.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, W = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> found = sg.linear_log_probs(X, np.asarray([2, 1]), W, entropy=True, top_k=1)
    >>> print(found.log_probs.round(4), found.entropy.round(4))
    [-0.5514 -0.2395] [0.9753 0.6656]
    >>> found.top_labels
    array([[2],
           [1]])
    """
    problem = _Problem(X, labels, W, bias, sample_axis, block_size, precision, validate)
    count = integer(top_k, "top_k")
    if not 0 <= count <= problem.W.shape[0]:
        raise ValueError(f"top_k must be between 0 and the number of classes, {problem.W.shape[0]}, got {top_k!r}")
    wanted = Wanted(bool(entropy), count, scaling_of(temperature, softcap))
    found = run("linear_log_probs", *problem.arrays, wanted, problem.model.block_size)
    log_probs = problem.out(found[0]) if problem.several else without_axis(found[0], 1)
    return LinearLogProbs(log_probs, found[1], found[2], problem.out(found[3]), problem.out(found[4]))


@passes_on_to(linear_log_probs, raises=linear_log_probs)
def linear_log_probs_vjp(
    X: ArrayT,
    labels: Any,
    W: ArrayT,
    bias: ArrayT | None,
    cotangents: Any,
    *,
    wrt: Wrt = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    sample_axis: int = 0,
    block_size: int | None = None,
    validate: bool = False,
    precision: Precision = None,
) -> Any:
    """Pull cotangents of :func:`linear_log_probs` back to its parameters, the logits made again block by block.

    Parameters
    ----------
    cotangents : tuple of (array or None, array or None)
        The derivatives of a scalar with respect to the log-probabilities, of the labels' shape, and to the entropies,
        ``(n_samples,)``.
    wrt : str or tuple of str, optional
        Some of "W", "bias" and "X"; None is "W", with a bias ("W", "bias").

    Returns
    -------
    array or tuple of arrays
        One for a single name, else a tuple in the order of ``wrt``, each of its parameter's shape and dtype.

    Raises
    ------
    ValueError
        If ``cotangents`` are no two, or not of their shapes.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels, W = np.asarray([[2.0]]), np.asarray([0]), np.zeros((2, 1))
    >>> sg.linear_log_probs_vjp(X, labels, W, None, (np.ones(1), None))
    array([[ 1.],
           [-1.]])
    """
    problem = _Problem(X, labels, W, bias, sample_axis, block_size, precision, validate)
    names, single = problem.model._names(wrt, bias)
    if not isinstance(cotangents, (tuple, list)) or len(cotangents) != 2:
        raise ValueError("cotangents must be a pair, of the log-probabilities and of the entropies (None for none)")
    first, second = cotangents
    if first is None and second is None:
        raise ValueError("cotangents must not both be None")
    lib, like, n = problem.lib, problem.model._like, problem.args.labels.shape[0]
    shape = tuple(problem.args.labels.shape)
    if first is not None:
        given = (shape if problem.axis == 0 else shape[::-1]) if problem.several else shape[:1]
        c = _cotangent(lib, like, first, given, "log-probabilities")
        first = problem.out(c) if problem.several else with_axis(c, 1)
    if second is not None:
        second = _cotangent(lib, like, second, (n,), "entropies")
    scaling = scaling_of(temperature, softcap)
    slopes = run(
        "linear_log_probs_vjp", *problem.arrays, names, scaling, Rows(first, None, second), problem.model.block_size
    )
    out = tuple(problem.model._out(name, g) for name, g in zip(names, slopes, strict=True))
    return out[0] if single else out


def _cotangent(lib: Library, like: Array, c: Any, shape: tuple[Any, ...], of: str) -> Array:
    check_same_library(lib, like, c, "cotangents", "X")
    c = floating(lib, c, "cotangents")
    if not same_shape(tuple(c.shape), shape):
        raise ValueError(f"cotangents of the {of} have shape {tuple(c.shape)}, expected {shape}")
    return c
