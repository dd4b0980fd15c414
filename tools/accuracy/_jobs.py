"""What is measured of each library, in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from . import _divergence, _linear, _separable
from ._families import cases
from ._formats import FORMATS
from ._linear import Fit
from ._measure import Result, run
from ._reference import cached
from ._subjects import subjects


class Job(NamedTuple):
    """What is measured of one library."""

    library: str
    dtypes: tuple[str, ...]
    peers: bool
    long: bool
    cache: Path | None


class Found(NamedTuple):
    """What was found."""

    results: list[Result]
    fits: list[Fit]
    divergences: list[Fit]
    notes: list[str]
    ends: list[_separable.End]


def measure(job: Job) -> Found:
    """Softgrad on one library, and the peers on its arrays."""
    everyone = list(subjects([job.library], job.peers))
    inputs = (case for name in job.dtypes for case in cases(FORMATS[name], job.long))
    results = list(run(everyone, inputs, cached(job.cache)))
    fits = list(_linear.run([job.library], False))
    divergences = list(_divergence.run([job.library], False))
    ends = list(_separable.run(job.peers)) if job.library == "numpy" else []
    return Found(results, fits, divergences, [subject.arrays.note for subject in everyone if subject.arrays.note], ends)


def measured(jobs: list[Job], processes: int) -> Iterator[Found]:
    """Library by library; each in a process of its own where there are to be several at a time."""
    if processes == 1 or len(jobs) == 1:
        yield from map(measure, jobs)
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(jobs)), fresh, max_tasks_per_child=1) as pool:
        # the longest first, so that no process waits for it alone
        waiting = {job.library: pool.submit(measure, job) for job in sorted(jobs, key=lambda job: job.library != "jax")}
        for job in jobs:
            yield waiting[job.library].result()
