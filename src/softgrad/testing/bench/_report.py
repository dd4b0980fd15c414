"""What a benchmark says of its machine, and its tables for a terminal."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ..._version import __version__

_VERSIONS = ("numpy", "scipy", "torch", "jax", "scikit-learn", "optax", "numba", "cupy-cuda12x")

#: Heads of the columns, and whose time softgrad's is divided by.
_COLUMNS = {
    "scipy": "scipy",
    "torch": "torch",
    "torch.\ncompile": "torch.compile",
    "jax\njit": "jax.jit",
    "optax": "optax",
    "scikit-\nlearn": "scikit-learn",
    "cupyx": "cupyx",
    "own\ngeneric": "softgrad generic",
    "own\nhigh": "softgrad high",
    "exp\nalone": "floor: exp",
    "two\nproducts": "floor: two products",
}


def machine() -> dict[str, Any]:
    versions = {"softgrad": __version__}
    for name in _VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


#: Heads, and (whose time is divided, by whose) of the other ways to run softgrad.
_OTHER_WAYS = {
    "no numba/\nscipy": ("softgrad without numba", "scipy"),
    "no numba/\ntorch": ("softgrad without numba", "torch"),
    "on torch/\ntorch": ("softgrad on torch", "torch"),
    "on jax/\njax jit": ("softgrad on jax", "jax.jit"),
    "on cupy/\ncupyx": ("softgrad on cupy", "cupyx"),
}


def _quotients(row: dict[str, Any]) -> dict[str, float]:
    """By the heads of the columns, what can be told of a case."""
    ratio = row["ratio"]
    out = {head: ratio[name] for head, name in _COLUMNS.items() if name in ratio}
    return out | {
        head: ratio[peer] / ratio[ours] for head, (ours, peer) in _OTHER_WAYS.items() if ours in ratio and peer in ratio
    }


def _parts(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[str], list[tuple[str, str, dict[str, float]]]]]:
    """A dtype and number of threads at a time: title, heads, and of each case its name, milliseconds and quotients."""
    for dtype, threads in dict.fromkeys((row["dtype"], row["threads"]) for row in rows):
        some = [row for row in rows if (row["dtype"], row["threads"]) == (dtype, threads)]
        lines = []
        for row in some:
            shape = "x".join(map(str, row["shape"])) + (" axis 0" if row["axis"] == 0 else "")
            ms = f"{row['seconds']['softgrad'] * 1e3:.3g}"
            lines.append((f"{row['operation']} {shape}", ms, _quotients(row)))
        heads = [head for head in (*_COLUMNS, *_OTHER_WAYS) if any(head in found for *_, found in lines)]
        yield f"{dtype}, {threads} thread{'s' if threads > 1 else ''}", heads, lines


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One table a dtype and number of threads: softgrad's time, and its ratio to everyone else's."""
    out = []
    for title, heads, lines in _parts(rows):
        table = Table(
            title=f"{title}: time of softgrad over theirs (below 1: softgrad is faster)",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("case", no_wrap=True)
        table.add_column("ms", justify="right", no_wrap=True)
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for name, ms, found in lines:
            table.add_row(name, ms, *(f"{found[head]:.2f}" if head in found else "" for head in heads))
        out.append(table)
    return out


def markdown(rows: list[dict[str, Any]]) -> str:
    """The same tables, for a page."""
    out = []
    for title, heads, lines in _parts(rows):
        words = [head.replace("-\n", "-").replace("\n", " ") for head in heads]
        out += [f"### {title}", "", "| case | ms | " + " | ".join(words) + " |", "|---|" + "---:|" * (len(heads) + 1)]
        for name, ms, found in lines:
            cells = [f"{found[head]:.2f}" if head in found else "" for head in heads]
            out.append(f"| {name} | {ms} | " + " | ".join(cells) + " |")
        out.append("")
    return "\n".join(out)


def memory_table(memory: dict[str, Any]) -> Table:
    table = Table(title=f"MiB added by {memory['case']} (the gradient itself takes {memory['gradient']:.0f})")
    table.add_column("")
    table.add_column("MiB", justify="right")
    for name, value in memory["peaks"].items():
        table.add_row(name, "-" if value is None else f"{value:.0f}")
    return table
