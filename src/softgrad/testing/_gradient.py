"""Checks of a gradient and of a second derivative against differences of what they derive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._array.libraries.declaration import dtype_name
from .._array.namespace import Library, kind, library
from .._array.typing import AnyArray, NDArray
from .._docstrings import passes_on_to
from ._autodiff import NotDifferentiableError, derivative
from ._host import Arrays, to_host
from ._steps import Estimate, central, complex_step, exact_differences, rounding_of
from ._ulp import FORMATS

METHODS = ("central", "complex", "autodiff")
#: Entries asked one by one; beyond them directions are drawn.
ENTRIES = 64


@dataclass(frozen=True)
class DerivativeCheck:
    """What a check found.

    Attributes
    ----------
    errors : dict of str to float
        The largest deviation for each method that was run, relative to the derivative's largest entry.
    tolerances : dict of str to float
        What rounding and the method's own error explain, relative likewise.
    skipped : dict of str to str
        Methods that could not be run, with the reason.
    """

    errors: dict[str, float]
    tolerances: dict[str, float]
    skipped: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether every method that was run agrees."""
        return all(self.errors[name] <= self.tolerances[name] for name in self.errors)

    def __str__(self) -> str:
        found = [f"{n}: {self.errors[n]:.2g}, allowed {self.tolerances[n]:.2g}" for n in self.errors]
        return "; ".join([*found, *(f"{n} not run: {reason}" for n, reason in self.skipped.items())])


class _Asked:
    """The point of a check, and how the function is asked there."""

    def __init__(self, x: Any, seed: int) -> None:
        self.lib: Library = library(x, "x")
        name = dtype_name(x.dtype)
        if kind(self.lib.xp, x.dtype) != "real" or name not in FORMATS:
            raise TypeError(f"x must be a real floating array, got dtype {x.dtype}")
        self.x, self.dtype = x, name
        # in half precision no step is both long enough for the rounding and short enough for the curvature
        self.work = "float32" if name in ("float16", "bfloat16") else name
        self.point: NDArray = to_host(x).astype(np.float64)
        self.random = np.random.default_rng(seed)

    def array(self, host: NDArray, dtype: str) -> AnyArray:
        return Arrays(self.lib.xp, self.lib.name, getattr(self.x, "device", None)).put(host, dtype)

    def directions(self) -> list[NDArray]:
        shape, size = self.point.shape, self.point.size
        if size <= ENTRIES:
            return list(np.eye(size).reshape(size, *shape))
        chosen = self.random.choice(size, ENTRIES, replace=False)
        axes = [np.reshape(np.arange(size) == i, shape).astype(np.float64) for i in chosen]
        return axes + [self.random.choice([-1.0, 1.0], shape) for _ in range(8)]

    def vector(self) -> NDArray:
        # eighths are exact in every dtype
        return np.round(self.random.standard_normal(self.point.shape) * 8) / 8


def _numbers(value: Any, argument: str, shape: tuple[int, ...]) -> NDArray:
    host = to_host(value)
    if host.shape != shape:
        raise ValueError(f"{argument} gives shape {host.shape}, expected {shape}")
    return host.astype(np.complex128 if host.dtype.kind == "c" else np.float64)


