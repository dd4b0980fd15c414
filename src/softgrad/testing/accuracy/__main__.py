"""``python -m softgrad.testing.accuracy``: the table, the picture, and 1 for an exit status where a bound is broken."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from . import _linear, _report
from ._families import cases
from ._formats import FORMATS
from ._linear import Fit
from ._measure import Result, run
from ._reference import cached
from ._subjects import LIBRARIES, subjects


class Job(NamedTuple):
    """What is measured of one library."""

    library: str
    dtypes: tuple[str, ...]
    peers: bool
    long: bool
    cache: Path


class Found(NamedTuple):
    """What was found."""

    results: list[Result]
    fits: list[Fit]
    notes: list[str]


def measure(job: Job) -> Found:
    """Softgrad on one library, and the peers on its arrays."""
    everyone = list(subjects([job.library], job.peers))
    inputs = (case for name in job.dtypes for case in cases(FORMATS[name], job.long))
    results = list(run(everyone, inputs, cached(job.cache)))
    fits = list(_linear.run({job.library: LIBRARIES[job.library]}, False))
    return Found(results, fits, [subject.arrays.note for subject in everyone if subject.arrays.note])


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


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(prog="python -m softgrad.testing.accuracy", description=__doc__)
    parser.add_argument("--libraries", default="numpy", help=f"comma separated, of {', '.join(LIBRARIES)}")
    parser.add_argument("--dtypes", default=",".join(FORMATS), help="comma separated")
    parser.add_argument("--no-peers", action="store_true", help="measure softgrad alone")
    parser.add_argument("--no-long", action="store_true", help="leave out the axes of a million")
    parser.add_argument("--details", action="store_true", help="print every family")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="put table and picture into accuracy.md of a folder")
    parser.add_argument("--cache", type=Path, help="where references are kept (default: ~/.cache/softgrad/accuracy)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="libraries that are measured at a time")
    options = parser.parse_args(arguments)
    libraries, dtypes = options.libraries.split(","), options.dtypes.split(",")
    for given, known, what in ((libraries, LIBRARIES, "--libraries"), (dtypes, FORMATS, "--dtypes")):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{what}: {unknown[0]!r} is none of {', '.join(known)}")
    started = time.perf_counter()
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cache = options.cache or home / "softgrad" / "accuracy"
    jobs = [Job(name, tuple(dtypes), not options.no_peers, not options.no_long, cache) for name in libraries]
    results: list[Result] = []
    fits: list[Fit] = []
    notes: list[str] = []
    for found in measured(jobs, options.jobs):
        results += found.results
        fits += found.fits
        notes += found.notes
        if options.details:
            print("\n".join(map(_report.line, found.results)), flush=True)
    fits += _linear.run({}, not options.no_peers)
    command = sys.argv[1:] if arguments is None else arguments
    head = _report.heading(libraries, command, time.perf_counter() - started, list(dict.fromkeys(notes)))
    print(_report.tables(results, fits, head))
    broken = [_report.line(result) for result in results if result.broken]
    broken += [f"{fit.subject}: linear model, {fit.dtype} {fit.fit}: {fit.error:.1e}" for fit in fits if fit.broken]
    for line in broken:
        print("BROKEN", line)
    print(f"{len(results) + len(fits)} measurements, {len(broken)} bounds broken")
    if options.write:
        _report.write(options.write, results, fits, head, list(subjects(libraries, not options.no_peers)))
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
