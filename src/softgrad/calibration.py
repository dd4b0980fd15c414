"""Temperature scaling: probabilities of a classifier made as sure as its predictions are right.

The logits are divided by one number, the temperature, that minimises the cross-entropy on samples which the classifier
was not fitted on (Guo, Pleiss, Sun and Weinberger 2017). The most probable class stays what it is.
"""

from __future__ import annotations

import copy
import math
import numbers
from typing import Any, NamedTuple

import numpy as np

from ._array.namespace import Library, floating, is_array, library, without_fp_warnings
from ._array.scalars import integer, number
from ._array.transfer import to_host
from ._array.typing import Array
from ._cross_entropy import CrossEntropy
from ._kernels.dense import device_of, held_dtype, narrow

__all__ = ["Temperature", "apply", "calibrate", "temperature"]

#: The logarithm of the temperature is between its negative and this.
LIMIT = 10.0


class Temperature(NamedTuple):
    """A temperature, and what it gains.

    Attributes
    ----------
    temperature : float
        What to divide the logits by: above 1 where they are too sure.
    loss_before, loss_after : float
        The mean cross-entropy of the given logits, and of those divided by the temperature.
    iterations : int
        Evaluations of the loss and its derivatives.

    Examples
    --------
    >>> from softgrad import calibration
    >>> calibration.Temperature(2.0, 0.7, 0.5, 6).temperature
    2.0
    """

    temperature: float
    loss_before: float
    loss_after: float
    iterations: int


def temperature(
    logits: Any,
    labels: Any,
    /,
    *,
    axis: int = -1,
    sample_weight: Any = None,
    where: Any = None,
    max_iter: int = 100,
) -> Temperature:
    """The temperature that minimises the mean cross-entropy of ``logits / temperature``.

    Parameters
    ----------
    logits : array
        Real numbers, classes along ``axis``: of samples that the classifier was not fitted on.
    labels : array
        Class indices (integers of the logits' shape without ``axis``), or a distribution over the classes (real numbers
        of the logits' shape).
    axis : int, default -1
        The axis of the logits that counts the classes.
    sample_weight : array or number, optional
        Broadcasts to the samples' shape; booleans are 1 and 0.
    where : bool array, optional
        True keeps a class; broadcasts to the logits.
    max_iter : int, default 100
        Evaluations at most.

    Returns
    -------
    Temperature
        Numbers of Python. The temperature is between exp(-10) and exp(10). Where every label has the largest logit it
        is one that makes the loss 0 but for rounding; the best one is then 0.

    Raises
    ------
    TypeError
        If the logits are not real numbers, the labels of no dtype that fits, or the arrays of two libraries.
    ValueError
        If shapes do not agree, an option is out of its range, the loss is not finite at temperature 1, or no sample
        counts.

    Notes
    -----
    With u the logarithm of the temperature and z the logits divided by it, the loss L has ``dL/du = -sum(g z)`` and
    ``d2L/du2 = z^T H z + sum(g z)``, g and H being its gradient and its second derivative by z. L is convex in
    ``1 / temperature``, so that the sign of the first tells on which side of u the minimum is: Newton's steps are taken
    as long as they stay there, else the interval is halved.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import calibration
    >>> logits = np.asarray([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, 4.0]])
    >>> found = calibration.temperature(logits, np.asarray([0, 1, 0, 0]))  # three of four are right
    >>> print(round(found.temperature, 6), round(4 / np.log(3), 6))
    3.640957 3.640957
    """
    most = integer(max_iter, "max_iter")
    if most < 1:
        raise ValueError(f"max_iter must be at least 1, got {most}")
    lib = library(logits, "logits")
    x: Array = floating(lib, logits, "logits")
    x = narrow(lib.xp, x, held_dtype(lib.xp, x.dtype))
    loss, options = CrossEntropy(axis=axis), {"sample_weight": sample_weight, "where": where}
    # a first derivative that is no larger than what its terms are rounded by is 0
    noise = 4 * float(lib.xp.finfo(x.dtype).eps)
    low, high, u, count = -LIMIT, LIMIT, 0.0, 1
    before, first, second, size = _at(lib, loss, x, labels, u, options)
    if not math.isfinite(before):
        raise ValueError(f"the cross-entropy of the logits is {before}: a temperature needs a finite one")
    if not to_host(lib, loss.total_weight(x, labels, **options))[0]:
        raise ValueError("no sample counts: all are hidden, or of weight 0")
    best = u, before
    while count < most and abs(first) > noise * size and high - low > LIMIT * noise:
        low, high = (low, u) if first > 0 else (u, high)
        step = u - first / second if second > 0 else math.nan
        u = step if low < step < high else (low + high) / 2
        value, first, second, size = _at(lib, loss, x, labels, u, options)
        best = (u, value) if value <= best[1] else best
        count += 1
    return Temperature(math.exp(best[0]), before, best[1], count)


