"""``check``: that ∇E = X (S − Y)ᵀ holds on real data, on every array library that is installed."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._data import load_digits
from .._version import __version__
from ..testing._libraries import LIBRARIES, LibraryMissingError, OpenLibrary, open_library
from . import _files, _plot
from ._errors import UsageError
from ._identity import Result, run_all
from ._problem import Problem, make_problem

_DESCRIPTION = """\
Verify, on real data, that the gradient of the softmax loss is X (S - Y)^T: the loss in both of its written
forms, the gradient as one product and column by column, against central finite differences, and against the
automatic differentiation of PyTorch and JAX where they are installed; on every array library that is there.
Exit code 0: everything agrees. 1: something disagrees, or a back end asked for is missing. 2: wrong use."""


@dataclass(frozen=True)
class Report:
    """What one run of the experiment found."""

    source: str
    problem: Problem
    results: list[Result]
    #: Why a library was not run, by name.
    missing: dict[str, str]
    #: Whether the missing ones were asked for by name.
    asked: bool
    seconds: float

    @property
    def slip(self) -> float:
        """How far the slipped formula is from the finite differences of the first back end."""
        return next((result.slip for result in self.results if not math.isnan(result.slip)), math.nan)

    @property
    def agrees(self) -> bool:
        """Whether everything that was run agrees, and everything asked for was run."""
        return bool(self.results) and all(r.agrees for r in self.results) and not (self.asked and self.missing)


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "check",
        help="verify the gradient X (S - Y)^T on real data, on every back end that is installed",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--backend",
        action="append",
        choices=tuple(LIBRARIES),
        help="run on this library alone; repeatable; it must be there (default: all that are installed)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="data instead of the UCI digits: .npz (arrays X, y), .csv (with a header) or .parquet",
    )
    parser.add_argument(
        "--label",
        metavar="COLUMN",
        help="the column of labels (default: label, target or y, else the last; in .npz the array y)",
    )
    parser.add_argument(
        "--samples",
        type=_count,
        default=2000,
        metavar="N",
        help="draw N samples at random where the data has more; 0 takes all (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=_count, default=0, help="seed of W, of the draw and of the directions (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON and nothing else")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw the errors and the gradient into an image (.png, .svg, .pdf)",
    )
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return number


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    start = time.perf_counter()
    if args.plot is not None:
        _plot.prepare(args.plot)
    source, problem = _problem_of(args)
    libraries, missing = _open(args.backend or tuple(LIBRARIES))
    results = run_all(libraries, problem)
    report = Report(source, problem, results, missing, bool(args.backend), time.perf_counter() - start)
    if args.plot is not None:
        _plot.draw(args.plot, source, problem, results)
    if args.json:
        json.dump(_plain(report), sys.stdout, indent=2, allow_nan=False)
        print()
    else:
        from . import _table

        _table.show(report)
    return 0 if report.agrees else 1


def _problem_of(args: argparse.Namespace) -> tuple[str, Problem]:
    if args.data is None:
        if args.label is not None:
            raise UsageError("--label belongs to --data FILE")
        return "UCI optical digits", make_problem(*load_digits(), seed=args.seed, samples=args.samples)
    try:
        X, y, names = _files.read(args.data, args.label)
        return args.data.name, make_problem(X, y, names, seed=args.seed, samples=args.samples)
    except UsageError as error:
        raise UsageError(f"{args.data}: {error}") from error


def _open(names: Sequence[str]) -> tuple[list[OpenLibrary], dict[str, str]]:
    libraries, missing = [], {}
    for name in dict.fromkeys(names):
        try:
            libraries.append(open_library(name))
        except LibraryMissingError as error:
            missing[name] = str(error)
    return libraries, missing


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _plain(report: Report) -> dict[str, Any]:
    problem = report.problem
    return {
        "softgrad": __version__,
        "agrees": report.agrees,
        "seconds": report.seconds,
        "data": {
            "source": report.source,
            "samples": problem.samples,
            "of_samples": problem.of_samples,
            "attributes": problem.attributes,
            "classes": list(problem.class_names),
            "seed": problem.seed,
        },
        "reference": {"loss": problem.loss, "largest_gradient_entry": problem.largest},
        "slipped_formula": {"error": _number(report.slip)},
        "missing": [{"back_end": name, "reason": reason} for name, reason in report.missing.items()],
        "results": [_plain_result(result) for result in report.results],
    }


def _plain_result(result: Result) -> dict[str, Any]:
    return {
        "back_end": result.back_end,
        "version": result.version,
        "device": result.device,
        "dtype": result.dtype,
        "agrees": result.agrees,
        "failure": result.failure,
        "seconds": result.seconds,
        "loss": _number(result.loss),
        "checks": [
            {
                "group": check.group,
                "name": check.name,
                "error": _number(check.error),
                "tolerance": check.tolerance,
                "agrees": check.agrees,
                "step": check.step,
            }
            for check in result.checks
        ],
    }