def _run(
    methods: str | tuple[str, ...],
    makers: dict[str, Callable[[], Estimate]],
    claimed: Callable[[str], NDArray],
    slack: float,
    rtol: float,
    what: str,
) -> DerivativeCheck:
    chosen = METHODS if methods == "auto" else (methods,) if isinstance(methods, str) else tuple(methods)
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise ValueError(f"methods must be 'auto' or some of {METHODS}, got {unknown[0]!r}")
    chosen = (*chosen, *(name for name in makers if name not in METHODS))
    estimates: dict[str, Estimate] = {}
    skipped: dict[str, str] = {}
    for name in chosen:
        try:
            estimates[name] = makers[name]()
        except NotDifferentiableError as error:
            if methods != "auto":
                raise
            skipped[name] = str(error)
    reference = estimates.get("central")
    stepped = estimates.get("complex")
    if methods == "auto" and reference is not None and stepped is not None:
        gap = np.abs(stepped.values - reference.values)
        if np.any(gap > reference.tolerance + stepped.tolerance):
            # comparisons and magnitudes go another way on complex numbers
            del estimates["complex"]
            skipped["complex"] = "the function is not analytic as it is written"
    errors, tolerances = {}, {}
    for name, estimate in estimates.items():
        values = claimed(name)
        natural = max([estimate.scale, *np.abs(estimate.values).flat, *np.abs(values[np.isfinite(values)]).flat])
        scale = natural or 1.0
        allowed = estimate.tolerance + (slack + rtol) * scale
        if np.max(allowed, initial=0.0) > 0.2 * scale:
            raise ValueError(
                f"{name} differences tell nothing here: they are right to {np.max(allowed):.2g}, the derivative is "
                f"of size {scale:.2g}; pass x in a wider dtype, or a smoother function"
            )
        gap = np.abs(values - estimate.values)
        worst = int(np.argmax(np.where(np.isnan(gap), np.inf, gap - allowed))) if gap.size else 0
        errors[name] = float(gap.flat[worst] / scale) if gap.size else 0.0
        tolerances[name] = float(np.broadcast_to(allowed, gap.shape).flat[worst] / scale) if gap.size else 0.0
        if np.isnan(errors[name]):
            errors[name] = np.inf
    found = DerivativeCheck(errors, tolerances, skipped)
    if not found.ok:
        raise AssertionError(f"{what} is wrong: {found}")
    return found


def check_gradient(
    fn: Callable[[Any], Any],
    grad: Any,
    x: Any,
    *,
    methods: str | tuple[str, ...] = "auto",
    exact: Callable[[Any], Any] | None = None,
    rtol: float = 0.0,
    seed: int = 0,
) -> DerivativeCheck:
    """Check the gradient of a scalar function against differences of that function.

    Parameters
    ----------
    fn : callable
        Takes an array like ``x`` and returns a scalar: a 0-d array or a number.
    grad : callable or array
        The gradient at ``x``, of its shape, or a function that gives it.
    x : array
        Of any library, in a real floating dtype. For float16 and bfloat16 the differences are taken of ``fn`` in
        float32, at the same point.
    methods : {"auto", "central", "complex", "autodiff"} or tuple of them, default "auto"
        ``"central"`` takes differences at three steps, the longest ``eps ** (1/5)`` of the dtype, extrapolated to 0.
        ``"complex"`` takes ``imag(fn(x + ih)) / h``, where ``fn`` takes complex arrays and is analytic there.
        ``"autodiff"`` asks PyTorch or JAX. ``"auto"`` runs all that can be run.
    exact : callable, optional
        ``fn`` written for mpmath: takes a NumPy array of ``mpf`` and returns one. Its differences in 60 digits are
        then a further method, right to all digits; for few entries.
    rtol : float, default 0.0
        What to allow beside the error of the method and the rounding, relative to the largest entry.
    seed : int, default 0
        Of the directions drawn where ``x`` has more than 64 entries: 64 entries and 8 signed sums of all.

    Returns
    -------
    DerivativeCheck
        Errors and tolerances by method.

    Raises
    ------
    AssertionError
        If a method disagrees.
    ValueError
        If shapes do not fit, or the differences are too coarse to tell right from wrong.
    TypeError
        If ``x`` is not a real floating array, or a method asked for by name cannot be run.

    Notes
    -----
    The error of a difference is the sum of what rounding of ``fn`` leaves, ``24 eps max|fn| / step``, and of what two
    extrapolations differ by; so the tolerance needs no choosing.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> from softgrad.testing import check_gradient
    >>> logits, labels = np.asarray([[1.0, 2.0, 0.5]]), np.asarray([0])
    >>> loss = sg.CrossEntropy(label_smoothing=0.1)
    >>> found = check_gradient(lambda x: loss(x, labels), lambda x: loss.grad(x, labels), logits)
    >>> found.errors["central"] < 1e-10
    True
    """
    asked = _Asked(x, seed)
    shape = asked.point.shape
    gradient = _numbers(grad(x) if callable(grad) else grad, "grad", shape)
    directions = asked.directions()

    def value(host: NDArray, dtype: str) -> NDArray:
        return _numbers(fn(asked.array(host, dtype)), "fn", ())

    def along(values: NDArray) -> NDArray:
        return np.asarray([np.sum(values * direction) for direction in directions])

    def automatic() -> Estimate:
        found = along(to_host(derivative(fn, x)).astype(np.float64))
        return Estimate(found, np.full(found.shape, rounding_of(asked.dtype, 128)) * _size(found), 0.0)

    makers: dict[str, Callable[[], Estimate]] = {
        "central": lambda: central(value, asked.point, directions, asked.work, _round(asked)),
        "complex": lambda: complex_step(value, asked.point, directions, asked.work),
        "autodiff": automatic,
    }
    if exact is not None:
        written = exact
        makers["exact"] = lambda: exact_differences(written, asked.point, directions)
    return _run(methods, makers, lambda method: along(gradient), rounding_of(asked.dtype, 32), rtol, "the gradient")


