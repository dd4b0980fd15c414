"""What is measured: operations by shape, with made data of a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..._array.typing import NDArray

DENSE = ("softmax", "log_softmax", "logsumexp", "loss", "loss+gradient")
QUICK = ("softmax", "logsumexp", "loss+gradient")
CLASSES = (2, 10, 16, 32, 100, 1000, 32000)
TINY = ((3,), (10, 10), (100, 10))
LINEAR = ((60_000, 784, 10), (200_000, 54, 7), (1_000_000, 20, 3), (20_000, 512, 1000), (2048, 768, 32_000))
#: Elements of a dense case.
SIZE = 1 << 21


@dataclass(frozen=True)
class Case:
    """One operation on one shape: (n, k) or smaller for the dense ones, (n, m, k) for the linear model."""

    operation: str
    shape: tuple[int, ...]
    axis: int = -1

    @property
    def group(self) -> str:
        """One of dense, tiny, linear."""
        if self.operation == "linear":
            return "linear"
        return "tiny" if self.shape in TINY else "dense"

    def __str__(self) -> str:
        first = " class axis first" if self.axis == 0 else ""
        return f"{self.operation} {' x '.join(map(str, self.shape))}{first}"


def cases(groups: tuple[str, ...], *, quick: bool = False) -> list[Case]:
    """The cases of the groups asked for; ``quick`` takes a few of each, and smaller ones."""
    out = []
    operations, classes, size = (QUICK, (10, 1000), SIZE >> 2) if quick else (DENSE, CLASSES, SIZE)
    if "dense" in groups:
        out += [Case(op, (size // k, k)) for op in operations for k in classes]
        if not quick:
            out += [Case(op, (k, size // k), axis=0) for op in ("softmax", "loss+gradient") for k in (10, 100)]
    if "tiny" in groups:
        out += [Case(op, shape) for op in ("softmax", "logsumexp") for shape in (TINY[:2] if quick else TINY)]
    if "linear" in groups:
        out += [Case("linear", shape) for shape in (LINEAR[:2] if quick else LINEAR)]
    return out


@dataclass(frozen=True)
class Data:
    """The arrays of a case, on the host; what a case does not use is empty."""

    x: NDArray
    labels: NDArray
    W: NDArray


def data(case: Case, dtype: str) -> Data:
    """Logits of standard deviation 3, or standard normal X with W scaled to logits of about 1."""
    rng = np.random.default_rng(0)
    if case.operation == "linear":
        n, m, k = case.shape
        # no copies: what they take for a moment would hide what a call adds to the peak
        W = rng.standard_normal((k, m), dtype="f4")
        W /= m**0.5
        x = rng.standard_normal((n, m), dtype="f4")
        return Data(x.astype(dtype, copy=False), rng.integers(0, k, n), W.astype(dtype, copy=False))
    x = (3 * rng.standard_normal(case.shape, dtype="f4")).astype(dtype)
    k = case.shape[case.axis]
    return Data(x, rng.integers(0, k, x.size // k), np.empty(0, dtype))
