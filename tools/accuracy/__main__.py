"""``PYTHONPATH=tools python -m accuracy``: tables, picture; exit status 1 where a bound is broken."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from softgrad._array.libraries import MATRIX

from . import _divergence, _linear, _report
from ._formats import FORMATS
from ._jobs import Job, measured
from ._linear import Fit
from ._measure import Result
from ._separable import End
from ._subjects import subjects


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(prog="python -m accuracy", description=__doc__)
    parser.add_argument("--libraries", default="numpy", help=f"comma separated, of {', '.join(MATRIX)}")
    parser.add_argument("--dtypes", default=",".join(FORMATS), help="comma separated")
    parser.add_argument("--no-peers", action="store_true", help="measure softgrad alone")
    parser.add_argument("--no-long", action="store_true", help="leave out the axes of a million")
    parser.add_argument("--details", action="store_true", help="print every family")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="put table and picture into accuracy.md of a folder")
    parser.add_argument("--cache", type=Path, help="where references are kept (default: ~/.cache/softgrad/accuracy)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="libraries that are measured at a time")
    options = parser.parse_args(arguments)
    libraries, dtypes = options.libraries.split(","), options.dtypes.split(",")
    for given, known, what in ((libraries, MATRIX, "--libraries"), (dtypes, FORMATS, "--dtypes")):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{what}: {unknown[0]!r} is none of {', '.join(known)}")
    started = time.perf_counter()
    jobs = [Job(name, tuple(dtypes), not options.no_peers, not options.no_long, options.cache) for name in libraries]
    results: list[Result] = []
    fits: list[Fit] = []
    divergences: list[Fit] = []
    notes: list[str] = []
    ends: list[End] = []
    for found in measured(jobs, options.jobs):
        results += found.results
        fits += found.fits
        divergences += found.divergences
        notes += found.notes
        ends += found.ends
        if options.details:
            print("\n".join(map(_report.line, found.results)), flush=True)
    fits += _linear.run([], not options.no_peers)
    divergences += _divergence.run([], not options.no_peers)
    command = sys.argv[1:] if arguments is None else arguments
    head = _report.heading(libraries, command, time.perf_counter() - started, list(dict.fromkeys(notes)))
    print(_report.tables(results, fits, divergences, ends, head))
    broken = [_report.line(result) for result in results if result.broken]
    broken += [f"{fit.subject}: linear model, {fit.dtype} {fit.fit}: {fit.error:.1e}" for fit in fits if fit.broken]
    broken += [
        f"{fit.subject}: divergence of {fit.fit}, {fit.dtype}: {fit.error:.1e}" for fit in divergences if fit.broken
    ]
    for line in broken:
        print("BROKEN", line)
    print(f"{len(results) + len(fits) + len(divergences)} measurements, {len(broken)} bounds broken")
    if options.write:
        everyone = list(subjects(libraries, not options.no_peers))
        _report.write(options.write, results, fits, divergences, ends, head, everyone)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
