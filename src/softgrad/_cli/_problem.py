"""The experiment's host side: the data as matrices, the answer in plain NumPy, and how far rounding may go.

Notation of the derivation: X is (M, N) with a sample a column, Y is (K, N) one-hot, W is (M, K),
S = softmax(WᵀX) by column, E the sum of the samples' losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ._errors import UsageError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

#: Rounding errors of n operations stay under _LAMBDA √n eps with a chance of 1 − 2 exp(−_LAMBDA²/2):
#: Higham and Mary (2019), A new approach to probabilistic rounding error analysis,
#: SIAM J. Sci. Comput. 41(5).
_LAMBDA = 4.0
#: What one exponential or logarithm may be off, in eps.
_FUNCTION = 8.0
#: Steps are powers of two and W is on a grid, so that W ± h D is exact in float32 and in float64.
STEPS = tuple(2.0**-k for k in (2, 5, 8, 11, 14, 17, 20, 23))
_GRID = 2.0**-12
_ENTRIES = 6
#: The probe that is taken with every step.
EVERYWHERE = "random signs"


@dataclass(frozen=True)
class Probe:
    """A direction D in which the loss is differentiated."""

    name: str
    direction: Floats
    #: What the loss's third derivative along D is at most.
    third: float
    #: What the error is given relative to: the gradient's size as this probe sees it.
    scale: float


@dataclass(frozen=True)
class Problem:
    """The data, a W to differentiate at, and the answer.

    Every value of X and W is a float32, so that all dtypes are given the same problem.
    """

    X: Floats
    labels: Ints
    W: Floats
    #: Of the power of two that each attribute was divided by.
    exponents: npt.NDArray[np.intc]
    class_names: tuple[str, ...]
    #: Empty where the data has none.
    attribute_names: tuple[str, ...]
    #: How many samples the data had before some were drawn.
    of_samples: int
    seed: int

    @property
    def attributes(self) -> int:
        """M."""
        return int(self.X.shape[0])

    @property
    def samples(self) -> int:
        """N."""
        return int(self.X.shape[1])

    @property
    def classes(self) -> int:
        """K."""
        return int(self.W.shape[1])

    @cached_property
    def Y(self) -> Floats:  # noqa: N802 -- as the formula
        """The labels, one-hot, ``(K, N)``."""
        return np.asarray(self.labels == np.arange(self.classes)[:, None], dtype=np.float64)

    @cached_property
    def S(self) -> Floats:  # noqa: N802 -- as the formula
        """The softmax of WᵀX, ``(K, N)``."""
        logits = self.W.T @ self.X
        e = np.exp(logits - logits.max(axis=0))
        return np.asarray(e / e.sum(axis=0))

    @cached_property
    def loss(self) -> float:
        """E, in the second of its written forms."""
        logits = self.W.T @ self.X
        top = logits.max(axis=0)
        lse = top + np.log(np.exp(logits - top).sum(axis=0))
        return float(np.sum(self.Y * (lse - logits)))

    @cached_property
    def gradient(self) -> Floats:
        """X (S − Y)ᵀ."""
        return self.X @ (self.S - self.Y).T

    @cached_property
    def slipped_gradient(self) -> Floats:
        """The gradient with the slip: the class's index lost from the second term, Σₙ xₙ for every class."""
        return np.asarray(self.X @ self.S.T - self.X.sum(axis=1)[:, None])

    @cached_property
    def _logit_terms(self) -> Floats:
        """max_k Σ_m |w_mk| |x_mn|, what the rounding of a logit is proportional to, ``(N,)``."""
        return np.asarray((np.abs(self.W).T @ np.abs(self.X)).max(axis=0))

    @cached_property
    def loss_rounding(self) -> float:
        """How many eps two computed values of E may differ by.

        A logit is off by λ √M eps times its terms, and the loss holds two of them; a sample's loss adds the
        errors of a sum of K exponentials and of the logarithm; the sum over the samples adds λ √N eps E.
        """
        logit = 2 * _LAMBDA * np.sqrt(self.attributes) * self._logit_terms.sum()
        sample = (_LAMBDA * np.sqrt(self.classes) + 2 * _FUNCTION) * self.samples
        return float(logit + sample + _LAMBDA * np.sqrt(self.samples) * self.loss)

    @cached_property
    def gradient_rounding(self) -> Floats:
        """How many eps two computed gradients may differ by, entry by entry, ``(M, K)``.

        A probability is off by twice its logit's error, relatively, and by the functions' and the sum's; the
        product with X adds λ √N eps for every term of |X| (S + Y)ᵀ.
        """
        product = _LAMBDA * (np.sqrt(self.samples) + np.sqrt(self.classes)) + _FUNCTION
        logit = 2 * _LAMBDA * np.sqrt(self.attributes) * self._logit_terms
        return np.asarray(np.abs(self.X) @ (product * (self.S + self.Y) + logit * self.S).T)

    def loss_tolerance(self, eps: float) -> float:
        """Bound what two computed losses may differ by, relative to the loss."""
        return eps * self.loss_rounding / max(self.loss, np.finfo(np.float64).tiny)

    def gradient_tolerance(self, eps: float) -> float:
        """Bound what two computed gradients may differ by, relative to the largest entry."""
        return float(eps * self.gradient_rounding.max() / self.largest)

    @cached_property
    def largest(self) -> float:
        """The gradient's largest entry."""
        return float(np.abs(self.gradient).max())

    @cached_property
    def probes(self) -> tuple[Probe, ...]:
        """The directions to differentiate in: one through every entry of W, and single entries.

        The third derivative of log Σ exp along d is the third cumulant of d under the softmax: at most
        (max d − min d)³ / (6 √3), as for a variable of two values.
        """
        rng = np.random.default_rng([self.seed, 1])
        used = np.flatnonzero(np.abs(self.X).max(axis=1) > 0)
        found = [(EVERYWHERE, rng.choice([-1.0, 1.0], size=self.W.shape), float(np.linalg.norm(self.gradient)))]
        for k in rng.permutation(self.classes)[:_ENTRIES]:
            m = rng.choice(used)
            direction = np.zeros(self.W.shape)
            direction[m, k] = 1.0
            found.append((f"entry ({m}, {k})", direction, self.largest))
        probes = []
        for name, direction, scale in found:
            along = direction.T @ self.X
            third = float(np.sum(np.ptp(along, axis=0) ** 3) / (6 * np.sqrt(3)))
            probes.append(Probe(name, direction, third, scale))
        return tuple(probes)

    def difference_tolerance(self, probe: Probe, step: float, eps: float) -> float:
        """Bound the distance of a central difference from the derivative along a probe.

        Truncation is h²/6 of the third derivative; the rounding of two losses is divided by 2 h; the gradient
        has its own. Relative to the probe's scale.
        """
        own = np.sum(self.gradient_rounding * np.abs(probe.direction))
        error = step**2 / 6 * probe.third + eps * self.loss_rounding / step + eps * own
        return float(error / probe.scale)

    def best_step(self, probe: Probe, eps: float) -> float:
        """Pick the step at which a central difference has most digits."""
        return min(STEPS, key=lambda step: self.difference_tolerance(probe, step, eps))

    def differences(self, eps: float) -> list[tuple[Probe, float]]:
        """List the finite differences to take: the first probe with every step, the others with their best."""
        first, *others = self.probes
        return [(first, step) for step in STEPS] + [(probe, self.best_step(probe, eps)) for probe in others]


