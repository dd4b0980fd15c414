"""The penalty of a softmax regression, chosen among several by validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv

from .._array.typing import NDArray
from .._kernels.dense import device_of
from .data import Data, on_host
from .solvers import Fit

#: The attributes of an estimator that tell of a validation: the values of C, their scores, their coefficients.
PATH = ("Cs_", "scores_", "coefs_paths_")


class Chosen(NamedTuple):
    """What validation found."""

    C: float
    #: Coefficients to start the fit on all samples from: the mean of those of the folds.
    start: NDArray
    #: As ``PATH`` names it.
    told: tuple[NDArray, NDArray, NDArray]


def is_path(C: Any) -> bool:
    """Whether ``C`` is several numbers."""
    return isinstance(C, (list, tuple)) or (isinstance(C, np.ndarray) and C.ndim == 1)


def _rows(data: Data, a: Any, index: NDArray) -> Any:
    """Some samples of an array that has them along its first axis."""
    if a is None or data.lib is None or isinstance(a, np.ndarray):
        return None if a is None else a[index]
    return data.lib.xp.take(a, data.lib.xp.asarray(index, device=device_of(a)), axis=0)


def _some(data: Data, index: NDArray) -> Data:
    X, labels, weight = (_rows(data, a, index) for a in (data.X, data.labels, data.sample_weight))
    return data._replace(X=X, labels=labels, sample_weight=weight)


def choose(model: Any, data: Data, start: NDArray, fit: Callable[[Data, float, NDArray], tuple[Any, Fit]]) -> Chosen:
    """The C of the best mean score over the folds.

    ``fit(data, C, start)`` gives a fitted copy of the model and how its fit went. In each fold the fit of one C starts
    from that of the next smaller one.
    """
    labels = on_host(data.labels)[0]
    splitter = check_cv(model.cv, labels, classifier=True)
    scorer = None if model.scoring is None else get_scorer(model.scoring)
    given = np.asarray(model.C, dtype=np.float64)
    folds = list(splitter.split(np.zeros((len(labels), 1)), labels))
    scores = np.empty((len(folds), len(given)))
    paths = np.empty((len(folds), len(given), *start.shape))
    slow = 0
    for i, (train, test) in enumerate(folds):
        kept, left = _some(data, train), _some(data, test)
        named = _rows(left, left.classes, on_host(left.labels)[0])
        theta = start
        for j in np.argsort(given, kind="stable"):
            fitted, found = fit(kept, float(given[j]), theta)
            if found.interrupt is not None:
                raise found.interrupt
            theta = paths[i, j] = found.point.theta
            slow += not found.converged
            weights = {} if left.sample_weight is None else {"sample_weight": left.sample_weight}
            score = fitted.score if scorer is None else lambda *given, f=fitted, **more: scorer(f, *given, **more)
            scores[i, j] = score(left.X, named, **weights)
    if slow:
        warnings.warn(
            f"{slow} of the {scores.size} fits of the validation did not converge within max_iter={model.max_iter}",
            ConvergenceWarning,
            stacklevel=4,
        )
    best = int(np.argmax(scores.mean(axis=0)))
    return Chosen(float(given[best]), paths[:, best].mean(axis=0), (given, scores, paths))
