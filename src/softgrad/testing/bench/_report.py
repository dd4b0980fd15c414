"""What a benchmark says of its machine, and its tables for a terminal."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ..._version import __version__

_VERSIONS = ("numpy", "scipy", "torch", "jax", "scikit-learn", "optax", "cupy-cuda12x")

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


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One table a dtype and number of threads: softgrad's time, and its ratio to everyone else's."""
    out = []
    for dtype, threads in dict.fromkeys((row["dtype"], row["threads"]) for row in rows):
        some = [row for row in rows if (row["dtype"], row["threads"]) == (dtype, threads)]
        heads = {head: name for head, name in _COLUMNS.items() if any(name in row["ratio"] for row in some)}
        table = Table(
            title=f"{dtype}, {threads} threads: time of softgrad over theirs (below 1: softgrad is faster)",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        table.add_column("case", no_wrap=True)
        table.add_column("ms", justify="right", no_wrap=True)
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        on_torch = any("softgrad on torch" in row["ratio"] for row in some)
        if on_torch:
            table.add_column("torch arrays:\nours/torch", justify="right", no_wrap=True)
        for row in some:
            ratio = row["ratio"]
            shape = "x".join(map(str, row["shape"])) + (" axis 0" if row["axis"] == 0 else "")
            cells = [f"{ratio[name]:.2f}" if name in ratio else "" for name in heads.values()]
            if on_torch:
                cells.append(f"{ratio['torch'] / ratio['softgrad on torch']:.2f}" if "torch" in ratio else "")
            table.add_row(f"{row['operation']} {shape}", f"{row['seconds']['softgrad'] * 1e3:.3g}", *cells)
        out.append(table)
    return out


def memory_table(memory: dict[str, Any]) -> Table:
    table = Table(title=f"MiB added by {memory['case']} (the gradient itself takes {memory['gradient']:.0f})")
    table.add_column("")
    table.add_column("MiB", justify="right")
    for name, value in memory["peaks"].items():
        table.add_row(name, "-" if value is None else f"{value:.0f}")
    return table
