"""``check``: that ∇E = X (S − Y)ᵀ holds on real data, on every array library that is installed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._data import load_digits
from ..testing._libraries import LIBRARIES, LibraryMissingError, OpenLibrary, open_library
from ..testing._terminal import Terminal
from . import _files, _plot, _report
from ._arguments import backend, count
from ._errors import UsageError
from ._files._table import Table
from ._identity import run_all
from ._problem import Problem, make_problem

_DESCRIPTION = """\
Check on real data that the gradient of the softmax loss is X (S - Y)^T. Loss and gradient are computed in several
ways, on every array library that is installed, and compared with each other, with finite differences, and with the
automatic differentiation of PyTorch and JAX. The weights are drawn at random; nothing is fitted."""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "check",
        help="check loss and gradient on real data, on every array library that is installed",
        description=_DESCRIPTION,
        epilog="Exit code: 0, everything agrees; 1, something disagrees, or a library that --backend names cannot be "
        "used; 2, wrong use, or data that cannot be read.",
    )
    parser.add_argument(
        "--backend",
        action="append",
        type=backend,
        metavar="NAME",
        help=f"only this library: {', '.join(LIBRARIES)}; repeatable (default: all that are installed)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="your data instead of the UCI digits: .csv, .npz (arrays X and y) or .parquet",
    )
    parser.add_argument(
        "--label",
        metavar="COLUMN",
        help="the column of labels, by name or by number, from 0 on (default: the one named label, target or y, else "
        "the last); in .npz the array (default: y)",
    )
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line of a text file names its columns (default: yes, and an error where it could be "
        "a sample)",
    )
    parser.add_argument(
        "--samples",
        type=count(0),
        default=2000,
        metavar="N",
        help="draw N samples at random where the data has more; 0 takes all (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=count(0),
        default=0,
        metavar="N",
        help="seed of all that is drawn: samples, weights, directions (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON and nothing else")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the errors and the gradient: .png, .svg or .pdf"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    start = time.perf_counter()
    if args.plot is not None:
        _plot.prepare(args.plot)
    source, table, problem = _problem_of(args)
    libraries, missing = _open(args.backend or tuple(LIBRARIES))
    results = run_all(libraries, problem)
    report = _report.Report(
        source,
        table.label if table else None,
        table.notes if table else (),
        problem,
        results,
        missing,
        bool(args.backend),
        time.perf_counter() - start,
    )
    out = Terminal(sys.stdout)
    if args.json:
        print(json.dumps(_report.plain(report), indent=2, allow_nan=False))
    else:
        _report.show(report, out)
    if args.plot is not None:
        _plot.draw(args.plot, source, problem, results)
        if not args.json:
            out.say(f"Wrote {args.plot}: the errors of the finite differences by step, and the gradient.")
    return 0 if report.agrees else 1


def _problem_of(args: argparse.Namespace) -> tuple[str, Table | None, Problem]:
    if args.data is None:
        if args.label is not None or args.header is not None:
            raise UsageError("--label and --header belong to --data FILE")
        X, y = load_digits()
        names = tuple(map(str, range(10)))
        return "UCI optical digits", None, make_problem(X, y, names, seed=args.seed, samples=args.samples)
    # a name that is no text is shown with its bytes
    shown = os.fsencode(args.data).decode(errors="backslashreplace")
    try:
        table = _files.read(args.data, args.label, args.header)
        data = table.X, table.labels, table.class_names, table.attribute_names
        return Path(shown).name, table, make_problem(*data, seed=args.seed, samples=args.samples)
    except UsageError as error:
        raise UsageError(f"{shown}: {error}") from error


def _open(names: Sequence[str]) -> tuple[list[OpenLibrary], dict[str, str]]:
    libraries, missing = [], {}
    for name in dict.fromkeys(names):
        try:
            libraries.append(open_library(name))
        except LibraryMissingError as error:
            missing[name] = str(error)
    return libraries, missing
