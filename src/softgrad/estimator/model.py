"""Softmax regression by scikit-learn's conventions."""

from __future__ import annotations

import copy
import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(
        "softgrad.SoftmaxRegression needs SciPy and scikit-learn: install softgrad with its extra 'sklearn'"
    ) from error

from .._array.namespace import without_fp_warnings
from .._array.typing import Device
from ..linear.model import LinearCrossEntropy
from .data import Data, checked, class_weights, misses_none, names_of, on_host, put, spacing, total_weight
from .fitted import moved
from .path import PATH, choose, is_path
from .predictions import Predictions
from .scaling import scaling, second_moments
from .solvers import SOLVERS, Fit, Objective, Point, minimize


class SoftmaxRegression(Predictions, BaseEstimator):  # type: ignore[misc]
    """Linear softmax (multinomial logistic) regression, on the arrays of any library.

    ``coef_`` has one row for each class, also where there are two: the one row that
    :class:`sklearn.linear_model.LogisticRegression` keeps is then ``coef_[1] - coef_[0]``, twice ``coef_[1]``.

    Minimises ``C * sum(w_i * loss_i) + sum(W**2) / 2`` over the coefficients W and a free intercept, as
    :class:`sklearn.linear_model.LogisticRegression` does, with the losses, gradients and Hessian-vector products of
    :class:`LinearCrossEntropy`.

    Parameters
    ----------
    C : float or sequence of float, default 1.0
        Inverse strength of the penalty; ``math.inf`` for none. Of several the one with the best mean score over the
        folds of ``cv`` is taken, as :class:`sklearn.linear_model.LogisticRegressionCV` does, and all samples are fitted
        with it.
    fit_intercept : bool, default True
        Whether to fit an intercept for each class.
    solver : {"lbfgs", "newton-cg", "trust-ncg"}, default "lbfgs"
        SciPy's minimiser. The last two use second derivatives, which pays where the classes are well separated or
        the features badly scaled.
    tol : float, default 1e-4
        The fit ends when no component of the gradient of the mean objective is larger.
    max_iter : int, default 100
        Steps of the solver at most.
    class_weight : dict or "balanced", optional
        Weight of each class by its label; a class not named has 1. "balanced" gives every class the same total.
    warm_start : bool, default False
        Whether ``fit`` starts from the coefficients of the fit before.
    verbose : int, default 0
        1 prints a line a step.
    cv : int, splitter or iterable, optional
        The folds in which a sequence ``C`` is validated, as scikit-learn's functions take it; None is 5 folds that are
        stratified by class.
    scoring : str or callable, optional
        How a sequence ``C`` is validated: a scorer of scikit-learn, such as ``"neg_log_loss"``; None is ``score``, the
        share of samples whose class is predicted.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels in order, in the library of y.
    coef_ : array of shape (n_classes, n_features)
        One row for each class, also where there are two; in X's library, on its device.
    intercept_ : array of shape (n_classes,)
        Zeros without an intercept.
    C_ : float
        The ``C`` of the fit.
    Cs_ : ndarray of shape (n_cs,)
        A sequence ``C``, as given.
    scores_ : ndarray of shape (n_folds, n_cs)
        For a sequence ``C``, the score of each in each fold.
    coefs_paths_ : ndarray of shape (n_folds, n_cs, n_classes, n_features + 1)
        For a sequence ``C``, the coefficients of each in each fold; the last column, which is there with an intercept,
        holds that.
    n_iter_ : int
        Steps of the solver.
    loss_curve_ : list of float, one more than there were steps
        The mean objective before the first step and after each.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X came as a table whose columns are named by strings.

    Raises
    ------
    ValueError, TypeError
        From ``fit``: X or y is of a wrong shape or dtype, holds NaN, has a single class, or a parameter is out of
        its range.
    FloatingPointError
        From ``fit``: the features are so large that the loss at its start, or its second derivative, overflows.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If ``max_iter`` ends the fit, or the solver finds no better step.

    Notes
    -----
    With two classes both rows of ``coef_`` are kept, one the negative of the other; the penalty counts twice then,
    so that ``C`` means what it means to ``LogisticRegression``, whose only row is their difference. A solution is
    the same up to the addition of one number to all intercepts; the sum of the intercepts is 0 here.

    The solvers work in coordinates scaled by the second moments of the features (up to 2048 of them), so that features
    of different units or correlated ones do not slow them; the test on the gradient is made in the coefficients.

    ``float16`` and ``bfloat16`` data are fitted in ``float32``. A Ctrl-C during ``fit`` leaves the best coefficients
    so far in the estimator, with a note on the ``KeyboardInterrupt`` that says so.

    Examples
    --------
    >>> import numpy as np
    >>> from softgrad import SoftmaxRegression
    >>> X = np.asarray([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [2.5, 2.0]])
    >>> y = np.asarray(["left", "left", "right", "right"])
    >>> model = SoftmaxRegression().fit(X, y)
    >>> print(model.predict([[3.0, 3.0]]), model.coef_.shape)
    ['right'] (2, 2)
    """

    def __init__(
        self,
        C: float | Sequence[float] = 1.0,
        *,
        fit_intercept: bool = True,
        solver: str = "lbfgs",
        tol: float = 1e-4,
        max_iter: int = 100,
        class_weight: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        cv: Any = None,
        scoring: Any = None,
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.verbose = verbose
        self.cv = cv
        self.scoring = scoring

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may hand to this estimator."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> SoftmaxRegression:
        """Find the coefficients.

        Parameters
        ----------
        X : array, table or scipy.sparse matrix of shape (n_samples, n_features)
            The samples. An array of another library than NumPy stays on its device.
        y : array of shape (n_samples,)
            The labels: of any type where X is on the host, else integers, booleans or whole floats in X's library.
            With ``sklearn.set_config(array_api_dispatch=True)`` y and the weights may be elsewhere: they follow X, and
            labels that are strings stay on the host.
        sample_weight : array of shape (n_samples,) or number, optional
            Not negative; booleans are 1 and 0.

        Returns
        -------
        SoftmaxRegression
            Itself.
        """
        self._check_parameters()
        fit = self._search(X, y, sample_weight)
        if fit.interrupt is not None:
            fit.interrupt.add_note(
                f"{type(self).__name__}.fit was interrupted after {fit.iterations} iterations: the best coefficients "
                f"so far are kept (loss {fit.point.value:.6g}, largest gradient {fit.point.steepness:.3g})"
            )
            raise fit.interrupt
        if not fit.converged:
            warnings.warn(
                f"{self.solver} failed to converge: it stopped after {fit.iterations} iterations with the largest "
                f"gradient {fit.point.steepness:.3g} above tol={self.tol:g}: {fit.message}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    @without_fp_warnings
    def _search(self, X: Any, y: Any, sample_weight: Any) -> Fit:
        """The search for the coefficients, which it keeps."""
        data = checked(self, X, y, sample_weight)
        count = int(data.classes.shape[0])
        if count < 2:
            raise ValueError(f"y holds only one class, {names_of(data.classes)[0]!r}: a fit needs at least two")
        by_class = class_weights(self.class_weight, data, count)
        start = self._start(data, count)
        for name in PATH:
            self.__dict__.pop(name, None)
        if not is_path(self.C):
            return self._fitted(by_class, data, float(self.C), start)[1]  # type: ignore[arg-type]
        C, start, found = choose(self, data, start, lambda *given: copy.copy(self)._fitted(by_class, *given))
        for name, value in zip(PATH, found, strict=True):
            setattr(self, name, value)
        return self._fitted(by_class, data, C, start)[1]

    def _fitted(
        self, by_class: np.ndarray[Any, Any] | None, data: Data, C: float, start: np.ndarray[Any, Any]
    ) -> tuple[SoftmaxRegression, Fit]:
        """Itself, with the coefficients of one C, and how the fit went."""
        count = len(start)
        total = total_weight(data, by_class, count)
        # both columns of two classes share what the one column of a binary model carries
        l2 = (2.0 if count == 2 else 1.0) / (C * total) if total > 0 else 0.0
        objective = self._objective(data, by_class, l2, count)
        fit = minimize(
            objective,
            start,
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            resolution=spacing(data),
            report=_print_step if self.verbose else None,
        )
        self._keep(objective, data, fit)
        self.C_ = C
        # the likelihood of separated classes has no maximum: tol alone ends such a search, where the loss is nearly 0
        sure = math.isinf(C) and fit.point.value < 0.1
        self._separates = sure and misses_none(data, self.coef_, self.intercept_)
        return self, fit

    def to(self, library: Any, *, device: Device = None) -> SoftmaxRegression:
        """A copy of the fitted model that predicts on the arrays of another library or device.

        Parameters
        ----------
        library : str or array
            The name of the library ("numpy", "torch", "jax", "cupy", "dask"), or an array that the model is to stand
            beside, on its device.
        device : device, optional
            As the library's ``asarray`` takes it, "cuda" for one; None is its default, or that of the array.

        Returns
        -------
        SoftmaxRegression
            With ``coef_``, ``intercept_`` and ``classes_`` there, labels that are strings as a NumPy array. All other
            attributes are shared with this model, which stays as it is.

        Raises
        ------
        ValueError
            If there is no such library, or it cannot be imported.
        sklearn.exceptions.NotFittedError
            Before ``fit``.

        Examples
        --------
        >>> import numpy as np
        >>> from softgrad import SoftmaxRegression
        >>> model = SoftmaxRegression().fit(np.asarray([[0.0], [1.0], [2.0]]), np.asarray([0, 1, 1]))
        >>> type(model.to("numpy").coef_)
        <class 'numpy.ndarray'>
        """
        check_is_fitted(self)
        return moved(self, library, device)

    def _check_parameters(self) -> None:
        given: Any = self.C if is_path(self.C) else (self.C,)
        if len(given) == 0:
            raise ValueError("C must hold at least one number, got none")
        for C in given:
            if isinstance(C, bool) or not isinstance(C, numbers.Real) or not float(C) > 0:
                raise ValueError(f"C must be a number above 0, or a sequence of such, got {self.C!r}")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {sorted(SOLVERS)}, got {self.solver!r}")
        if isinstance(self.tol, bool) or not isinstance(self.tol, numbers.Real) or not 0 <= float(self.tol) < math.inf:
            raise ValueError(f"tol must be a number of at least 0, got {self.tol!r}")
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, numbers.Integral) or self.max_iter < 0:
            raise ValueError(f"max_iter must be an int of at least 0, got {self.max_iter!r}")
        weight = self.class_weight
        if not (weight is None or isinstance(weight, dict) or (isinstance(weight, str) and weight == "balanced")):
            raise ValueError(f"class_weight must be a dict, 'balanced' or None, got {weight!r}")

    def _start(self, data: Data, count: int) -> np.ndarray[Any, Any]:
        """Coefficients to start from, the intercept in their last column."""
        features = int(data.X.shape[1])
        start = np.zeros((count, features + bool(self.fit_intercept)))
        if not (self.warm_start and hasattr(self, "coef_")):
            return start
        if names_of(data.classes) != names_of(self.classes_) or tuple(self.coef_.shape) != (count, features):
            raise ValueError(
                f"warm_start needs the classes and features of the previous fit: {names_of(self.classes_)} and "
                f"{self.coef_.shape[1]}, got {names_of(data.classes)} and {features}"
            )
        coef, intercept = on_host(self.coef_, self.intercept_)
        start[:, :features] = coef
        if self.fit_intercept:
            start[:, features] = intercept
        return start

    def _objective(self, data: Data, by_class: np.ndarray[Any, Any] | None, l2: float, count: int) -> Objective:
        shape = (count, int(data.X.shape[1]))
        lib, X = data.lib, data.X
        loss = LinearCrossEntropy(
            X,
            data.labels,
            l2=l2,
            sample_weight=data.sample_weight,
            class_weight=None if by_class is None else by_class.tolist(),
        )
        intercept = bool(self.fit_intercept)
        moments = second_moments(lib, X, data.sample_weight, intercept)
        return Objective(
            loss,
            shape,
            intercept,
            lambda a: put(lib, X, a),
            on_host,
            scaling(moments, count, l2, intercept, spacing(data)),
        )

    def _keep(self, objective: Objective, data: Data, fit: Fit) -> None:
        W, bias = objective.split(fit.point.theta)
        self.classes_ = data.classes
        self.coef_ = put(data.lib, data.X, W)
        self.intercept_ = put(data.lib, data.X, np.zeros(W.shape[0]) if bias is None else bias - bias.mean())
        self.n_iter_ = fit.iterations
        self.loss_curve_ = fit.curve


def _print_step(iteration: int, point: Point) -> None:
    print(f"iteration {iteration:4d}  loss {point.value:.8g}  largest gradient {point.steepness:.3g}", flush=True)
