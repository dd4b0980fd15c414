"""A fit of separable data without a penalty, which is never done: how far it gets before its gradient is 0."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ._formats import Doubles

STEPS = 2000
Floats: TypeAlias = np.ndarray[Any, Any]
Labels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
#: (loss, gradient) at the coefficients (classes, features), for which there is no bias.
Slope: TypeAlias = Callable[[Floats], tuple[float, Floats]]


class End(NamedTuple):
    """Where a fit stopped."""

    subject: str
    dtype: str
    steps: int
    #: The smallest distance of a label's logit from the next.
    gap: float
    #: The largest component of the gradient there, as the fit computed it.
    gradient: float


def problem() -> tuple[Doubles, Labels]:
    """Three classes in as many corners, whose directions alone tell them apart."""
    rng = np.random.default_rng(0)
    y = (np.arange(300) % 3).astype(np.int64)
    corners = np.asarray([[4.0, 0.0], [-2.0, 3.5], [-2.0, -3.5]])
    return corners[y] + rng.uniform(-1, 1, (300, 2)), y


def end(subject: str, X: Floats, y: Labels, W: Floats, steps: int, gradient: Floats) -> End:
    """Where coefficients stand."""
    logits = X.astype(np.float64) @ W.astype(np.float64).T
    at = np.arange(len(y))
    own = logits[at, y]
    logits[at, y] = -np.inf
    return End(subject, str(X.dtype), steps, float((own - logits.max(1)).min()), float(np.abs(gradient).max()))


def _ours(X: Floats, y: Labels) -> End:
    sg: Any = importlib.import_module("softgrad")
    model = sg.SoftmaxRegression(C=np.inf, tol=0.0, max_iter=STEPS, fit_intercept=False).fit(X, y)
    gradient = sg.linear_cross_entropy_grad(X, y, model.coef_.astype(X.dtype))
    return end("SoftmaxRegression(C=inf, tol=0)", X, y, model.coef_, int(np.max(model.n_iter_)), gradient)


def _sklearn(X: Floats, y: Labels) -> Slope:
    losses: Any = importlib.import_module("sklearn._loss.loss")
    linear: Any = importlib.import_module("sklearn.linear_model._linear_loss")
    loss = linear.LinearModelLoss(base_loss=losses.HalfMultinomialLoss(n_classes=3), fit_intercept=False)
    labels = y.astype(X.dtype)

    def slope(W: Floats) -> tuple[float, Floats]:
        value, gradient = loss.loss_gradient(np.asfortranarray(W), X, labels)
        return float(value), np.reshape(gradient, W.shape, order="F")

    return slope


def _torch(X: Floats, y: Labels) -> Slope:
    import torch
    import torch.nn.functional as F  # noqa: N812

    samples, labels = torch.from_numpy(X), torch.from_numpy(y)

    def slope(W: Floats) -> tuple[float, Floats]:
        weights = torch.from_numpy(W).requires_grad_()
        value = F.cross_entropy(samples @ weights.T, labels)
        return float(value), np.asarray(torch.autograd.grad(value, weights)[0].numpy())

    return slope


def _by_lbfgs(name: str, slope: Slope, X: Floats, y: Labels) -> End:
    """The solver that SoftmaxRegression uses, with nothing to stop it but the gradient."""
    optimize: Any = importlib.import_module("scipy.optimize")

    def both(u: Floats) -> tuple[float, Floats]:
        value, gradient = slope(u.reshape(3, 2).astype(X.dtype))
        return value, gradient.astype(np.float64).ravel()

    options = {"maxiter": STEPS, "maxfun": 50 * STEPS, "maxls": 50, "gtol": 0.0, "ftol": 0.0}
    found = optimize.minimize(both, np.zeros(6), jac=True, method="L-BFGS-B", options=options)
    return end(name, X, y, found.x.reshape(3, 2), int(found.nit), found.jac)


def _logistic(X: Floats, y: Labels) -> End:
    model: Any = importlib.import_module("sklearn.linear_model").LogisticRegression(
        C=np.inf, tol=1e-300, max_iter=STEPS, fit_intercept=False
    )
    model.fit(X, y)
    _, gradient = _sklearn(X, y)(model.coef_.astype(X.dtype))
    return end("LogisticRegression(C=inf, tol=1e-300)", X, y, model.coef_, int(np.max(model.n_iter_)), gradient)


def run(peers: bool = True) -> Iterator[End]:
    """Softgrad's estimator and, where they are installed, what peers get to; nothing without SciPy."""
    if importlib.util.find_spec("scipy") is None or importlib.util.find_spec("sklearn") is None:
        return
    X, y = problem()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dtype in ("float32", "float64"):
            samples = X.astype(dtype)
            yield _ours(samples, y)
            if not peers:
                continue
            yield _logistic(samples, y)
            yield _by_lbfgs("L-BFGS-B on scikit-learn's gradient", _sklearn(samples, y), samples, y)
            if importlib.util.find_spec("torch") is not None:
                yield _by_lbfgs("L-BFGS-B on torch's gradient", _torch(samples, y), samples, y)
