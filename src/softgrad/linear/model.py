"""The cross-entropy of the linear softmax model, its gradients and its second derivative."""

from __future__ import annotations

from typing import Any, Unpack

from .._array.labels import check_labels, loss_args, same_shape, sample_labels, sample_weights, weights_of_visible
from .._array.namespace import as_one_chunk, as_scalar, check_same_library, floating
from .._array.scalars import number
from .._array.typing import Array, ArrayT, Namespace, Wrt
from .._docstrings import passes_on_to
from .._kernels.linear import copied_rows
from .._options import LossArgs, LossKeywords, LossOptions, only_known
from ..backends._registry import run
from ..backends.sparse.samples import is_sparse, namespace_of
from .arguments import columns_of, layout, mask_of_logits, names_of, samples_of, transposed
from .penalty import on_gradient, on_hessian, on_value, rounded


@passes_on_to(LossOptions)
class LinearCrossEntropy:
    """Cross-entropy of the linear softmax model on given data: a function of its weights, for solvers.

    The logits ``X W^T + bias`` are made in blocks of rows and never stored whole.

    Parameters
    ----------
    X : array
        Samples of real numbers: ``(n_samples, n_features)``, or ``(n_features, n_samples)`` with ``sample_axis=1``.
        The result has its floating dtype. Also a ``scipy.sparse`` matrix, whose library is then NumPy, and which is
        never made dense; or a ``numpy.memmap``, which is read a block at a time.
    labels : array
        Class indices ``(n_samples,)``, or distributions: ``(n_samples, n_classes)``, or
        ``(n_classes, n_samples)`` with ``sample_axis=1``.
    sample_axis : {0, 1}, default 0
        The axis of X that counts the samples. With 1 the other matrices are transposed too, W to
        ``(n_features, n_classes)``: the notation of :mod:`softgrad.identity`.
    l2 : float, default 0.0
        Adds ``l2 / 2 * sum(W**2)`` to the reduced loss; the bias is free.
    sample_weight : array or number, optional
        One weight per sample; booleans are 1 and 0.
    block_size : int, optional
        Rows of a block; None chooses by the number of classes.
    where : bool array, optional
        True keeps a class; broadcasts to the logits, ``(n_samples, n_classes)`` or transposed with ``sample_axis=1``.
        A sample without a visible class counts for nothing.
    validate : bool, default False
        Raise in each call if a label is out of range, which has to wait for the device.

    Raises
    ------
    TypeError, ValueError
        If an array is of the wrong dtype, shape or library, or an option is out of its range; ValueError from the
        derivatives with ``reduction="none"``.

    Notes
    -----
    The gradient with respect to W is ``(S - Y)^T X``, in the other layout ``X (S - Y)^T``; see :doc:`/derivation`.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X, labels = np.asarray([[1.0, 0.0], [0.0, 2.0]]), np.asarray([0, 1])
    >>> loss = sg.LinearCrossEntropy(X, labels, reduction="sum")
    >>> value, grad = loss.value_and_grad(np.zeros((2, 2)))
    >>> print(value.round(6))
    1.386294
    >>> grad
    array([[-0.5,  1. ],
           [ 0.5, -1. ]])
    """

    def __init__(
        self,
        X: Any,
        labels: Any,
        *,
        sample_axis: int = 0,
        l2: float = 0.0,
        sample_weight: Any = None,
        block_size: int | None = None,
        where: Any = None,
        validate: bool = False,
        **options: Unpack[LossKeywords],
    ) -> None:
        only_known(options, LossKeywords.__annotations__, "LinearCrossEntropy")
        self.sample_axis, self.block_size = layout(sample_axis, block_size)
        self.l2 = number(l2, "l2", 0.0)
        self.validate = validate
        self.loss = LossOptions(**options)
        if self.l2 and self.loss.reduction == "none":
            raise ValueError("l2 is added to the reduced loss: it needs reduction 'mean' or 'sum', not 'none'")
        self._lib, self._X, self._like = samples_of(X, self.sample_axis)
        self._where = where
        labels, self._dense = sample_labels(self._lib, self._like, labels, 2, "X")
        self._labels = transposed(self._lib, labels, self.sample_axis) if self._dense else labels
        samples = self._X.shape[0]
        if not same_shape(tuple(self._labels.shape[:1]), (samples,)):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} and X of shape {tuple(X.shape)} differ in the number of "
                f"samples (sample_axis={self.sample_axis})"
            )
        self._sample_weight = (
            None if sample_weight is None else sample_weights(self._lib, self._like, sample_weight, (samples,))
        )

    @property
    def _xp(self) -> Namespace:
        """What the kernels are given with X: not kept, since no module can be pickled."""
        return namespace_of(self._lib, self._X)

    def _parameters(self, W: Any, bias: Any) -> tuple[Array, Array | None, LossArgs]:
        """(W, bias, arguments) in the layout and dtype of the kernels."""
        W, bias, args = self._share(W, bias)
        return W, bias, weights_of_visible(self._lib, self._like, args)

    def _share(self, W: Any, bias: Any) -> tuple[Array, Array | None, LossArgs]:
        """The same for some of the classes; a sample may have visible classes elsewhere."""
        lib, x = self._lib, self._X
        W = self._parameter(W, "W")
        if W.ndim != 2:
            raise ValueError(f"W must have two dimensions, got shape {tuple(W.shape)}")
        features = W.shape[1 - self.sample_axis]
        if not same_shape((features,), (x.shape[1],)):
            raise ValueError(
                f"W of shape {tuple(W.shape)} needs {features} features, X has {x.shape[1]} "
                f"(sample_axis={self.sample_axis})"
            )
        W = transposed(lib, W, self.sample_axis)
        classes = W.shape[0]
        if classes == 0:
            raise ValueError(f"W of shape {tuple(W.shape)} has no classes")
        if bias is not None:
            bias = self._parameter(bias, "bias")
            if not same_shape(tuple(bias.shape), (classes,)):
                raise ValueError(f"bias must have shape ({classes},), got {tuple(bias.shape)}")
        if self._dense and not same_shape(tuple(self._labels.shape), (x.shape[0], classes)):
            raise ValueError(
                f"labels have weights for {self._labels.shape[1]} classes, W has {classes} "
                f"(sample_axis={self.sample_axis})"
            )
        if self.validate and not self._dense:
            check_labels(lib, self._labels, classes, self.loss.ignore_index)
        if self.l2 and lib.xp.finfo(W.dtype).bits < 32:
            # kernels answer in the dtype of W: nothing is rounded to half precision before the penalty is added
            W, bias = (None if a is None else lib.xp.astype(a, lib.xp.float32) for a in (W, bias))
        args = loss_args(
            lib,
            self._like,
            self.loss,
            classes,
            1,
            self._labels,
            self._dense,
            self._sample_weight,
            mask_of_logits(self._lib, self._like, self._where, (self._X.shape[0], classes), self.sample_axis),
        )
        return W, bias, args

    def _parameter(self, a: Any, name: str) -> Array:
        """``a`` checked to be of X's library and device, in X's dtype."""
        a = as_one_chunk(self._lib, a, name)
        check_same_library(self._lib, self._like, a, name, "X")
        a = floating(self._lib, a, name)
        return a if a.dtype == self._like.dtype else self._lib.xp.astype(a, self._like.dtype)

    def _names(self, wrt: Wrt, bias: Any) -> tuple[tuple[str, ...], bool]:
        """(The parameters to differentiate by, whether the answer is a single array)."""
        names, single = names_of(wrt, bias)
        if "X" in names and self._xp is not self._lib.xp:
            raise ValueError(
                "wrt names X, which is sparse: its gradient, (S - Y) W, is as large as X.toarray(), so pass that "
                "(rows at a time) if it is wanted"
            )
        return names, single

    def _block_size(self, classes: int) -> int | None:
        """Rows of a block for work that copies the samples: bounded, since they may be in a file."""
        if self.block_size is not None or not self._lib.scalars:
            return self.block_size
        n, m = self._X.shape
        width = self._X.nnz // max(1, n) if is_sparse(self._X) else m
        return copied_rows(n, classes, 2 * width, self._like.dtype.itemsize)

    def _reducible(self) -> None:
        if self.loss.reduction == "none":
            raise ValueError("reduction='none' gives a loss for each sample: its derivatives need 'mean' or 'sum'")

    def _out(self, name: str, a: Array) -> Array:
        return a if name == "bias" else transposed(self._lib, a, self.sample_axis)

    def _slope(self, name: str, a: Array, W: Array, columns: tuple[int, ...] | None = None) -> Array:
        """A derivative by ``name`` as it is handed back: with the penalty of ``W``, in the dtype and layout of X."""
        dtype = self._like.dtype
        if name == "W" and self.l2:
            return self._out(name, on_gradient(self._lib, a, W, self.l2, columns, dtype))
        return self._out(name, rounded(self._lib, a, dtype))

    def value(self, W: ArrayT, bias: ArrayT | None = None) -> ArrayT:
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
            0-d, or ``(n_samples,)`` with ``reduction="none"``.
        """
        weights, intercept, args = self._parameters(W, bias)
        lib = self._lib
        value = run("linear_cross_entropy", lib, self._xp, self._X, weights, intercept, args, self.block_size)
        return as_scalar(lib, on_value(lib, value, weights, self.l2, self._like.dtype))

    @passes_on_to(value)
    def value_and_grad(
        self, W: ArrayT, bias: ArrayT | None = None, *, wrt: Wrt = None, classes: Any = None
    ) -> tuple[ArrayT, Any]:
        """The loss and its gradient, from one pass over X.

        Parameters
        ----------
        wrt : str or tuple of str, optional
            Some of "W", "bias" and "X"; None is "W", with a bias ("W", "bias").
        classes : sequence of int, optional
            The classes whose part of the gradient with respect to W and bias to compute alone, in this order.

        Returns
        -------
        (array, array or tuple of arrays)
            The loss; one gradient for a single name, else a tuple in the order of ``wrt``, each of its parameter's
            shape (``classes`` alone along the axis of the classes).
        """
        self._reducible()
        names, single = self._names(wrt, bias)
        weights, intercept, args = self._parameters(W, bias)
        lib = self._lib
        columns = columns_of(classes, weights.shape[0])
        value, grads = run(
            "linear_cross_entropy_value_and_grad",
            lib,
            self._xp,
            self._X,
            weights,
            intercept,
            args,
            names,
            columns,
            self.block_size,
        )
        grads = tuple(self._slope(name, g, weights, columns) for name, g in zip(names, grads, strict=True))
        value = on_value(lib, value, weights, self.l2, self._like.dtype)
        return as_scalar(lib, value), grads[0] if single else grads

    @passes_on_to(value_and_grad)
    def grad(self, W: ArrayT, bias: ArrayT | None = None, *, wrt: Wrt = None, classes: Any = None) -> Any:
        """The gradient.

        Returns
        -------
        array or tuple of arrays
            One gradient for a single name, else a tuple in the order of ``wrt``, each of its parameter's shape
            (``classes`` alone along the axis of the classes).
        """
        return self.value_and_grad(W, bias, wrt=wrt, classes=classes)[1]

    @passes_on_to(value)
    def hvp(self, W: ArrayT, vector: Any, bias: ArrayT | None = None, *, wrt: Wrt = None) -> Any:
        """The second derivative times a vector.

        Parameters
        ----------
        vector : array or tuple of arrays
            The direction, as ``wrt`` has it: an array for a single name, else a tuple.
        wrt : str or tuple of str, optional
            Some of "W", "bias" and "X"; None is "W", with a bias ("W", "bias").

        Returns
        -------
        array or tuple of arrays
            As ``vector``.
        """
        self._reducible()
        names, single = self._names(wrt, bias)
        weights, intercept, args = self._parameters(W, bias)
        lib = self._lib
        given = (vector,) if single else vector
        if not isinstance(given, (tuple, list)) or len(given) != len(names):
            raise ValueError(f"vector must be a tuple of {len(names)} arrays, for wrt={names}")
        shapes = {"W": tuple(weights.shape), "bias": (weights.shape[0],), "X": tuple(self._X.shape)}
        vectors = []
        for name, v in zip(names, given, strict=True):
            v = self._parameter(v, f"vector for {name}")
            came, v = tuple(v.shape), self._out(name, v)
            if not same_shape(tuple(v.shape), shapes[name]):
                raise ValueError(f"vector for {name} must have {name}'s shape, got {came}")
            vectors.append(v if name == "X" or v.dtype == weights.dtype else lib.xp.astype(v, weights.dtype))
        products = run(
            "linear_cross_entropy_hvp",
            lib,
            self._xp,
            self._X,
            weights,
            intercept,
            args,
            names,
            tuple(vectors),
            self.block_size,
        )
        out = tuple(self._slope(name, h, v) for name, h, v in zip(names, products, vectors, strict=True))
        return out[0] if single else out

    @passes_on_to(value)
    def hessian(self, W: ArrayT, bias: ArrayT | None = None, *, wrt: Wrt = None) -> Any:
        """The whole second derivative: n_classes**2 times the cost of X^T X, for a small model.

        Parameters
        ----------
        wrt : str or tuple of str, optional
            Some of "W" and "bias"; None is "W", with a bias ("W", "bias").

        Returns
        -------
        array or tuple of tuples of arrays
            For a single name of shape ``W.shape + W.shape``; else one row of blocks for each name, as
            ``jax.hessian`` gives it.
        """
        self._reducible()
        names, single = names_of(wrt, bias, ("W", "bias"))
        weights, intercept, args = self._parameters(W, bias)
        lib, xp, m = self._lib, self._lib.xp, weights.shape[1]
        full = run(
            "linear_cross_entropy_hessian",
            lib,
            self._xp,
            self._X,
            weights,
            intercept,
            args,
            "bias" in names,
            self._block_size(weights.shape[0]),
        )
        dtype = self._like.dtype
        blocks: dict[tuple[str, str], Array] = {("W", "W"): on_hessian(lib, full[:, :m, :, :m], self.l2, dtype)}
        if "bias" in names:
            full = rounded(lib, full, dtype)
            blocks["W", "bias"] = full[:, :m, :, m]
            blocks["bias", "W"] = full[:, m, :, :m]
            blocks["bias", "bias"] = full[:, m, :, m]
        if self.sample_axis == 1:
            turn = {("W", "W"): (1, 0, 3, 2), ("W", "bias"): (1, 0, 2), ("bias", "W"): (0, 2, 1)}
            blocks = {key: xp.permute_dims(a, turn[key]) if key in turn else a for key, a in blocks.items()}
        out = tuple(tuple(blocks[a, b] for b in names) for a in names)
        return out[0][0] if single else out
