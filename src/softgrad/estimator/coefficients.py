"""How sure the coefficients of a fitted model are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._array.namespace import library, without_fp_warnings
from .._array.scalars import integer
from .._array.transfer import to_host
from .._array.typing import AnyArray, Array
from .._kernels.dense import device_of
from .._kernels.targets import index_dtype
from ..backends._registry import run
from ..linear.arguments import samples_of
from ..linear.model import LinearCrossEntropy
from .fitted import is_model, parameters_of
from .statistics import as_array_of, inverse_of


class _Arrays(NamedTuple):
    coefficients: AnyArray
    standard_errors: AnyArray
    z: AnyArray
    p_values: AnyArray
    covariance: AnyArray


class CoefficientStatistics(_Arrays):
    """How sure the coefficients of a fitted model are; see :func:`coefficient_statistics`.

    A tuple of the five arrays. Printed, it is a table with a line for each coefficient.

    Attributes
    ----------
    coefficients : array of shape (n_classes - 1, n_features), with a last column for the bias where there is one
        Each class's less the reference's, the reference left out.
    standard_errors : array
        Of the same shape.
    z : array
        Their ratio.
    p_values : array
        The probability of a ratio as far from 0, if the true coefficient were 0.
    covariance : array of shape (size, size)
        Of the coefficients, row after row.
    reference : object
        The label of the class that the others are compared with; its index where no model named the classes.
    classes : tuple of length n_classes - 1
        The labels of the rows.
    features : tuple of str
        The names of the columns: those of the table that the model was fitted on, else ``x0``, ``x1``, ...; the bias
        is ``intercept``.
    """

    reference: Any
    classes: tuple[Any, ...]
    features: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record for each coefficient, as ``pandas.DataFrame`` takes them.

        Returns
        -------
        list of dict
            With the keys class, feature, coefficient, standard_error, z and p_value.
        """
        lib = library(self.coefficients, "coefficients")
        numbers = [a.tolist() for a in to_host(lib, *self[:4])]
        names = ("coefficient", "standard_error", "z", "p_value")
        return [
            {"class": label, "feature": feature, **{name: a[k][j] for name, a in zip(names, numbers, strict=True)}}
            for k, label in enumerate(self.classes)
            for j, feature in enumerate(self.features)
        ]

    def __str__(self) -> str:
        lines = [("class", "feature", "coefficient", "std. error", "z", "p")]
        for row in self.rows():
            label, feature, *numbers = row.values()
            lines.append((str(label), feature, *(f"{v:{form}}" for v, form in zip(numbers, FORMATS, strict=True))))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = (
            "  ".join([*map(str.ljust, line[:2], widths), *map(str.rjust, line[2:], widths[2:])]) for line in lines
        )
        return "\n".join([f"each class against {self.reference}", *table])


FORMATS = (".4g", ".4g", ".2f", ".3g")


def _data_of(model: Any, X: Any, bias: Any, sample_axis: int) -> tuple[Array, Array, Array | None]:
    """(X, W, bias) of a fitted model: X checked as its own methods check it."""
    for parameter, plain in (("C", math.inf), ("class_weight", None)):
        if getattr(model, parameter) != plain:
            raise ValueError(
                f"the model has {parameter}={getattr(model, parameter)!r}: standard errors are those of a fit by "
                f"maximum likelihood, SoftmaxRegression(C=math.inf) without class_weight"
            )
    if getattr(model, "_separates", False):
        raise ValueError(
            "the model predicts every sample of its fit right: its coefficients would grow without end, and have no "
            "standard errors; fit more samples, or leave out the feature that tells the classes apart"
        )
    if sample_axis != 0:
        raise ValueError(f"sample_axis must be 0 with a fitted model, got {sample_axis!r}")
    return (model._samples(X, "coefficient_statistics"), *parameters_of(model, bias, 0))


def _names(model: Any, classes: int, features: int, bias: bool) -> tuple[Sequence[Any], tuple[str, ...]]:
    """(labels, names of the columns); ``model`` is None where arrays were given."""
    labels: Sequence[Any] = range(classes)
    columns: Sequence[Any] = [f"x{j}" for j in range(features)]
    if model is not None:
        labels = to_host(library(model.classes_, "classes_"), model.classes_)[0].tolist()
        columns = getattr(model, "feature_names_in_", columns)
    return labels, (*map(str, columns), *(("intercept",) if bias else ()))


