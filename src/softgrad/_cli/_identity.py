"""The experiment on one back end in one dtype: ∇E = X (S − Y)ᵀ against everything that can tell."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import identity, linear_cross_entropy, linear_cross_entropy_value_and_grad
from .._array.typing import Array
from ..testing._libraries import OpenLibrary
from ._problem import EVERYWHERE, Floats, Problem

DTYPES = ("float64", "float32")
#: Single columns are computed for so many classes at most, spread over all of them.
_COLUMNS = 10


@dataclass(frozen=True)
class Check:
    """Two ways to the same result, and how far apart they came.

    ``group`` is what the table sums it up under.
    """

    group: str
    name: str
    error: float
    tolerance: float
    #: Of a finite difference.
    step: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference; a NaN is never explained."""
        return self.error <= self.tolerance

    @property
    def strain(self) -> float:
        """The error over the tolerance."""
        return math.inf if math.isnan(self.error) else self.error / self.tolerance


@dataclass
class Result:
    """What one back end gave in one dtype."""

    back_end: str
    version: str
    device: str
    dtype: str
    checks: list[Check] = field(default_factory=list)
    #: How far the slipped formula is from the finite differences.
    slip: float = np.nan
    loss: float = np.nan
    gradient: Floats | None = None
    seconds: float = 0.0
    #: The exception that ended the experiment, in words.
    failure: str | None = None

    @property
    def curve(self) -> list[Check]:
        """The finite differences in one direction, by step."""
        return [check for check in self.checks if check.group == "differences" and check.name == EVERYWHERE]

    def worst(self, group: str) -> Check | None:
        """Pick the check of a group that went furthest beyond its tolerance, or came nearest to it.

        Among steps whose finite differences agree, one with few digits is not picked.
        """
        found = [check for check in self.checks if check.group == group]
        if group == "differences" and found and all(check.agrees for check in found):
            best = min(self.curve, key=lambda check: check.tolerance)
            found = [check for check in found if check is best or check.name != EVERYWHERE]
        return max(found, key=lambda check: check.strain, default=None)

    @property
    def agrees(self) -> bool:
        """Whether everything agreed."""
        return self.failure is None and all(check.agrees for check in self.checks)


def run_all(libraries: list[OpenLibrary], problem: Problem) -> list[Result]:
    """Run the experiment on every library in every dtype; an exception becomes that result's ``failure``."""
    runs = [(lib, Result(lib.name, lib.version, lib.device, dtype)) for lib in libraries for dtype in DTYPES]
    autograds: dict[tuple[str, str], Floats] = {}
    for lib, result in runs:
        if lib.autograd is not None:
            with _recorded(result), lib.session():
                autograds[lib.autograd, result.dtype] = _autograd(lib, result.dtype, problem)
    for lib, result in runs:
        if result.failure is None:
            with _recorded(result), lib.session():
                _fill(result, lib, problem, autograds)
    return [result for _, result in runs]


@contextlib.contextmanager
def _recorded(result: Result) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    except Exception as error:  # noqa: BLE001 -- whatever a back end raises belongs in the table
        result.failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    result.seconds += time.perf_counter() - start


def _autograd(lib: OpenLibrary, dtype: str, problem: Problem) -> Floats:
    X, labels, W = lib.put(problem.X, dtype), lib.put(problem.labels, "int64"), lib.put(problem.W, dtype)
    return lib.get([lib.gradient(X, labels, W)])[0].astype(np.float64)


