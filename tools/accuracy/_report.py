"""The measurements as Markdown tables and as a picture."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from softgrad._version import __version__

from ._formats import FORMATS
from ._linear import Fit
from ._measure import Result
from ._reference import FUNCTIONS
from ._separable import End
from ._subjects import Subject

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PACKAGES = {
    "numpy": ("numpy", "scipy", "scikit-learn"),
    "torch": ("torch",),
    "jax": ("jax", "optax"),
    "array_api_strict": ("array-api-strict",),
    "cupy": ("cupy-cuda12x",),
    "dask": ("dask",),
}


def line(r: Result) -> str:
    """One measurement in a line."""
    more = "" if r.relative == r.worst else f", {number(r.relative)} of the result's own"
    gone = f", {r.lost} lost" if r.lost else ""
    limit = "" if r.bound is None else f" (bound {r.bound:g})"
    return (
        f"{r.subject}: {r.function} {r.dtype} {r.family}: {number(r.worst)}{limit}, mean {number(r.mean)}{gone}{more}"
    )


def number(value: float) -> str:
    """A few digits; infinity for what is 0, NaN or infinite and should be something else."""
    if value == float("inf"):
        return "∞"
    if value >= 1e5:
        mantissa, _, exponent = f"{value:.0e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def heading(libraries: Iterable[str], arguments: Sequence[str], seconds: float, notes: Sequence[str] = ()) -> str:
    """When, with what, by which command, in how long."""
    versions = [f"softgrad {__version__}", f"Python {platform.python_version()}"]
    for library in libraries:
        for package in PACKAGES[library]:
            try:
                versions.append(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                continue
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    command = " ".join(["python -m accuracy", *arguments])
    machine = f"{platform.machine()} with {os.cpu_count()} cores"
    measured = f"Measured on {day} by `{command}` in {seconds / 60:.0f} minutes, on {machine}: {', '.join(versions)}"
    return "; ".join([measured, *notes]) + "."


LINEAR = "**Gradient of the linear model**, error relative in norm:"
NEAR = "**Divergence of two softmaxes that nearly agree**, and its gradient, the larger relative error, by its size:"


def tables(
    results: Sequence[Result], fits: Sequence[Fit], divergences: Sequence[Fit], ends: Sequence[End], head: str
) -> str:
    """Who stands how; then, folded, a table a function; the linear model, divergences, and fits that are never done."""
    count = len(results) + len(fits) + len(divergences)
    out = [*summary(results), "", f"{count:,} measurements. {head}", ""]
    dtypes = [name for name in FORMATS if any(r.dtype == name for r in results)]
    for function in FUNCTIONS:
        rows = [f"| | {' | '.join(dtypes)} |", f"| --- |{' --- |' * len(dtypes)}"]
        for subject in everyone(results):
            mine = [r for r in results if r.subject == subject and r.function == function]
            if mine:
                cells = [_cell([r for r in mine if r.dtype == dtype]) for dtype in dtypes]
                rows.append(f"| {subject} | {' | '.join(cells)} |")
        out += ["<details>", f"<summary>{function}: worst error, and the mean in brackets, by format</summary>", ""]
        out += [*rows, "", "</details>", ""]
    return "\n".join([*out, *_fits(LINEAR, fits), "", *_fits(NEAR, divergences), "", *_ends(ends), ""])


def everyone(results: Sequence[Result]) -> list[str]:
    """Who was measured, softgrad first."""
    return sorted(dict.fromkeys(r.subject for r in results), key=lambda name: not name.startswith("softgrad"))


def summary(results: Sequence[Result]) -> list[str]:
    """The worst error over everything, float32 and float64: softgrad by library, all of its high results, the peers."""
    dtypes = [name for name in ("float32", "float64") if any(r.dtype == name for r in results)]
    kept = [r for r in results if r.dtype in dtypes]
    names = [name for name in everyone(kept) if "generic" not in name and "high" not in name]
    groups = {name: [r for r in kept if r.subject == name] for name in names}
    ours = {name: found for name, found in groups.items() if name.startswith("softgrad")}
    peers = {name: found for name, found in groups.items() if name not in ours}
    high = [r for r in kept if "high" in r.subject and "without" not in r.subject]
    out = [
        f"| worst ULP, {' and '.join(dtypes)} | {' | '.join(FUNCTIONS)} | lost |",
        f"| --- |{' --- |' * (len(FUNCTIONS) + 1)}",
    ]
    for name, found in (*ours.items(), ("softgrad high, every library", high), *peers.items()):
        cells = []
        for function in FUNCTIONS:
            pairs = [[r.worst for r in found if r.function == function and r.dtype == dtype] for dtype in dtypes]
            cells.append(", ".join(number(max(pair)) for pair in pairs if pair))
        if found:
            out.append(f"| {name} | {' | '.join(cells)} | {sum(r.lost for r in found):,} |")
    return out


def _fits(title: str, fits: Sequence[Fit]) -> list[str]:
    if not fits:
        return []
    columns = list(dict.fromkeys((fit.dtype, fit.fit) for fit in fits))
    out = [title, ""]
    out += [f"| | {' | '.join(map(', '.join, columns))} |", f"| --- |{' --- |' * len(columns)}"]
    for subject in sorted(dict.fromkeys(fit.subject for fit in fits), key=lambda name: not name.startswith("softgrad")):
        errors = {(fit.dtype, fit.fit): fit.error for fit in fits if fit.subject == subject}
        out.append(f"| {subject} | {' | '.join(f'{errors[c]:.1e}' for c in columns)} |")
    return out


def _ends(ends: Sequence[End]) -> list[str]:
    if not ends:
        return []
    dtypes = list(dict.fromkeys(end.dtype for end in ends))
    out = ["**Fits of separable data**, the smallest gap that they reach (steps; the gradient where they stop):", ""]
    out += [f"| | {' | '.join(dtypes)} |", f"| --- |{' --- |' * len(dtypes)}"]
    for name in dict.fromkeys(end.subject for end in ends):
        by = {end.dtype: end for end in ends if end.subject == name}
        cells = [f"{by[d].gap:.0f} ({by[d].steps}; {by[d].gradient:.0e})".replace("0e+00", "0") for d in dtypes]
        out.append(f"| {name} | {' | '.join(cells)} |")
    return out


def _cell(results: list[Result]) -> str:
    if not results:
        return ""
    means = [r.mean for r in results if r.mean != float("inf")]
    mean = number(sum(means) / len(means)) if len(means) == len(results) else "∞"
    gone = sum(r.lost for r in results)
    text = f"{number(max(r.worst for r in results))} ({mean})"
    return f"{text}, {gone} lost" if gone else text


def write(
    folder: Path,
    results: Sequence[Result],
    fits: Sequence[Fit],
    divergences: Sequence[Fit],
    ends: Sequence[End],
    head: str,
    subjects: Sequence[Subject],
) -> None:
    """Replace what stands between the marks in accuracy.md, and draw the picture anew."""
    page = folder / "accuracy.md"
    text = page.read_text(encoding="utf-8")
    before, mark, rest = text.partition(BEGIN)
    _, closing, after = rest.partition(END)
    if not mark or not closing:
        raise ValueError(f"{page} has no {BEGIN} before an {END}")
    page.write_text(
        f"{before}{BEGIN}\n\n{tables(results, fits, divergences, ends, head)}\n{END}{after}", encoding="utf-8"
    )
    if importlib.util.find_spec("matplotlib"):
        from ._picture import draw

        draw(folder / "_static", subjects)
