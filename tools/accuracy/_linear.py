"""The linear model where its classes are far apart: the gradient of a fit that is nearly done."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from softgrad import backends, linear_cross_entropy_grad

from ._formats import FORMATS, Doubles
from ._reference import BITS
from ._subjects import Arrays, open_arrays, x64

#: The error of the gradient, relative in norm, given the matrix product.
BOUNDS = {"float32": 1e-4, "float64": 1e-13}
#: The least gap between the label's logit and the next: the peers' gradient has lost most digits; has lost all.
GAPS = {"separated": {"float32": 17.0, "float64": 26.0}, "far apart": {"float32": 30.0, "float64": 60.0}}


class Problem(NamedTuple):
    """Data whose logits are exact in single precision, and the exact gradient by the weights."""

    X: Doubles
    labels: npt.NDArray[np.int64]
    W: Doubles
    exact: Doubles


def problem(dtype: str, fit: str) -> Problem:
    """One strongly separated fit; the gradient is that of the mean loss."""
    mp: Any = importlib.import_module("mpmath")
    rng = np.random.default_rng(11)
    least = GAPS[fit][dtype]
    X = rng.integers(-32, 33, (6000, 16)) / 8.0
    # a few bits each, so that sums of products are exact in whatever order they are taken
    W = np.round(rng.normal(size=(5, 16)) * least / 2) / 4
    logits = X @ W.T
    two = np.sort(logits, axis=1)[:, -2:]
    gap = two[:, 1] - two[:, 0]
    X = X[(gap >= least) & (gap <= FORMATS[dtype].normal_gap)][:300]
    logits = X @ W.T
    labels = logits.argmax(1)
    with mp.workprec(BITS):
        total = np.zeros(W.shape, dtype=object)
        for x, row, y in zip(X, logits, labels, strict=True):
            e = [mp.exp(mp.mpf(float(v)) - float(row[y])) for v in row]
            others = mp.fsum(t for c, t in enumerate(e) if c != y)
            p = np.array([t / (1 + others) for t in e], dtype=object)
            p[y] = -others / (1 + others)
            total = total + p[:, None] * np.array([mp.mpf(float(v)) for v in x], dtype=object)
        exact = np.array([float(t / len(X)) for t in total.ravel()]).reshape(W.shape)
    return Problem(X, labels, W, exact)


@dataclass(frozen=True)
class Fit:
    """The error of one result, relative in norm."""

    subject: str
    dtype: str
    fit: str
    error: float
    bound: float | None

    @property
    def broken(self) -> bool:
        """Whether a bound is broken."""
        return self.bound is not None and not self.error <= self.bound


def ours(arrays: Arrays, p: Problem, dtype: str, generic: bool = False) -> float:
    """The error of softgrad's gradient on one library's arrays."""

    def gradient(X: Any, labels: Any, W: Any) -> Any:
        return linear_cross_entropy_grad(X, labels, W)

    with arrays.context():
        given = arrays.put(p.X, dtype), arrays.put(p.labels, None), arrays.put(p.W, dtype)
        if generic:
            with backends.use("generic"):
                return _error(arrays.get(gradient(*given)), p)
        return _error(arrays.get(gradient(*given)), p)


def _error(got: Doubles, p: Problem) -> float:
    # as numbers near 1: their squares would underflow
    unit = np.abs(p.exact).max()
    return float(np.linalg.norm((got - p.exact) / unit) / np.linalg.norm(p.exact / unit))


def _sklearn(p: Problem, dtype: str) -> Doubles:
    losses: Any = importlib.import_module("sklearn._loss.loss")
    linear: Any = importlib.import_module("sklearn.linear_model._linear_loss")
    loss = linear.LinearModelLoss(base_loss=losses.HalfMultinomialLoss(n_classes=len(p.W)), fit_intercept=False)
    X, W = p.X.astype(dtype), np.asfortranarray(p.W.astype(dtype))
    _, gradient = loss.loss_gradient(W, X, p.labels.astype(dtype))
    return np.asarray(gradient, dtype=np.float64).reshape(p.W.shape, order="F")


def _torch(p: Problem, dtype: str) -> Doubles:
    import torch
    import torch.nn.functional as F  # noqa: N812

    X, W = (torch.from_numpy(np.array(a, dtype=dtype)) for a in (p.X, p.W))
    W.requires_grad_()
    loss = F.cross_entropy(X @ W.T, torch.from_numpy(p.labels))
    return np.asarray(torch.autograd.grad(loss, W)[0].double().numpy())


def _optax(p: Problem, dtype: str) -> Doubles:
    jax: Any = importlib.import_module("jax")
    optax: Any = importlib.import_module("optax")
    with x64(True):
        X, W = (jax.numpy.asarray(a, dtype=dtype) for a in (p.X, p.W))
        cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
        return np.asarray(jax.grad(lambda w: cross_entropy(X @ w.T, p.labels).mean())(W)).astype(np.float64)


PEERS: dict[str, tuple[str, Callable[[Problem, str], Doubles]]] = {
    "scikit-learn": ("sklearn", _sklearn),
    "torch autograd": ("torch", _torch),
    "jax.grad of optax": ("optax", _optax),
}


def measured(
    libraries: Sequence[str],
    peers: Mapping[str, tuple[str, Callable[[Any, str], float]]],
    bounds: Mapping[str, float],
    kinds: Iterable[str],
    make: Callable[[str, str], Any],
    ours: Callable[..., float],
) -> Iterator[Fit]:
    """The errors of every library, and of the peers that are installed, in every format on problems of every kind."""
    for dtype, bound in bounds.items():
        for kind in kinds:
            p = make(dtype, kind)
            for name in libraries:
                arrays = open_arrays(name)
                yield Fit(f"softgrad {name}", dtype, kind, ours(arrays, p, dtype), bound)
                if name in backends.available():
                    yield Fit(f"softgrad {name} generic", dtype, kind, ours(arrays, p, dtype, True), bound)
            for name, (package, error) in peers.items():
                if importlib.util.find_spec(package) is not None:
                    yield Fit(name, dtype, kind, error(p, dtype), None)


def run(libraries: Sequence[str], peers: bool = True) -> Iterator[Fit]:
    """Every library, and the peers that are installed, on every fit."""

    def error_of(gradient: Callable[[Problem, str], Doubles]) -> Callable[[Problem, str], float]:
        return lambda p, dtype: _error(gradient(p, dtype), p)

    others = {name: (package, error_of(gradient)) for name, (package, gradient) in PEERS.items()} if peers else {}
    return measured(libraries, others, BOUNDS, GAPS, problem, ours)