def _fill(result: Result, lib: OpenLibrary, problem: Problem, autograds: Mapping[tuple[str, str], Floats]) -> None:
    options: dict[str, Any] = {"sample_axis": 1, "reduction": "sum"}
    spread = np.linspace(0, problem.classes - 1, min(problem.classes, _COLUMNS))
    numbers = np.unique(spread.astype(int)).tolist()

    def everything(X: Array, labels: Array, W: Array, Y: Array) -> list[Array]:
        return [
            *linear_cross_entropy_value_and_grad(X, labels, W, **options),
            identity.loss_from_probabilities(X, Y, W),
            identity.loss_from_normalizer(X, Y, W),
            identity.gradient_product(X, Y, W),
            *(linear_cross_entropy_value_and_grad(X, labels, W, classes=[i], **options)[1] for i in numbers),
            *(identity.gradient_column(X, Y, W, i) for i in numbers),
        ]

    X, labels, W, Y = (
        lib.put(host, dtype)
        for host, dtype in (
            (problem.X, result.dtype),
            (problem.labels, "int64"),
            (problem.W, result.dtype),
            (problem.Y, result.dtype),
        )
    )
    eps = float(np.finfo(result.dtype).eps)
    loss_of = lib.compile(lambda X, labels, W: linear_cross_entropy(X, labels, W, **options))
    arrays = lib.compile(everything)(X, labels, W, Y)
    arrays += [
        loss_of(X, labels, lib.put(problem.W + h * probe.direction, result.dtype))
        for probe, step in problem.differences(eps)
        for h in (step, -step)
    ]
    # a lazy library computes everything in one go
    host = [np.asarray(array, dtype=np.float64) for array in lib.get(arrays)]
    value, gradient, first, second, product = host[:5]
    columns, summed = host[5 : 5 + len(numbers)], host[5 + len(numbers) : 5 + 2 * len(numbers)]
    losses = np.asarray(host[5 + 2 * len(numbers) :]).reshape(-1, 2)
    result.loss, result.gradient = float(value), gradient

    loss_tolerance, tolerance = problem.loss_tolerance(eps), problem.gradient_tolerance(eps)

    def loss_check(name: str, ours: Floats | float, theirs: Floats | float) -> None:
        error = abs(float(ours) - float(theirs)) / max(problem.loss, np.finfo(np.float64).tiny)
        result.checks.append(Check("loss", name, error, loss_tolerance))

    def gradient_check(group: str, name: str, ours: Floats, theirs: Floats) -> None:
        result.checks.append(Check(group, name, _distance(ours, theirs) / problem.largest, tolerance))

    loss_check("first form against second", first, second)
    loss_check("library against second form", value, second)
    loss_check("library against NumPy float64", value, problem.loss)
    whole = gradient[:, numbers]
    gradient_check("columns", "whole against classes=[i]", np.concatenate(columns, axis=1), whole)
    gradient_check("columns", "whole against sums over samples", np.stack(summed, axis=1), whole)
    gradient_check("product", "against X (S - Y)^T", gradient, product)
    gradient_check("product", "against X (S - Y)^T in NumPy float64", gradient, problem.gradient)
    for (name, dtype), theirs in autograds.items():
        if dtype == result.dtype:
            gradient_check(name, f"against {name}", gradient, theirs)
    _differences(result, problem, losses, eps)


def _distance(ours: Floats, theirs: Floats) -> float:
    if ours.shape != theirs.shape:
        raise ValueError(f"a gradient of shape {ours.shape} is compared with one of {theirs.shape}")
    return float(np.max(np.abs(ours - theirs)))


def _differences(result: Result, problem: Problem, losses: Floats, eps: float) -> None:
    """Compare (E(W + h D) - E(W - h D)) / 2 h with ⟨gradient, D⟩, and with what the slipped formula gives."""
    assert result.gradient is not None
    slips = []
    for (probe, step), (forward, backward) in zip(problem.differences(eps), losses, strict=True):
        measured = (forward - backward) / (2 * step)
        error = abs(float(measured - np.sum(probe.direction * result.gradient))) / probe.scale
        tolerance = problem.difference_tolerance(probe, step, eps)
        result.checks.append(Check("differences", probe.name, error, tolerance, step))
        if step == problem.best_step(probe, eps):
            slipped = np.sum(probe.direction * problem.slipped_gradient)
            slips.append(abs(float(measured - slipped)) / probe.scale)
    result.slip = max(slips)
