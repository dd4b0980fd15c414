"""The cross-entropy of logits whose classes are split over processes."""

from __future__ import annotations

from typing import Any, Unpack

from .._array.namespace import Library, as_scalar
from .._array.typing import Array, ArrayT
from .._cross_entropy import CrossEntropy
from .._cross_entropy_functions import CallOptions, _split_options
from .._docstrings import passes_on_to
from .._kernels.shards import Reduce
from .._options import LossArgs
from ..backends._registry import run
from .arguments import REFUSED, checked, first_of, takes


def _prepared(
    logits: Any, labels: Any, first_class: Any, reduce: Any, options: CallOptions, function: str
) -> tuple[Library, Array, LossArgs, Any, Reduce]:
    loss, call = _split_options(options, function)
    if "validate" in call:
        raise TypeError(f"{function} has no option 'validate': no process knows all classes; a wrong label gives NaN")
    lib, x, args = loss._share(logits, labels, call.get("sample_weight"), call.get("where"), False)
    return lib, x, takes(args, function), first_of(lib, x, first_class), checked(lib, reduce)


@passes_on_to(CrossEntropy, CrossEntropy.__call__, without=REFUSED)
def cross_entropy(
    logits: ArrayT, labels: Any, *, first_class: Any, reduce: Any, **options: Unpack[CallOptions]
) -> ArrayT:
    """:func:`softgrad.cross_entropy` of logits whose classes are split over processes.

    Parameters
    ----------
    logits : array
        The process's share: real numbers, its classes along ``axis``, at least one.
    labels : array
        Class indices, counted over all processes and the same in each: integers of the logits' shape without ``axis``.
        Or the share of a distribution: real numbers of the logits' shape.
    first_class : int or integer array
        The index of the share's first class; an array of no dimensions where it is known only when a program runs.
    reduce : callable
        ``reduce(array, op)`` combines an array of every process element by element, ``op`` being ``"max"`` or
        ``"sum"``, and gives each the result: :func:`torch_distributed`, :func:`jax_axis`, or your own.
    class_weight : array, list of numbers, optional
        The share's part: one weight for each of its classes; None is 1.
    logit_shift : array, list of numbers, optional
        The share's part: one number for each of its classes, added last; None is 0.
    sample_weight : array or number, optional
        The same in each process. Broadcasts to the samples' shape; booleans are 1 and 0.
    where : bool array, optional
        The share's part: True keeps a class. All of a share may be hidden; a sample of which every process hides all
        counts for nothing.

    Returns
    -------
    array
        0-d, or of the samples' shape with ``reduction="none"``: the same in every process, and that of all the logits
        together but for rounding. NaN for a label that no process holds.

    Raises
    ------
    TypeError
        If an array is not of real numbers, they are of two libraries, or ``reduce`` gives no array of the shape and
        dtype that it was given.
    ValueError
        If shapes do not agree, or an option is out of its range.
    RuntimeError
        From :func:`torch_distributed`, if its process group is not ready.

    Notes
    -----
    ``reduce`` is called twice: with the maximum of the share, one number for each sample or two with ``logit_shift``,
    and with 5 to 12 sums for each. Where ``focal`` weighs several classes of a sample, those of a distribution or of
    ``label_smoothing``, their factors wait for the normalizer of the whole: a third call adds two sums more.

    The result can be differentiated by the share of the logits and by the sample weights, which calls it no more, with
    PyTorch once and in reverse mode, with JAX likewise; the other arguments are constants.

    ``torch.compile`` breaks its graph at this call.

    ``reduce`` waits for all processes. One that raises an error before it calls leaves the others waiting for as long
    as their ``reduce`` lets them.

    Examples
    --------
    Two threads stand for two processes, and meet at a barrier:

    >>> import threading
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> import softgrad as sg
    >>> barrier, given = threading.Barrier(2), {}
    >>> def meet(rank):
    ...     def reduce(array, op):
    ...         given[rank] = array
    ...         barrier.wait(timeout=5)
    ...         result = np.maximum(given[0], given[1]) if op == "max" else given[0] + given[1]
    ...         barrier.wait(timeout=5)
    ...         return result
    ...     return reduce
    >>> logits, labels = np.asarray([[1.0, 2.0, 0.0, 5.0]]), np.asarray([3])
    >>> def share(rank):
    ...     part = logits[:, :1] if rank == 0 else logits[:, 1:]
    ...     return sg.parallel.cross_entropy(part, labels, first_class=rank, reduce=meet(rank))
    >>> with ThreadPoolExecutor(2) as threads:
    ...     print(*(loss.round(6) for loss in threads.map(share, (0, 1))))
    0.072172 0.072172
    >>> print(sg.cross_entropy(logits, labels).round(6))
    0.072172
    """
    lib, x, args, first, reduce = _prepared(logits, labels, first_class, reduce, options, "cross_entropy")
    return as_scalar(lib, run("sharded_cross_entropy", lib, lib.xp, x, args, first, reduce))


@passes_on_to(cross_entropy, raises=cross_entropy)
def cross_entropy_value_and_grad(
    logits: ArrayT, labels: Any, *, first_class: Any, reduce: Any, **options: Unpack[CallOptions]
) -> tuple[ArrayT, ArrayT]:
    """:func:`cross_entropy` and its gradient by the process's share of the logits.

    Returns
    -------
    (array, array)
        The loss, as every process gets it; the gradient, of the share's shape and dtype. With ``reduction="none"`` a
        sample's row is the gradient of its own loss.

    Examples
    --------
    A single process holds all classes:

    >>> import numpy as np
    >>> import softgrad as sg
    >>> value, grad = sg.parallel.cross_entropy_value_and_grad(
    ...     np.asarray([[0.0, 0.0]]), np.asarray([0]), first_class=0, reduce=lambda array, op: array
    ... )
    >>> grad
    array([[-0.5,  0.5]])
    """
    lib, x, args, first, reduce = _prepared(
        logits, labels, first_class, reduce, options, "cross_entropy_value_and_grad"
    )
    value, grad = run("sharded_cross_entropy_value_and_grad", lib, lib.xp, x, args, first, reduce)
    return as_scalar(lib, value), grad