@without_fp_warnings
def _at(
    lib: Library, loss: CrossEntropy, x: Array, labels: Any, u: float, options: dict[str, Any]
) -> tuple[float, float, float, float]:
    """(loss, its first and second derivative by the logarithm of the temperature, the size of the first's terms)."""
    xp = lib.xp
    z = x * math.exp(-u)
    value, g = loss.value_and_grad(z, labels, **options)
    # where a logit is infinite or hidden its slope is 0
    vector = xp.where(xp.isfinite(z), z, xp.zeros_like(z))
    terms = g * vector
    bent = loss.hvp(z, labels, vector, **options) * vector
    first, second, size = (xp.sum(a, dtype=a.dtype) for a in (terms, bent + terms, xp.abs(terms)))
    found = [float(a) for a in to_host(lib, *(xp.asarray(a) for a in (value, first, second, size)))]
    return found[0], -found[1], found[2], found[3]


def apply(model: Any, temperature: float) -> Any:
    """A copy of a fitted :class:`softgrad.SoftmaxRegression` whose logits are divided by a temperature.

    Parameters
    ----------
    model : SoftmaxRegression
        A fitted one; it stays as it is.
    temperature : float
        Above 0, as :func:`temperature` finds it.

    Returns
    -------
    SoftmaxRegression
        With ``coef_`` and ``intercept_`` divided by the temperature, which is kept as ``temperature_``.

    Raises
    ------
    TypeError, ValueError
        If ``temperature`` is no number above 0, or ``model`` no fitted estimator.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import SoftmaxRegression, calibration
    >>> model = SoftmaxRegression().fit(np.asarray([[0.0], [1.0], [2.0]]), np.asarray([0, 1, 1]))
    >>> calibration.apply(model, 2.0).coef_ * 2 == model.coef_
    array([[ True],
           [ True]])
    """
    if number(temperature, "temperature", 0.0) == 0.0:
        raise ValueError("temperature must be above 0, got 0")
    if not (hasattr(model, "coef_") and hasattr(model, "intercept_")):
        raise TypeError(f"model must be a fitted SoftmaxRegression, got {type(model).__name__}")
    out = copy.copy(model)
    out.coef_, out.intercept_ = model.coef_ / float(temperature), model.intercept_ / float(temperature)
    out.temperature_ = float(temperature) * getattr(model, "temperature_", 1.0)
    return out


def calibrate(model: Any, X: Any, y: Any, *, sample_weight: Any = None) -> Any:
    """A copy of a fitted :class:`softgrad.SoftmaxRegression` with the temperature that suits samples not seen before.

    Parameters
    ----------
    model : SoftmaxRegression
        A fitted one; it stays as it is.
    X : array, table or scipy.sparse matrix of shape (n_samples, n_features)
        Samples that it was not fitted on.
    y : array of shape (n_samples,)
        Their labels.
    sample_weight : array of shape (n_samples,) or number, optional
        Not negative; booleans are 1 and 0.

    Returns
    -------
    SoftmaxRegression
        What :func:`apply` makes of the temperature, kept as ``temperature_``.

    Raises
    ------
    TypeError
        If the samples are not real numbers, or of another library than the model.
    ValueError
        If shapes do not agree, ``y`` holds a label that the model was not fitted on, the loss is not finite at
        temperature 1, or no sample counts.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import SoftmaxRegression, calibration
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 20))
    >>> y = (X[:, 0] + rng.normal(size=60) > 0).astype(int)
    >>> model = SoftmaxRegression(C=100.0).fit(X[:30], y[:30])
    >>> calibrated = calibration.calibrate(model, X[30:], y[30:])
    >>> calibrated.temperature_ > 1, (calibrated.predict(X) == model.predict(X)).all()
    (True, np.True_)
    """
    if not hasattr(model, "_logits"):
        raise TypeError(
            f"model must be a SoftmaxRegression, got {type(model).__name__}: of another classifier pass the logits to "
            f"softgrad.calibration.temperature"
        )
    logits = model._logits(X, "calibrate")
    lib = library(logits, "logits")
    classes = to_host(library(model.classes_, "classes_"), model.classes_)[0]
    labels = to_host(library(y, "y"), y)[0] if is_array(y) else np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"y must have one dimension, a label for each sample of X, got shape {labels.shape}")
    if not (sample_weight is None or is_array(sample_weight) or isinstance(sample_weight, numbers.Real)):
        sample_weight = np.asarray(sample_weight)
    known = {label: i for i, label in enumerate(classes.tolist())}
    unknown = [label for label in labels.tolist() if label not in known]
    if unknown:
        raise ValueError(f"y holds {unknown[0]!r}, which is none of the classes of the fit")
    index = lib.xp.asarray([known[label] for label in labels.tolist()], device=device_of(logits))
    return apply(model, temperature(logits, index, sample_weight=sample_weight).temperature)
