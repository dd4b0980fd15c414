"""Kullback-Leibler divergences of two softmaxes that nearly agree, where a sum of p log(p / q) cancels."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from softgrad import backends, kl_divergence_value_and_grad

from ._linear import Fit, measured
from ._subjects import Arrays, x64

#: The larger of the errors of the divergences and, in norm, of their gradients.
BOUNDS = {"float32": 1e-6, "float64": 1e-14}
#: The size of the difference between the logits, by the size of the divergence that it makes.
APART = {"1e-5": 4.5e-3, "1e-9": 4.5e-5}


class Problem(NamedTuple):
    """Logits of two models, their divergences and the gradient by the first."""

    x: Any
    y: Any
    value: Any
    gradient: Any


def problem(dtype: str, size: str, rows: int = 6) -> Problem:
    """Rows of 300 classes, exact in ``dtype``."""
    rng = np.random.default_rng(2)
    x = (3 * rng.normal(size=(rows, 300))).astype(dtype)
    y = (x + APART[size] * rng.normal(size=x.shape)).astype(dtype)
    reference: Any = importlib.import_module("divergence_reference")
    value, gradient, _ = reference.rows(x, y)
    return Problem(x, y, value, gradient)


def _error(value: Any, gradient: Any, p: Problem) -> float:
    unit = np.abs(p.gradient).max()
    off = np.linalg.norm((gradient - p.gradient) / unit, axis=1) / np.linalg.norm(p.gradient / unit, axis=1)
    return float(max(np.abs(value / p.value - 1).max(), off.max()))


def ours(arrays: Arrays, p: Problem, dtype: str, generic: bool = False) -> float:
    """The error of softgrad on one library's arrays."""
    choice = backends.use("generic") if generic else contextlib.nullcontext()
    with arrays.context(), choice:
        given = arrays.put(p.x, dtype), arrays.put(p.y, dtype)
        value, gradient = map(arrays.get, kl_divergence_value_and_grad(*given, reduction="none"))
        return _error(value, gradient, p)


def _torch(p: Problem) -> tuple[Any, Any]:
    import torch
    import torch.nn.functional as F  # noqa: N812

    x, y = torch.from_numpy(p.x).requires_grad_(), torch.from_numpy(p.y)
    each = F.kl_div(torch.log_softmax(x, 1), torch.log_softmax(y, 1), log_target=True, reduction="none").sum(1)
    (gradient,) = torch.autograd.grad(each.sum(), x)
    return each.detach().double().numpy(), gradient.double().numpy()


def _optax(p: Problem) -> tuple[Any, Any]:
    jax: Any = importlib.import_module("jax")
    optax: Any = importlib.import_module("optax")
    with x64(True):
        logs = jax.nn.log_softmax

        def each(x: Any) -> Any:
            return optax.losses.kl_divergence_with_log_targets(logs(x), logs(jax.numpy.asarray(p.y)))

        x = jax.numpy.asarray(p.x)
        results = each(x), jax.grad(lambda x: each(x).sum())(x)
        value, gradient = (np.asarray(a).astype(np.float64) for a in results)
        return value, gradient


PEERS: dict[str, tuple[str, Callable[[Problem], tuple[Any, Any]]]] = {
    "torch kl_div": ("torch", _torch),
    "optax kl_divergence_with_log_targets": ("optax", _optax),
}


def run(libraries: Sequence[str], peers: bool = True) -> Iterator[Fit]:
    """Every library, and the peers that are installed, on divergences of every size."""

    def error_of(both: Callable[[Problem], tuple[Any, Any]]) -> Callable[[Problem, str], float]:
        return lambda p, dtype: _error(*both(p), p)

    others = {name: (package, error_of(both)) for name, (package, both) in PEERS.items()} if peers else {}
    return measured(libraries, others, BOUNDS, APART, problem, ours)
