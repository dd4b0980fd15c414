"""References by mpmath: exact inputs, closed forms in which nothing cancels, several hundred bits, kept on disk."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._families import Case
from ._formats import Exact

BITS = 400
#: Files that other code made are not read.
CODE = Path(__file__).read_bytes()
FUNCTIONS = ("softmax", "log_softmax", "logsumexp", "loss", "gradient", "log_probs", "entropy")


class Reference(NamedTuple):
    """What is exact for one function, and the magnitudes that its conditioning is measured by (or None)."""

    exact: Exact
    scale: Exact | None = None
    #: The same where the gaps to the maximum are rounded.
    rounded: Exact | None = None


def _mpmath() -> Any:
    return importlib.import_module("mpmath")


def pack(values: Any, shape: tuple[int, ...]) -> Exact:
    """Numbers of mpmath as ``Exact``."""
    mpmath = _mpmath()
    high, low, exponent = [], [], []
    for value in values:
        if not mpmath.isfinite(value) or value == 0:
            high.append(float(value))
            low.append(0.0)
            exponent.append(0)
            continue
        man, exp = mpmath.frexp(value)
        top = float(man)
        high.append(top)
        low.append(float(man - top))
        exponent.append(max(-(1 << 20), min(1 << 20, int(exp))))
    return Exact(
        np.reshape(np.asarray(high, dtype=np.float64), shape),
        np.reshape(np.asarray(low, dtype=np.float64), shape),
        np.reshape(np.asarray(exponent, dtype=np.int64), shape),
    )


class _Row:
    """One row: its distinct values, how often each stands there, and what is exact for each."""

    def __init__(self, x: Any, shown: Any, b: Any, label: int) -> None:
        mp = self.mp = _mpmath()
        keep = np.ones(x.shape, bool) if shown is None else shown
        self.values, self.inverse, count = np.unique(x[keep], return_inverse=True, return_counts=True)
        self.keep, self.label = keep, label
        v = [mp.mpf(float(a)) for a in self.values]
        top = v[-1]
        e = [mp.exp(a - top) for a in v]
        n = [int(c) for c in count]
        below = mp.fsum(c * t for c, t in zip(n[:-1], e[:-1], strict=True))
        total = below + n[-1]
        self.softmax = [t / total for t in e]
        log = mp.log1p(below + (n[-1] - 1))
        self.log_softmax = [(a - top) - log for a in v]
        self.logsumexp, self.scale = top + log, abs(top) + log
        # a gap is off by half a unit of its own, and its exponential by that times itself
        gaps = mp.fsum(c * t * (top - a) for c, t, a in zip(n, e, v, strict=True)) / total
        self.rounded = self.scale + gaps
        # no term is negative
        self.entropy = log + gaps
        at = int(self.inverse[np.count_nonzero(keep[:label])])
        # the sum without the label's own term: nothing is taken from anything of its size
        others = mp.fsum((c - (i == at)) * t for i, (c, t) in enumerate(zip(n, e, strict=True)) if c - (i == at))
        self.loss = mp.log1p(others / e[at])
        self.true = -others / total
        if b is not None:
            factors = [mp.mpf(float(a)) for a in b]
            terms = [f * e[i] for f, i in zip(factors, self.inverse, strict=True)]
            s, size = mp.fsum(terms), mp.fsum(abs(t) for t in terms)
            self.logsumexp = top + mp.log(abs(s))
            # what an error in every term does to the logarithm; a term is a quotient, an exponential and a product
            self.scale = self.rounded = abs(top) + abs(mp.log(abs(s))) + 3 * size / abs(s)

    def spread(self, values: list[Any], hidden: float) -> Exact:
        """Values by distinct logit, as a row."""
        packed = pack(values, (len(values),)).take(self.inverse)
        out = [np.full(self.keep.shape, hidden), np.zeros(self.keep.shape), np.zeros(self.keep.shape, np.int64)]
        for whole, part in zip(out, packed, strict=True):
            whole[self.keep] = part
        return Exact(*out)

    def gradient(self) -> Exact:
        """The softmax, and at the label less than it by the others' share."""
        whole = self.spread(self.softmax, 0.0)
        for part, value in zip(whole, pack([self.true], (1,)), strict=True):
            part[self.label] = value[0]
        return whole


def compute(case: Case) -> dict[str, Reference]:
    """What is exact for every function of a case."""
    with _mpmath().workprec(BITS):
        return _compute(case)


def _compute(case: Case) -> dict[str, Reference]:
    flat = case.x.ndim == 1
    x = case.x[None, :] if flat else np.moveaxis(case.x, case.axis, -1)
    labels = np.reshape(case.labels, (-1,))
    rows = [
        _Row(
            row,
            None if case.where is None else case.where[i],
            None if case.b is None else case.b[i],
            int(labels[i]),
        )
        for i, row in enumerate(x)
    ]
    samples = () if flat else (len(rows),)

    def whole(parts: list[Exact]) -> Exact:
        stacked = (np.stack(p) for p in zip(*parts, strict=True))
        return Exact(*(p[0] if flat else np.moveaxis(p, -1, case.axis) for p in stacked))

    out = {
        "logsumexp": Reference(
            *(pack([getattr(row, name) for row in rows], samples) for name in ("logsumexp", "scale", "rounded"))
        ),
    }
    if case.b is None:
        out["softmax"] = Reference(whole([row.spread(row.softmax, 0.0) for row in rows]))
        out["log_softmax"] = Reference(whole([row.spread(row.log_softmax, -np.inf) for row in rows]))
        out["loss"] = Reference(pack([row.loss for row in rows], samples))
        out["log_probs"] = Reference(pack([-row.loss for row in rows], samples))
        out["entropy"] = Reference(pack([row.entropy for row in rows], samples))
        out["gradient"] = Reference(whole([row.gradient() for row in rows]))
    return out


def cached(folder: Path | None = None) -> Callable[[Case], dict[str, Reference]]:
    """``compute`` with its results kept in a folder, the user's cache, by what went in; a million entries are not."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = folder or home / "softgrad" / "accuracy"

    def reference(case: Case) -> dict[str, Reference]:
        if case.x.size > 1 << 16:
            return compute(case)
        digest = hashlib.sha256(CODE + f"{case.form.name} {case.x.shape} {case.axis}".encode())
        for part in (case.x, case.labels, case.where, case.b):
            digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        path = folder / f"{digest.hexdigest()[:32]}.npz"
        if path.exists():
            with np.load(path) as kept:
                return {
                    name: Reference(
                        *(
                            Exact(*(kept[f"{name} {i}"] for i in range(j, j + 3)))
                            for j in (0, 3, 6)
                            if f"{name} {j}" in kept
                        )
                    )
                    for name in FUNCTIONS
                    if f"{name} 0" in kept
                }
        out = compute(case)
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            f"{name} {i}": part
            for name, ref in out.items()
            for i, part in enumerate(part for numbers in ref if numbers is not None for part in numbers)
        }
        # several runs may fill the folder at once
        unfinished = path.with_suffix(f".{os.getpid()}.part.npz")
        np.savez(unfinished, **arrays)
        unfinished.replace(path)
        return out

    return reference
