"""``python -m softgrad.testing.accuracy``: the table, the picture, and 1 for an exit status where a bound is broken."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import _linear, _report
from ._families import cases
from ._formats import FORMATS
from ._measure import run
from ._reference import cached
from ._subjects import LIBRARIES, subjects


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
    options = parser.parse_args(arguments)
    libraries, dtypes = options.libraries.split(","), options.dtypes.split(",")
    for given, known, what in ((libraries, LIBRARIES, "--libraries"), (dtypes, FORMATS, "--dtypes")):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{what}: {unknown[0]!r} is none of {', '.join(known)}")
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    reference = cached(options.cache or home / "softgrad" / "accuracy")
    everyone = list(subjects(libraries, not options.no_peers))
    inputs = (case for name in dtypes for case in cases(FORMATS[name], not options.no_long))
    results = []
    for result in run(everyone, inputs, reference):
        results.append(result)
        if options.details:
            print(_report.line(result), flush=True)
    fits = list(_linear.run({name: LIBRARIES[name] for name in libraries}, not options.no_peers))
    notes = dict.fromkeys(subject.arrays.note for subject in everyone if subject.arrays.note)
    head = _report.heading(libraries, sys.argv[1:] if arguments is None else arguments, list(notes))
    print(_report.tables(results, fits, head))
    broken = [_report.line(result) for result in results if result.broken]
    broken += [f"{fit.subject}: linear model, {fit.dtype} {fit.fit}: {fit.error:.1e}" for fit in fits if fit.broken]
    for line in broken:
        print("BROKEN", line)
    print(f"{len(results) + len(fits)} measurements, {len(broken)} bounds broken")
    if options.write:
        _report.write(options.write, results, fits, head, everyone)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
