"""SciPy's minimisers on a loss that lives on a device: the parameters travel to the host, the data never do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._array.typing import Array, NDArray
from .scaling import Scaling

#: Public name of a solver, SciPy's method, and whether it wants Hessian-vector products.
SOLVERS = {"lbfgs": ("L-BFGS-B", False), "newton-cg": ("Newton-CG", True), "trust-ncg": ("trust-ncg", True)}


class BoundLoss(Protocol):
    """What a fit needs: a loss that knows its data, with its derivatives with respect to W and bias."""

    def value_and_grad(self, W: Any, bias: Any = None) -> tuple[Any, Any]:
        """(value, gradient); with a bias the gradient is a tuple."""

    def hvp(self, W: Any, vector: Any, bias: Any = None) -> Any:
        """The second derivative times ``vector``, which is a tuple where there is a bias."""


class Point(NamedTuple):
    """An evaluated point."""

    #: (n_classes, n_features), with a last column for the intercept where there is one.
    theta: NDArray
    value: float
    #: Of theta's shape.
    grad: NDArray

    @property
    def steepness(self) -> float:
        """The largest component of the gradient."""
        return float(np.max(np.abs(self.grad), initial=0.0))


class Objective:
    """A bound loss as a function of one flat float64 vector on the host.

    Parameters
    ----------
    loss : BoundLoss
        The loss, wherever its data are.
    shape : (int, int)
        Of W.
    intercept : bool
        Whether there is a bias: it is the last column of the coefficients here.
    put : callable
        Takes a float64 NumPy array to where the loss wants its parameters.
    take : callable
        Takes such arrays back: several in, a list of NumPy arrays out.
    scaling : Scaling, optional
        The variables that the solver sees; None shows it the coefficients themselves.
    """

    def __init__(
        self,
        loss: BoundLoss,
        shape: tuple[int, int],
        intercept: bool,
        put: Callable[[NDArray], Array],
        take: Callable[..., Sequence[NDArray]],
        scaling: Scaling | None = None,
    ) -> None:
        self.loss, self.features, self.intercept = loss, shape[1], intercept
        self.shape = (shape[0], shape[1] + intercept)
        self.put, self.take, self.scaling = put, take, scaling
        self.evaluations = 0
        self.best: tuple[NDArray, Point] | None = None
        self._last: tuple[NDArray, Point] | None = None
        self._placed: tuple[NDArray, Array, Array | None] | None = None

    def split(self, theta: NDArray) -> tuple[NDArray, NDArray | None]:
        """(W, bias) of coefficients."""
        if not self.intercept:
            return theta, None
        return np.ascontiguousarray(theta[:, : self.features]), theta[:, self.features]

    def coefficients(self, u: NDArray) -> NDArray:
        """The coefficients that the solver's variables stand for."""
        theta = np.asarray(u, dtype=np.float64).reshape(self.shape)
        return theta if self.scaling is None else self.scaling.coefficients(theta)

    def variables(self, theta: NDArray) -> NDArray:
        """The solver's variables of coefficients."""
        return (theta if self.scaling is None else self.scaling.variables(theta)).reshape(-1)

    def _pulled_back(self, grad: NDArray) -> NDArray:
        return (grad if self.scaling is None else self.scaling.pulled_back(grad)).reshape(-1)

    def _place(self, u: NDArray) -> tuple[Array, Array | None]:
        placed = self._placed
        if placed is None or not np.array_equal(placed[0], u):
            W, bias = self.split(self.coefficients(u))
            self._placed = placed = u.copy(), self.put(W), None if bias is None else self.put(bias)
        return placed[1:]

    def _joined(self, parts: Sequence[NDArray]) -> NDArray:
        W = np.asarray(parts[0], dtype=np.float64)
        return np.concatenate([W, parts[1][:, None]], axis=1) if self.intercept else W

    def __call__(self, u: NDArray) -> tuple[float, NDArray]:
        """(value, gradient); where they overflow, a bowl around the best point that sends a search back to it."""
        value, grads = self.loss.value_and_grad(*self._place(u))
        host = self.take(value, *(grads if self.intercept else (grads,)))
        self.evaluations += 1
        point = Point(self.coefficients(u), float(host[0]), self._joined(host[1:]))
        if not (math.isfinite(point.value) and np.all(np.isfinite(point.grad))):
            return self._bowl(u)
        self._last = u.copy(), point
        if self.best is None or point.value < self.best[1].value:
            self.best = self._last
        return point.value, self._pulled_back(point.grad)

    def _bowl(self, u: NDArray) -> tuple[float, NDArray]:
        if self.best is None:
            raise FloatingPointError(
                "the loss or its gradient is not finite at the starting coefficients: scale the features"
            )
        centre, best = self.best
        away = u - centre
        size = float(np.max(np.abs(away)))
        if not math.isfinite(size):
            raise FloatingPointError("the solver made a step that is not finite: scale the features")
        # steep enough that no line search accepts it, mild enough for its cubic interpolation
        height = 1e3 * max(1.0, abs(best.value))
        unit = away / size
        return best.value + height, unit * (2.0 * height / (size * float(unit @ unit)))

    def hvp(self, u: NDArray, vector: NDArray) -> NDArray:
        """The second derivative at ``u`` times ``vector``."""
        W, bias = self._place(u)
        direction, shift = self.split(self.coefficients(vector))
        if bias is None or shift is None:
            products = [self.loss.hvp(W, self.put(direction))]
        else:
            products = self.loss.hvp(W, (self.put(direction), self.put(shift)), bias)
        out = self._joined(self.take(*products))
        if not np.all(np.isfinite(out)):
            raise FloatingPointError("the second derivative overflows: scale the features, or use the solver 'lbfgs'")
        return self._pulled_back(out)

    def at(self, u: NDArray) -> Point:
        """The point of ``u``, evaluated again only where it was not the last one."""
        if self._last is None or not np.array_equal(self._last[0], u):
            self(u)
        if self._last is None or not np.array_equal(self._last[0], u):
            raise FloatingPointError("the solver accepted coefficients at which the loss is not finite")
        return self._last[1]


