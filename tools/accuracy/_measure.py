"""One run: every subject on every case, against the references and the bounds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._bounds import LOGSUMEXP, bound
from ._families import Case, layouts
from ._formats import FORMATS, Doubles, Exact, lost, ulps
from ._reference import FUNCTIONS, Reference
from ._subjects import Subject


@dataclass(frozen=True)
class Result:
    """One subject's errors in one function on one case."""

    subject: str
    function: str
    dtype: str
    family: str
    worst: float
    mean: float
    #: How many are 0, NaN or infinite where the exact result is a normal number.
    lost: int
    #: The same worst, in units of the exact result alone.
    relative: float
    #: None for a peer.
    bound: float | None

    @property
    def broken(self) -> bool:
        """Whether a bound is broken, or a result is lost."""
        return self.bound is not None and (self.lost > 0 or not self.worst <= self.bound)


def measure(subject: Subject, case: Case, references: dict[str, Reference]) -> Iterator[Result]:
    """The errors of one subject on one case, function by function: the worst of its layouts."""
    ways: list[tuple[Case, Callable[[Any], Any]]] = [(case, lambda a: a)]
    if subject.choosy:
        ways += layouts(case)
    for function in FUNCTIONS:
        if function not in references:
            continue
        found = []
        for way, like in ways:
            exact, scale, rounded = references[function]
            # high precision carries what rounding takes from a gap
            scale = scale if subject.precision == "high" else rounded
            reference = Reference(Exact(*map(like, exact)), None if scale is None else Exact(*map(like, scale)))
            with warnings.catch_warnings():
                if subject.peer:
                    warnings.simplefilter("ignore")
                got = subject.run(function, way)
            if got is not None:
                found.append(_errors(got, reference, way, subject.arrays.flushes, function == "entropy"))
        if found:
            worst, mean, gone, relative = (float(part) for part in np.max(found, axis=0))
            limit = None if subject.peer else bound(function, case.form, subject.precision, subject.wide)
            yield Result(subject.name, function, case.form.name, case.family, worst, mean, int(gone), relative, limit)


def _errors(
    got: Doubles, reference: Reference, case: Case, flushes: bool, by_gaps: bool
) -> tuple[float, float, float, float]:
    """(worst, mean, how many are lost, worst in units of the result alone)."""
    exact, scale, _ = reference
    form = case.form
    # each term of a sum may have been a subnormal number, off by half of the smallest, or taken for 0
    work = form if form.name == "float64" else FORMATS["float32"]
    slack = case.x.shape[case.axis] * work.tiny * (1.0 if flushes else 2.0**-work.digits)
    if by_gaps:
        # and is multiplied by the gap that it is the exponential of
        slack *= -math.log(work.tiny)
    errors, relative = ulps(got, exact, form, scale, slack), ulps(got, exact, form, slack=slack)
    gone = lost(got, exact, form, slack)
    if scale is not None:
        # where the sum cancels to less than one unit of what it is made of, 0 is as good as anything
        gone &= ~(errors <= LOGSUMEXP)
    return float(errors.max()), float(errors.mean()), float(gone.sum()), float(relative.max())


def run(
    subjects: Iterable[Subject], cases: Iterable[Case], reference: Callable[[Case], dict[str, Reference]]
) -> Iterator[Result]:
    """Every subject on every case; the reference of a case is computed once."""
    everyone = list(subjects)
    for case in cases:
        takers = [
            subject
            for subject in everyone
            if case.form.name in subject.arrays.dtypes and (subject.choosy or not case.special)
        ]
        if takers:
            references = reference(case)
            for subject in takers:
                yield from measure(subject, case, references)
