"""The linear model on data that come in batches: one pass over them for each evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from .._array.namespace import Library, as_scalar
from .._array.scalars import number
from .._array.typing import Array
from .._docstrings import passes_on_to
from ..backends._parameters import on_parameters
from ..linear.model import LinearCrossEntropy
from ..linear.penalty import on_gradient, on_value
from .samples import add, mean, summed, weight_of


@passes_on_to(LinearCrossEntropy, without=("sample_weight",))
class BatchedLinearCrossEntropy:
    """Cross-entropy of the linear softmax model on batches: a function of its weights, for solvers.

    Each evaluation reads the batches once, one at a time, and merges what they give: the result is that of
    :class:`softgrad.LinearCrossEntropy` on all the samples together, but for rounding. The options are the same for
    every batch.

    Parameters
    ----------
    batches : iterable, or function without arguments that returns one
        Of ``(X, labels)`` or ``(X, labels, sample_weight)``, each as :class:`softgrad.LinearCrossEntropy` takes them
        (X may be sparse), all of one library. An iterator can be read only once, and so serves one evaluation; give a
        list, or a generator function, for more.
    l2 : float, default 0.0
        Adds ``l2 / 2 * sum(W**2)`` to the reduced loss; the bias is free.
    reduction : {"mean", "sum"}, default "mean"
        The mean divides by the weight of all batches.

    Raises
    ------
    TypeError
        If ``batches`` is not iterable, or a batch is no such tuple.
    ValueError
        If there is no batch, or ``batches`` is an iterator that has been read; as :class:`softgrad.LinearCrossEntropy`
        of a batch, with a note that says of which.

    Notes
    -----
    The sums of the batches are added by pairs, so that rounding grows with the logarithm of their number; that keeps
    so many gradients in memory, and one batch.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import partial
    >>> def batches():
    ...     rng = np.random.default_rng(0)
    ...     for _ in range(3):
    ...         yield rng.normal(size=(4, 2)), rng.integers(0, 3, size=4)
    >>> loss = partial.BatchedLinearCrossEntropy(batches, l2=0.1)
    >>> value, grad = loss.value_and_grad(np.zeros((3, 2)))
    >>> print(value.round(6), grad.shape)
    1.098612 (3, 2)
    """

    def __init__(
        self,
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        l2: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
        **options: Any,
    ) -> None:
        if not callable(batches) and not hasattr(batches, "__iter__"):
            raise TypeError(f"batches must be an iterable or a function that returns one, got {type(batches).__name__}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
        if "sample_weight" in options:
            raise TypeError("sample_weight comes with each batch: (X, labels, sample_weight)")
        self.l2, self.reduction, self.options = number(l2, "l2", 0.0), reduction, options
        self._batches, self._read = batches, False

    def _each(self) -> Iterator[tuple[int, Any]]:
        source = self._batches() if callable(self._batches) else self._batches
        batches = iter(source)
        if batches is self._batches:
            if self._read:
                raise ValueError(
                    "batches is an iterator, and has been read: pass a list, or a function that returns a new one"
                )
            self._read = True
        count = 0
        for count, batch in enumerate(batches, 1):
            if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                raise TypeError(
                    f"batch {count - 1} must be (X, labels) or (X, labels, sample_weight), got {_told(batch)}"
                )
            yield count - 1, batch
        if not count:
            raise ValueError("batches holds no batch")

    def _sums(
        self, W: Any, bias: Any, call: Callable[[LinearCrossEntropy, Any, Any], tuple[Array, ...]]
    ) -> tuple[Library, tuple[Array, ...]]:
        """(library, what ``call`` gives for all batches, reduced)."""
        # one sum of 2**level batches at most for each level, the larger ones first
        stack: list[tuple[int, tuple[Array, ...]]] = []
        lib: Library | None = None
        for i, (X, labels, *weight) in self._each():
            try:
                given = {**self.options, "sample_weight": weight[0] if weight else None}
                loss, *parameters = summed(X, labels, W, bias, given)
                lib = loss._lib
                total = call(loss, *parameters)
                if self.reduction == "mean":
                    total = (*total, weight_of(loss, *parameters))
            except Exception as error:
                error.add_note(f"in batch {i}")
                raise
            level = 0
            while stack and stack[-1][0] == level:
                total, level = _added(lib, stack.pop()[1], total), level + 1
            stack.append((level, total))
        assert lib is not None
        total = stack.pop()[1]
        while stack:
            total = _added(lib, stack.pop()[1], total)
        if self.reduction == "mean":
            *sums, weight_of_all = (lib.xp.asarray(a) for a in total)
            total = tuple(on_parameters(lib, mean, (a, weight_of_all)) for a in sums)
        return lib, total

    def value(self, W: Any, bias: Any = None) -> Any:
        """The loss.

        Parameters
        ----------
        W : array
            ``(n_classes, n_features)``, transposed with ``sample_axis=1``.
        bias : array, optional
            ``(n_classes,)``.

        Returns
        -------
        array
            0-d.
        """
        lib, (value,) = self._sums(W, bias, lambda loss, W, bias: (loss.value(W, bias),))
        return as_scalar(lib, on_value(lib, value, _like(lib, W, value), self.l2))

    @passes_on_to(value)
    def value_and_grad(self, W: Any, bias: Any = None) -> tuple[Any, Any]:
        """The loss and its gradient, from one pass over the batches.

        Returns
        -------
        (array, array or tuple of arrays)
            The loss; the gradient by W, with a bias by (W, bias).
        """

        def call(loss: LinearCrossEntropy, W: Any, bias: Any) -> tuple[Array, ...]:
            value, grad = loss.value_and_grad(W, bias)
            return (value, grad) if bias is None else (value, *grad)

        lib, (value, grad, *rest) = self._sums(W, bias, call)
        W = _like(lib, W, grad)
        value, grad = as_scalar(lib, on_value(lib, value, W, self.l2)), on_gradient(lib, grad, W, self.l2)
        return value, grad if bias is None else (grad, *rest)

    @passes_on_to(value_and_grad)
    def grad(self, W: Any, bias: Any = None) -> Any:
        """The gradient.

        Returns
        -------
        array or tuple of arrays
            By W, with a bias by (W, bias).
        """
        return self.value_and_grad(W, bias)[1]

    @passes_on_to(value)
    def hvp(self, W: Any, vector: Any, bias: Any = None) -> Any:
        """The second derivative times a vector, from one pass over the batches.

        Parameters
        ----------
        vector : array, with a bias a tuple of two
            The direction, as the gradient is given.

        Returns
        -------
        array or tuple of arrays
            As ``vector``.
        """

        def call(loss: LinearCrossEntropy, W: Any, bias: Any) -> tuple[Array, ...]:
            product = loss.hvp(W, vector, bias)
            return (product,) if bias is None else tuple(product)

        lib, (product, *rest) = self._sums(W, bias, call)
        direction = _like(lib, vector if bias is None else vector[0], product)
        product = on_gradient(lib, product, direction, self.l2)
        return product if bias is None else (product, *rest)


def _like(lib: Library, a: Array, like: Array) -> Array:
    return a if a.dtype == like.dtype else lib.xp.astype(a, like.dtype)


def _added(lib: Library, a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(on_parameters(lib, add, pair) for pair in zip(a, b, strict=True))


def _told(batch: Any) -> str:
    what = type(batch).__name__
    return f"a {what} of {len(batch)}" if isinstance(batch, (tuple, list)) else what