@dataclass
class Fit:
    """How a minimisation ended.

    Attributes
    ----------
    point : Point
        The best coefficients, their loss and gradient.
    iterations : int
        Steps of the solver.
    curve : list of float
        The loss before the first step and after each.
    converged : bool
        Whether the solver's own test, or the tolerance on the gradient, was met.
    message : str
        Why it stopped.
    interrupt : KeyboardInterrupt or Exception, optional
        What stopped it from outside.
    """

    point: Point
    iterations: int = 0
    curve: list[float] = field(default_factory=list)
    converged: bool = False
    message: str = ""
    interrupt: BaseException | None = None


def minimize(
    objective: Objective,
    start: NDArray,
    *,
    solver: str = "lbfgs",
    tol: float = 1e-4,
    max_iter: int = 100,
    resolution: float = 2.0**-52,
    report: Callable[[int, Point], None] | None = None,
) -> Fit:
    """Minimise until the largest component of the gradient is at most ``tol``.

    Parameters
    ----------
    objective : Objective
        The loss, as a function of a flat vector.
    start : ndarray
        The coefficients to start from, float64, with the intercept as their last column.
    solver : {"lbfgs", "newton-cg", "trust-ncg"}
        SciPy's method.
    tol : float
        For the gradient, as scikit-learn means it.
    max_iter : int
        Steps of the solver at most.
    resolution : float
        Relative spacing of the numbers that the loss is computed in: a smaller gain than that is noise.
    report : callable, optional
        Called with the number of each step (0 before the first) and its ``Point``.

    Returns
    -------
    Fit
        A Ctrl-C, or an error in the loss after its first value, ends the search and is handed back in it.

    Raises
    ------
    FloatingPointError
        If the loss is not finite at the start, or a product with the second derivative is not.
    """
    fit: Fit | None = None
    try:
        u = objective.variables(start)
        fit = Fit(objective.at(u))
        return _search(objective, fit, u, solver, tol, max_iter, resolution, report)
    except (KeyboardInterrupt, Exception) as interrupt:
        # numbers that are none are the search's own; all else, as a chunk that cannot be read, comes from outside
        if fit is None or objective.best is None or isinstance(interrupt, FloatingPointError):
            raise
        fit.point, fit.interrupt = objective.best[1], interrupt
        fit.message = f"interrupted after {fit.iterations} iterations"
        return fit


def _options(solver: str, tol: float, max_iter: int, resolution: float) -> dict[str, Any]:
    if solver == "lbfgs":
        # as scikit-learn in float64; in float32 that would end far too early: only a step that gains nothing does
        ftol, searches = (64 * resolution, 50) if resolution < 2.0**-50 else (resolution / 16, 20)
        # a part of the loss or of 1, whichever is larger: without a tolerance a loss far below 1 is to go on falling
        ftol = ftol if tol else 0.0
        return {"maxiter": max_iter, "maxfun": 50 * max_iter + 50, "maxls": searches, "gtol": 0.0, "ftol": ftol}
    if solver == "newton-cg":
        return {"maxiter": max_iter, "xtol": resolution}
    # the coefficients of features of small scale are large
    return {"maxiter": max_iter, "gtol": 0.0, "max_trust_radius": 1e12}


def _search(
    objective: Objective,
    fit: Fit,
    u: NDArray,
    solver: str,
    tol: float,
    max_iter: int,
    resolution: float,
    report: Callable[[int, Point], None] | None,
) -> Fit:
    from scipy import optimize

    method, second_order = SOLVERS[solver]

    def note(point: Point) -> bool:
        fit.point = point
        fit.curve.append(point.value)
        if report is not None:
            report(fit.iterations, point)
        return point.steepness <= tol

    def step(intermediate_result: Any) -> None:
        fit.iterations += 1
        if note(objective.at(intermediate_result.x)):
            raise StopIteration

    if note(fit.point):
        fit.converged, fit.message = True, "the gradient is within tol at the start"
        return fit
    if max_iter == 0:
        fit.message = "max_iter is 0"
        return fit

    def spent() -> bool:
        """Whether nothing but the smallness of the loss can have ended a search without a tolerance."""
        return not tol and solver == "lbfgs" and fit.curve[-1] < resolution**2

    try:
        result = optimize.minimize(
            objective,
            u,
            method=method,
            jac=True,
            hessp=objective.hvp if second_order else None,
            callback=step,
            options=_options(solver, tol, max_iter, resolution),
        )
    except FloatingPointError:
        if not spent():
            raise
        ended, message = True, ""
    else:
        ended, message = bool(result.success), str(result.message)
    fit.message = message or "the callback stopped it"
    if fit.point.steepness <= tol:
        fit.converged, fit.message = True, "the gradient is within tol"
        return fit
    if objective.best is not None and objective.best[1].value < fit.point.value:
        fit.point = objective.best[1]
    if fit.iterations >= max_iter:
        fit.message = f"max_iter={max_iter} was reached: raise it, or scale the features"
    elif spent():
        fit.converged, fit.message = True, "the loss is so small that the solver's numbers underflow"
    elif (solver == "lbfgs" and ended) or (
        len(fit.curve) > 1 and fit.curve[-2] - fit.curve[-1] <= 64 * resolution * abs(fit.curve[-1])
    ):
        fit.converged, fit.message = True, "a step gains no more than the rounding of the loss"
    return fit
