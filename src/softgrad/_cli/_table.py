"""The report of ``check`` for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..testing._libraries import LIBRARIES
from ._identity import DTYPES, Result

if TYPE_CHECKING:
    from .check import Report

_GROUPS = {"loss": "loss", "columns": "columns", "product": "X(S−Y)ᵀ", "differences": "finite\ndiffs"}


def show(report: Report, console: Console | None = None) -> None:
    """Print the report."""
    console = console or Console(highlight=False, soft_wrap=False)
    problem = report.problem
    drawn = (
        f" (drawn from {problem.of_samples:,} with seed {problem.seed})" if problem.samples < problem.of_samples else ""
    )
    console.print(
        f"{report.source}: {problem.samples:,} samples{drawn} × {problem.attributes:,} attributes, "
        f"{problem.classes:,} classes"
    )
    if report.results:
        console.print(_table(report.results))
        _legend(console, report)
    for result in report.results:
        if result.failure is not None:
            console.print(Text(f"failed   {result.back_end}, {result.dtype}: {result.failure}", "bold red"))
    for name, reason in report.missing.items():
        line = f"{'missing ' if report.asked else 'not run '} {name}: {reason}"
        console.print(Text(line, "bold red" if report.asked else "yellow"))
    console.print(_verdict(report))


def _table(results: list[Result]) -> Table:
    ran = {check.group for result in results for check in result.checks}
    names = [lib.autograd for lib in LIBRARIES.values() if lib.autograd is not None and lib.autograd in ran]
    groups = _GROUPS | {name: name.replace(" ", "\n") for name in names}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("back end", overflow="fold")
    table.add_column("dtype", no_wrap=True)
    for title in groups.values():
        table.add_column(title, justify="right")
    last = None
    for result in results:
        first = result.back_end != last
        last = result.back_end
        table.add_row(
            result.back_end if first else Text(f"{result.version}, {result.device}", "dim"),
            result.dtype,
            *(_cell(result, group) for group in groups),
            end_section=not first,
        )
    return table


def _cell(result: Result, group: str) -> Text:
    found = result.worst(group)
    if found is None:
        return Text("failed", "bold red") if result.failure is not None else Text("—", "dim")
    if found.agrees:
        return Text(f"{found.error:.0e}" if found.error else "0", "green")
    return Text(f"{found.error:.0e}\n> {found.tolerance:.0e}", "bold red")


def _legend(console: Console, report: Report) -> None:
    problem = report.problem
    limits = []
    for dtype in DTYPES:
        eps = float(np.finfo(dtype).eps)
        best = max(problem.difference_tolerance(probe, problem.best_step(probe, eps), eps) for probe in problem.probes)
        limits.append(
            f"{dtype} {problem.loss_tolerance(eps):.0e} for the loss, {problem.gradient_tolerance(eps):.0e} "
            f"for the gradient, {best:.0e} for finite differences"
        )
    console.print(
        "Errors relative to the loss and to the gradient's largest entry. What rounding can explain: "
        + "; ".join(limits)
        + ".",
        style="dim",
    )


def _verdict(report: Report) -> Text:
    time = f"({report.seconds:.1f} s)"
    ran = dict.fromkeys(result.back_end for result in report.results)
    bad = dict.fromkeys(result.back_end for result in report.results if not result.agrees)
    if bad:
        return Text(f"DISAGREES on {', '.join(bad)} {time}", "bold red")
    if report.asked and report.missing:
        return Text(f"MISSING: {', '.join(report.missing)} {time}", "bold red")
    slip = f"; with the class's index lost it would be off by {report.slip:.1g}" if math.isfinite(report.slip) else ""
    return Text(f"∇E = X (S − Y)ᵀ holds on {', '.join(ran)}{slip} {time}", "bold green")


def show_info(found: dict[str, Any], console: Console | None = None) -> None:
    """Print what ``info`` collected."""
    console = console or Console(highlight=False)
    console.print(
        f"softgrad {found['softgrad']}, array-api-compat {found['array_api_compat']}, "
        f"Python {found['python']}, {found['platform']}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("library", "version", "device"):
        table.add_column(title, no_wrap=True)
    table.add_column("what runs in place of the generic code", overflow="fold")
    for library in found["libraries"]:
        if library["available"]:
            table.add_row(library["name"], library["version"], library["device"], _replaced(library["runs"]))
    console.print(table)
    example = found["example"]
    console.print(
        f"As explain tells for {example['dtype']}, {example['samples']} samples, {example['classes']} "
        "classes; shape, dtype and options decide too.",
        style="dim",
    )
    for backend in found["back_ends"]:
        asked = " inside use() alone" if backend["opt_in"] else ""
        console.print(
            f"back end {backend['name']} replaces{asked} {len(backend['replaces'])} kernels: "
            f"{', '.join(backend['replaces'])}"
        )
    if not found["back_ends"]:
        console.print("No back end replaces a kernel: the generic code runs everywhere.")
    for library in found["libraries"]:
        if not library["available"]:
            console.print(Text(f"not there  {library['name']}: {library['reason']}", "yellow"))
    for words in found["broken"]:
        console.print(Text(f"broken  {words}", "bold red"))


def _replaced(runs: dict[str, Any]) -> Text:
    by_backend: dict[str, list[str]] = {}
    for function, told in runs.items():
        if told["back_end"] not in (None, "generic"):
            by_backend.setdefault(told["back_end"], []).append(function)
    if not by_backend:
        return Text("nothing", "dim")
    return Text(
        "; ".join(
            f"{name}: {'everything' if len(functions) == len(runs) else ', '.join(functions)}"
            for name, functions in by_backend.items()
        )
    )
