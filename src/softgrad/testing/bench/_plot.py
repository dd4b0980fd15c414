"""One picture of a benchmark: the ratio to the best peer, and the distance to the floors."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_PEERS = ("scipy", "torch", "torch.compile", "jax.jit", "optax", "scikit-learn")
_MARKERS = {"scipy": "s", "torch": "o", "torch.compile": "^", "jax.jit": "D", "optax": "v", "scikit-learn": "P"}


def draw(result: dict[str, Any], path: Path | IO[bytes], **options: Any) -> None:
    """Write the picture of what ``bench`` measured; ``options`` are those of Matplotlib's ``savefig``."""
    rows = result["cases"]
    panels = list(dict.fromkeys((row["dtype"], row["threads"]) for row in rows))
    labels = list(dict.fromkeys(_label(row) for row in rows))
    height = max(3.0, 0.24 * len(labels) + 1.6)
    fig, axes = plt.subplots(
        1, len(panels), figsize=(3.2 + 4.2 * len(panels), height), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (dtype, threads) in zip(axes[0], panels, strict=True):
        _panel(ax, [row for row in rows if (row["dtype"], row["threads"]) == (dtype, threads)], labels)
        ax.set_title(f"{dtype}, {threads} thread{'s' if threads > 1 else ''}", fontsize=10)
    axes[0][0].set_yticks(range(len(labels)), labels, fontsize=8)
    axes[0][0].set_ylim(len(labels) - 0.5, -0.5)
    handles, names = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=min(5, len(names)), fontsize=8, frameon=False)
    machine = result["machine"]
    fig.suptitle(
        f"softgrad on NumPy arrays: its time over each peer's, left of 1 it is faster\n"
        f"{machine['processor']}, {machine['cores']} cores, {machine['date']}",
        fontsize=10,
    )
    fig.savefig(path, **({"dpi": 130} | options))
    plt.close(fig)


def _label(row: dict[str, Any]) -> str:
    return f"{row['operation']}  {'×'.join(map(str, row['shape']))}{' (axis 0)' if row['axis'] == 0 else ''}"


def _panel(ax: Axes, rows: list[dict[str, Any]], labels: list[str]) -> None:
    place = [labels.index(_label(row)) for row in rows]
    for peer in _PEERS:
        points = [(row["ratio"][peer], y) for row, y in zip(rows, place, strict=True) if peer in row["ratio"]]
        if points:
            ax.scatter(
                [x for x, _ in points], [y for _, y in points], marker=_MARKERS[peer], s=22, label=peer, alpha=0.85
            )
    floors = [
        (row["ratio"].get("floor: exp", row["ratio"].get("floor: two products")), y)
        for row, y in zip(rows, place, strict=True)
        if row["group"] != "tiny"
    ]
    if floors:
        x, y = zip(*floors, strict=True)
        ax.scatter(x, y, marker="|", s=60, color="0.5", label="floor: exp alone, or the two products")
    ink = mpl.rcParams["axes.edgecolor"]
    ax.axvline(1, color=ink, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlabel("time of softgrad / time of the peer", fontsize=8)
    ax.grid(axis="x", which="both", linewidth=0.3, alpha=0.6)
    for line in range(len(labels)):
        ax.axhline(line, color=ink, alpha=0.12, linewidth=0.5, zorder=0)