@without_fp_warnings
def coefficient_statistics(
    X: Any,
    W: Any,
    bias: Any = None,
    *,
    reference: int = 0,
    sample_weight: Any = None,
    sample_axis: int = 0,
) -> CoefficientStatistics:
    """Standard errors of the coefficients of a model fitted by maximum likelihood, without a penalty.

    Parameters
    ----------
    X : array
        The samples of the fit: ``(n_samples, n_features)``, transposed with ``sample_axis=1``. With a model also a
        table.
    W : SoftmaxRegression or array
        The fitted model, which brings intercepts and names along, or the coefficients alone: ``(n_classes,
        n_features)``, transposed with ``sample_axis=1``. Arrays do not tell whether a penalty shrank them.
    bias : array, optional
        Fitted intercepts ``(n_classes,)``, beside coefficients that were fitted with them.
    reference : int, default 0
        The class that the others are compared with: its index, in ``classes_`` of a model.
    sample_weight : array or number, optional
        How often each sample was seen, as it was given to the fit.
    sample_axis : {0, 1}, default 0
        Layout of X and W.

    Returns
    -------
    CoefficientStatistics
        Arrays of X's library, device and dtype.

    Raises
    ------
    TypeError, ValueError
        If an array is of the wrong dtype, shape or library, the information is singular, or the model was fitted with
        a penalty (``C`` is not ``math.inf``) or class weights, or predicts every sample of its fit right.
    IndexError
        If there is no class ``reference``.

    Notes
    -----
    The covariance is the inverse of the information, the sum of ``(diag(p) - p p^T)`` (without the reference)
    times ``x x^T``: what ``MNLogit`` of statsmodels gives. The probabilities p come from :func:`softmax`, which does
    not overflow, and ``p (1 - p)`` from sums in which nothing cancels.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> import softgrad as sg
    >>> X = np.asarray([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> y = np.asarray(["no", "no", "yes", "no", "yes", "yes"])
    >>> model = sg.SoftmaxRegression(C=math.inf, tol=1e-8).fit(X, y)
    >>> print(sg.statistics.coefficient_statistics(X, model))
    each class against no
    class  feature    coefficient  std. error      z      p
    yes    x0               1.214      0.9126   1.33  0.183
    yes    intercept       -3.035       2.546  -1.19  0.233
    """
    model = W if is_model(W) else None
    if model is not None:
        X, W, bias = _data_of(model, X, bias, sample_axis)
    lib, rows, like = samples_of(X, sample_axis)
    # the curvature is that of any labels
    labels = lib.xp.zeros((rows.shape[0],), dtype=index_dtype(lib.xp, like), device=device_of(like))
    loss = LinearCrossEntropy(X, labels, sample_axis=sample_axis, reduction="sum", sample_weight=sample_weight)
    weights, intercept, args = loss._parameters(W, bias)
    classes = int(weights.shape[0])
    if classes < 2:
        raise ValueError(f"W of shape {tuple(W.shape)} has a single class: there is nothing to compare it with")
    reference = integer(reference, "reference", "the index of a class")
    if not -classes <= reference < classes:
        raise IndexError(f"reference is {reference}: there are {classes} classes")
    given = (loss._X, weights, intercept, args, intercept is not None, loss._block_size(classes))
    (full,) = to_host(lib, run("linear_cross_entropy_hessian", lib, loss._xp, *given))
    host = [np.asarray(a, dtype=np.float64) for a in to_host(lib, *(a for a in (weights, intercept) if a is not None))]
    theta = host[0] if intercept is None else np.concatenate([host[0], host[1][:, None]], axis=1)
    others = [k for k in range(classes) if k != reference % classes]
    size = len(others) * theta.shape[1]
    information = np.asarray(full, dtype=np.float64)[others][:, :, others].reshape(size, size)
    spacing = float(lib.xp.finfo(loss._like.dtype).eps)
    covariance = inverse_of((information + information.T) / 2, "the information matrix", spacing)
    estimate = theta[others] - theta[reference % classes]
    errors = np.sqrt(np.diag(covariance)).reshape(estimate.shape)
    z = estimate / errors
    p = np.asarray([math.erfc(abs(v) / math.sqrt(2)) for v in z.reshape(-1)]).reshape(z.shape)
    out = CoefficientStatistics(*(as_array_of(lib, loss._like, a) for a in (estimate, errors, z, p, covariance)))
    names, out.features = _names(model, classes, int(weights.shape[1]), intercept is not None)
    out.reference, out.classes = names[reference], tuple(names[k] for k in others)
    return out