@passes_on_to(check_gradient)
def check_hvp(
    grad: Callable[[Any], Any],
    hvp: Callable[[Any, Any], Any],
    x: Any,
    vector: Any = None,
    *,
    methods: str | tuple[str, ...] = "auto",
    rtol: float = 0.0,
    seed: int = 0,
) -> DerivativeCheck:
    """Check products of the second derivative with vectors against differences of the gradient along them.

    Parameters
    ----------
    grad : callable
        Takes an array like ``x`` and returns the gradient, of its shape.
    hvp : callable
        Takes ``x`` and a vector of its shape and returns the product, of that shape.
    x : array
        Of any library, in a real floating dtype.
    vector : array, optional
        The vector; None draws one.

    Returns
    -------
    DerivativeCheck
        Errors and tolerances by method; ``"symmetry"`` is how far ``u @ H v`` is from ``v @ H u``.

    Raises
    ------
    AssertionError
        If a method disagrees, or the second derivative is not symmetric.
    ValueError
        If shapes do not fit, or the differences are too coarse to tell right from wrong.
    TypeError
        If ``x`` is not a real floating array, or a method asked for by name cannot be run.

    Examples
    --------
    >>> import numpy as np
    >>> import softgrad as sg
    >>> from softgrad.testing import check_hvp
    >>> logits, labels = np.asarray([[1.0, 2.0, 0.5]]), np.asarray([0])
    >>> loss = sg.CrossEntropy(reduction="sum")
    >>> check_hvp(lambda x: loss.grad(x, labels), lambda x, v: loss.hvp(x, labels, v), logits).ok
    True
    """
    asked = _Asked(x, seed)
    shape = asked.point.shape
    direction = asked.vector() if vector is None else _numbers(vector, "vector", shape)
    other = asked.vector()
    v = asked.array(direction, asked.dtype) if vector is None else vector
    product = _numbers(hvp(x, v), "hvp", shape)
    mirrored = _numbers(hvp(x, asked.array(other, asked.dtype)), "hvp", shape)

    def value(host: NDArray, dtype: str) -> NDArray:
        return _numbers(grad(asked.array(host, dtype)), "grad", shape)

    def automatic() -> Estimate:
        found = to_host(derivative(lambda point: asked.lib.xp.sum(grad(point) * v), x)).astype(np.float64)
        return Estimate(
            found.reshape(1, *shape), np.full((1, *shape), rounding_of(asked.dtype, 128)) * _size(found), 0.0
        )

    def symmetric() -> Estimate:
        terms = np.sum(np.abs(direction * mirrored)) + np.sum(np.abs(other * product))
        return Estimate(
            np.asarray([np.sum(direction * mirrored)]), np.asarray([rounding_of(asked.dtype, 64) * terms]), float(terms)
        )

    makers: dict[str, Callable[[], Estimate]] = {
        "central": lambda: central(value, asked.point, [direction], asked.work, _round(asked)),
        "complex": lambda: complex_step(value, asked.point, [direction], asked.work),
        "autodiff": automatic,
        "symmetry": symmetric,
    }

    def claimed(method: str) -> NDArray:
        return np.asarray([np.sum(other * product)]) if method == "symmetry" else product[None]

    return _run(methods, makers, claimed, rounding_of(asked.dtype, 32), rtol, "the second derivative")


def _size(values: NDArray) -> float:
    return float(np.max(np.abs(values), initial=0.0))


def _round(asked: _Asked) -> Callable[[NDArray], NDArray]:
    """What becomes of a point in the dtype that differences are taken in."""
    return lambda host: to_host(asked.array(host, asked.work)).astype(np.float64)
