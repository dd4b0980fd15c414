"""What ``check`` found, for a terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._version import __version__
from ..testing._libraries import LIBRARIES
from ..testing._terminal import Cell, Terminal
from ._identity import DTYPES, Result
from ._problem import Problem

#: The comparisons in the order of their columns: head, and what is compared.
_COLUMNS = {
    "loss": ("loss", "the loss, with its two written forms and with NumPy's float64"),
    "columns": ("by class", "the gradient, with that of each class by itself"),
    "product": ("X(S−Y)ᵀ", "the gradient, with the product of matrices"),
    "differences": ("finite\ndiffs", "the gradient, with central differences of the loss: these are least exact"),
}
#: Characters of an exception's words that are shown.
_MOST = 300


@dataclass(frozen=True)
class Report:
    """What one run of the experiment found."""

    source: str
    #: The column of labels, in words; None for the digits.
    label: str | None
    notes: tuple[str, ...]
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


def show(report: Report, out: Terminal) -> None:
    """Print the report; what it comes to is said last."""
    problem = report.problem
    drawn = (
        f" (drawn from {problem.of_samples:,} with seed {problem.seed})" if problem.samples < problem.of_samples else ""
    )
    labels = f" in {report.label}" if report.label else ""
    out.say(
        f"{report.source}: {problem.samples:,} samples{drawn} × {problem.attributes:,} attributes, "
        f"{problem.classes:,} classes{labels}"
    )
    for note in report.notes:
        out.say(f"note: {note}", "warn", "  ")
    out.say()
    if any(result.checks for result in report.results):
        _table(report, out)
        out.say()
    _verdict(report, out)


def _groups(results: Iterable[Result]) -> dict[str, tuple[str, str]]:
    ran = {check.group for result in results for check in result.checks}
    names = [lib.autograd for lib in LIBRARIES.values() if lib.autograd in ran]
    return _COLUMNS | {
        str(name): (str(name).replace(" ", "\n"), "the gradient, with automatic differentiation") for name in names
    }


def _table(report: Report, out: Terminal) -> None:
    groups = _groups(report.results)
    product = out.sign("X(S−Y)ᵀ", "X(S-Y)^T")
    heads = {group: head if group != "product" else product for group, (head, _) in groups.items()}
    rows: list[list[Cell]] = []
    last = None
    for result in report.results:
        name = f"  {result.version}, {result.device}" if result.back_end == last else result.back_end
        style = "dim" if result.back_end == last else ""
        last = result.back_end
        rows.append([(name, style), result.dtype, *(_cell(result, group) for group in groups)])
    limits = [[("allowed" if dtype == DTYPES[0] else "", "dim"), (dtype, "dim")] for dtype in DTYPES]
    for row, dtype in zip(limits, DTYPES, strict=True):
        row += [(_power(limit), "dim") for limit in _limits(report.problem, dtype, groups)]
    out.table(["back end", "dtype", *heads.values()], [*rows, [], *limits], left=2)
    out.say()
    words: dict[str, list[str]] = {}
    for group, (_, meaning) in groups.items():
        words.setdefault(meaning, []).append(heads[group].replace("\n", " "))
    out.say("Largest error, relative to the loss or to the gradient's largest entry, of", "dim")
    for meaning, names in words.items():
        out.say(f"  {', '.join(names)}: {meaning}", "dim", "    ")
    out.say("Allowed is the error that rounding alone can make; ! marks what is beyond.", "dim")


def _limits(problem: Problem, dtype: str, groups: Iterable[str]) -> list[float]:
    eps = float(np.finfo(dtype).eps)
    best = max(problem.difference_tolerance(probe, problem.best_step(probe, eps), eps) for probe in problem.probes)
    named = {"loss": problem.loss_tolerance(eps), "differences": best}
    return [named.get(group, problem.gradient_tolerance(eps)) for group in groups]


def _power(error: float) -> str:
    return f"{error:.0e}" if error else "0"


def _cell(result: Result, group: str) -> Cell:
    found = result.worst(group)
    if found is None:
        return ("failed", "bad") if result.failure is not None else ("-", "dim")
    return (_power(found.error), "good") if found.agrees else (f"{_power(found.error)} !", "bad")


def _verdict(report: Report, out: Terminal) -> None:
    out.say(
        f"What was done: a matrix W of weights was drawn at random (seed {report.problem.seed}); at W, loss and "
        "gradient of the linear softmax model were computed in several ways from the same data, rounded to float32. "
        "Nothing was fitted.",
        "dim",
    )
    out.say()
    for result in report.results:
        worst = max((check for check in result.checks if not check.agrees), key=lambda c: c.strain, default=None)
        if worst is not None:
            what = "loss" if worst.group == "loss" else "gradient"
            out.say(
                f"wrong: {result.back_end}, {result.dtype}: the {what} is off by {_power(worst.error)} ({worst.name}), "
                f"allowed is {_power(worst.tolerance)}",
                "bad",
                "  ",
            )
        if result.failure is not None:
            out.say(f"failed: {result.back_end}, {result.dtype}: {_short(result.failure)}", "bad", "  ")
    if report.asked:
        for name, reason in report.missing.items():
            out.say(f"missing: {name}: {_short(reason)}", "bad", "  ")
    time = f" ({report.seconds:.1f} s)"
    wrong = dict.fromkeys(r.back_end for r in report.results if not all(check.agrees for check in r.checks))
    failed = dict.fromkeys(r.back_end for r in report.results if r.failure is not None)
    right = dict.fromkeys(r.back_end for r in report.results if r.back_end not in wrong and r.back_end not in failed)
    amiss = {"DISAGREES on": wrong, "could NOT BE COMPUTED on": failed}
    amiss["was NOT RUN on"] = dict.fromkeys(report.missing) if report.asked else {}
    words = [f"{how} {_and(names)}" for how, names in amiss.items() if names]
    if right:
        out.say(f"The gradient agrees on {_and(right)}: {_found(report, right)}{'' if words else time}.", "good")
    if words:
        out.say(f"The gradient {_and(words)}{time}.", "bad")
    else:
        own = "" if report.label else "check your own data by --data FILE (.csv, .npz, .parquet); "
        out.say(f"Next: {own}fit a model by softgrad.SoftmaxRegression().fit(X, y).")
    if report.missing and not report.asked:
        out.say(f"Not run: {_not_run(report.missing)}.", "dim")


def _found(report: Report, names: Iterable[str]) -> str:
    """How closely the gradient agrees, by dtype: relative to its largest entry, and in units of rounding."""
    parts = []
    for dtype in DTYPES:
        errors = [
            check.error
            for result in report.results
            for check in result.checks
            if result.back_end in names and result.dtype == dtype and check.group not in ("loss", "differences")
        ]
        worst = max(errors, default=0.0)
        parts.append(f"{_power(worst)} in {dtype} ({worst / np.finfo(dtype).eps:.1f} eps)")
    return f"no comparison differs by more than {' and '.join(parts)}, relative to its largest entry"


def _not_run(missing: dict[str, str]) -> str:
    reasons: dict[str, list[str]] = {}
    for name, reason in missing.items():
        reasons.setdefault(reason.partition(":")[0], []).append(name)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _short(words: str) -> str:
    return words if len(words) <= _MOST else f"{words[:_MOST]}... (all of it by --json)"


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def plain(report: Report) -> dict[str, Any]:
    """The report as JSON takes it."""
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
            "label": report.label,
            "notes": list(report.notes),
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