def exponents(X: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.intc]:
    """Of each column of ``X`` the least power of two that is larger than all of its magnitudes, as an exponent."""
    return np.frexp(np.abs(X).max(axis=0))[1]


def make_problem(
    X: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    class_names: tuple[str, ...],
    attribute_names: tuple[str, ...] = (),
    *,
    seed: int,
    samples: int,
) -> Problem:
    """Set the experiment up on samples ``X`` (N, M) of the classes ``labels`` (N,), from 0 to K - 1.

    Each attribute is divided by a power of two, which is exact, so that it is within -1 and 1, and rounded to
    float32. At most ``samples`` samples are drawn, all where it is 0.
    """
    total = len(labels)
    rng = np.random.default_rng(seed)
    if 0 < samples < total:
        chosen = np.sort(rng.choice(total, size=samples, replace=False))
        X, labels = X[chosen], labels[chosen]
    X = np.asarray(X, dtype=np.float64)
    if not X.any():
        drawn = f"the {len(X)} samples drawn" if len(X) < total else "every sample"
        raise UsageError(f"every attribute is zero in {drawn}: the gradient is zero whatever the labels are")
    powers = exponents(X)
    matrix = np.ascontiguousarray(np.ldexp(X, -powers).T).astype(np.float32).astype(np.float64)
    reach = min(0.75, 3 / np.sqrt(X.shape[1]))
    W = np.rint(rng.uniform(-reach, reach, size=(X.shape[1], len(class_names))) / _GRID) * _GRID
    codes = labels.astype(np.int64)
    for array in (matrix, codes, W):
        array.flags.writeable = False
    return Problem(matrix, codes, W, powers, class_names, attribute_names, total, seed)
