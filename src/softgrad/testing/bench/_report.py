"""What a benchmark says of its machine, and its tables for a terminal."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from ..._version import __version__
from .._terminal import Cell, Terminal

#: Libraries that softgrad on NumPy arrays is compared with, and how softgrad on their own arrays is.
_PEERS = ("scipy", "torch", "torch.compile", "jax.jit", "optax", "scikit-learn", "cupyx")
_ON_NUMPY = {name: ("softgrad", name) for name in _PEERS}
_OWN_ARRAYS = {
    "torch": ("softgrad on torch", "torch"),
    "jax.jit": ("softgrad on jax", "jax.jit"),
    "cupyx": ("softgrad on cupy", "cupyx"),
}
#: A ratio that moves by more says little.
NOISY = 0.2

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
    """The entries of a case, by the heads of the columns."""
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
            lines.append((_case(row), f"{row['seconds']['softgrad'] * 1e3:.3g}", _quotients(row)))
        heads = [head for head in (*_COLUMNS, *_OTHER_WAYS) if any(head in found for *_, found in lines)]
        yield f"{dtype}, {threads} thread{'s' if threads > 1 else ''}", heads, lines


def show(rows: list[dict[str, Any]], out: Terminal) -> None:
    """Print softgrad's time over everyone else's, a dtype and number of threads at a time."""
    out.say("Ratio: softgrad's time over the other library's, both of the same round; below 1 softgrad is faster.")
    out.say("±: by how much the least certain ratio of the line moved between rounds (half its interquartile range).")
    for dtype, threads in dict.fromkeys((row["dtype"], row["threads"]) for row in rows):
        some = [row for row in rows if (row["dtype"], row["threads"]) == (dtype, threads)]
        title = f"{dtype}, {threads} thread{'s' if threads > 1 else ''}"
        _show_ratios(f"{title}: softgrad on NumPy arrays", some, _ON_NUMPY, out)
        _show_ratios(f"{title}: softgrad on the library's own arrays (ms: on NumPy's)", some, _OWN_ARRAYS, out)
    noisy = sum(_spread(row, _ON_NUMPY) > NOISY for row in rows)
    out.say()
    if noisy:
        out.say(
            f"Noise: {noisy} of {len(rows)} cases, marked !, moved by more than {NOISY:.0%}. Measure again on "
            "an idle machine.",
            "warn",
        )


def _show_ratios(title: str, rows: list[dict[str, Any]], pairs: dict[str, tuple[str, str]], out: Terminal) -> None:
    there = {
        head: (ours, peer)
        for head, (ours, peer) in pairs.items()
        if any(ours in row["ratio"] and peer in row["ratio"] for row in rows)
    }
    if not there:
        if pairs is _ON_NUMPY:
            out.say()
            out.say(f"{title}; of {', '.join(pairs)} none is there to compare with")
            out.table(["case", "ms"], [[_case(row), f"{row['seconds']['softgrad'] * 1e3:.3g}"] for row in rows])
        return
    lines: list[list[Cell]] = []
    for row in rows:
        ratio, spread = row["ratio"], _spread(row, there)
        cells = [
            _cell(ratio[peer] / ratio[ours]) if ours in ratio and peer in ratio else "" for ours, peer in there.values()
        ]
        moved = (f"{spread:.0%} !", "warn") if spread > NOISY else (f"{spread:.0%}  ", "")
        lines.append([_case(row), f"{row['seconds']['softgrad'] * 1e3:.3g}", *cells, moved])
    out.say()
    out.say(title)
    out.table(["case", "ms", *(head.replace(".", ".\n").replace("-", "-\n") for head in there), "±  "], lines)


def _cell(ratio: float) -> Cell:
    return f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.1g}", "good" if ratio < 1 else ""


def _spread(row: dict[str, Any], pairs: dict[str, tuple[str, str]]) -> float:
    """Half of the range of a ratio's middle half, relative to it; that of the ratio that moved most."""

    def half(name: str) -> float:
        low, high = row["spread"][name]
        return (high - low) / (2 * row["ratio"][name])

    return max((half(a) + half(b) for a, b in pairs.values() if a in row["spread"] and b in row["spread"]), default=0.0)


def _case(row: dict[str, Any]) -> str:
    return f"{row['operation']} {'x'.join(map(str, row['shape']))}{' axis 0' if row['axis'] == 0 else ''}"


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


def show_memory(memory: dict[str, Any], out: Terminal) -> None:
    """Print the peaks that ``_memory.table`` measured."""
    out.say()
    out.say(f"MiB added by {memory['case']} (the gradient itself takes {memory['gradient']:.0f})")
    peaks = memory["peaks"].items()
    out.table(["", "MiB"], [[name, "-" if value is None else f"{value:.0f}"] for name, value in peaks])
