"""What an iteration of the linear model costs on Dask, measured and projected.

    python benchmarks/scale.py --json docs/_static/scale.json --plot docs/_static/scale.png

Measures, interleaved: the loss and gradient of plain NumPy arrays, of Dask arrays in 16 chunks on the same cores, and
the scheduler's time a task; then projects one iteration from 1e6 to 1e11 samples for clusters of growing size. Needs
dask, distributed and matplotlib.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np

import softgrad as sg
from softgrad.testing.bench._timer import race

M, K = 54, 7
CHUNKS = 16
SAMPLES = (100_000, 400_000, 1_600_000)
#: Workers of the projected clusters, and the samples of a chunk: 23 MB of float32.
CLUSTERS = (2, 32, 512)
CHUNK = 100_000
#: Bytes a second that a worker reads from its disk or object store, where the data no longer fit in memory.
DISK = 200e6


def measure(samples: int) -> dict[str, Any]:
    """Seconds an iteration of NumPy, and of Dask by threads on the same cores."""
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((samples, M), dtype=np.float32), rng.integers(0, K, samples)
    W = (rng.standard_normal((K, M)) / M**0.5).astype(np.float32)
    lazy, lazy_labels = da.from_array(X, chunks=(samples // CHUNKS, M)), da.from_array(labels, chunks=samples // CHUNKS)
    with dask.config.set(scheduler="threads", num_workers=os.cpu_count()):
        timings = race(
            {
                "numpy": lambda: sg.linear_cross_entropy_value_and_grad(X, labels, W),
                "dask": lambda: dask.compute(*sg.linear_cross_entropy_value_and_grad(lazy, lazy_labels, W)),
            },
            "numpy",
            rounds=15,
            budget=30.0,
        )
    return {
        "samples": samples,
        "numpy": timings["numpy"].seconds,
        "dask": timings["dask"].seconds,
        "ratio": timings["dask"].ratio,
        "spread": (timings["dask"].low, timings["dask"].high),
    }


def seconds_a_task() -> dict[str, float]:
    """The cost of a task that computes next to nothing: by threads, and on a cluster of two processes."""
    from distributed import Client, LocalCluster

    def empty(chunks: int) -> Any:
        rows = chunks * 2
        X, labels = da.ones((rows, 1), chunks=(2, 1)), da.zeros(rows, chunks=2, dtype="int64")
        return sg.linear_cross_entropy_value_and_grad(X, labels, np.zeros((2, 1)))

    def slope(calls: dict[int, Any]) -> float:
        timings = race({str(n): lambda c=c: dask.compute(*c) for n, c in calls.items()}, str(min(calls)), rounds=5)
        few, many = min(calls), max(calls)
        return (timings[str(many)].seconds - timings[str(few)].seconds) / (many - few)

    calls = {n: empty(n) for n in (32, 256)}
    with dask.config.set(scheduler="threads"):
        threads = slope(calls)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local, Client(local):
        return {"threads": threads, "cluster": slope(calls)}


def project(result: dict[str, Any]) -> list[dict[str, Any]]:
    """One iteration by the model: rows at the measured pace, tasks through one scheduler, reads beyond memory."""
    biggest = max(result["measured"], key=lambda row: row["samples"])
    row = biggest["dask"] / biggest["samples"] * result["cores"]
    out = []
    for workers in CLUSTERS:
        for samples in (10**p for p in range(6, 12)):
            tasks = -(-samples // CHUNK)
            size = samples * M * 4
            in_memory = size <= workers * 8e9
            compute = samples * row / workers
            schedule = tasks * 9 / 8 * result["task"]["cluster"]
            read = 0.0 if in_memory else size / (workers * DISK)
            out.append(
                {
                    "workers": workers,
                    "samples": samples,
                    "tasks": tasks,
                    "bytes": size,
                    "flops": 4 * samples * M * K,
                    "compute": compute,
                    "schedule": schedule,
                    "read": read,
                    # the scheduler works while the workers do
                    "seconds": max(compute + read, schedule),
                }
            )
    return out


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the picture: seconds an iteration against samples, measured points marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    for workers in CLUSTERS:
        rows = [row for row in result["projected"] if row["workers"] == workers]
        ax.plot(
            [row["samples"] for row in rows],
            [row["seconds"] for row in rows],
            "--",
            marker=".",
            label=f"projected, {workers} workers of one core and 8 GB",
        )
    measured = result["measured"]
    samples = [row["samples"] for row in measured]
    ax.plot(samples, [row["numpy"] for row in measured], "ks", label=f"measured, NumPy, {result['cores']} cores")
    ax.plot(
        samples,
        [row["dask"] for row in measured],
        "r^",
        label=f"measured, Dask, {CHUNKS} chunks, {result['cores']} cores",
    )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("samples")
    ax.set_ylabel("seconds an iteration")
    ax.set_title(f"Loss and gradient of {M} features and {K} classes, float32", fontsize=10)
    ax.grid(which="major", linewidth=0.4)
    ax.legend(fontsize=8, frameon=False)
    fig.savefig(path, dpi=130)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {"numpy": np.__version__, "dask": dask.__version__},
        "measured": [measure(samples) for samples in SAMPLES],
        "task": seconds_a_task(),
    }
    result["projected"] = project(result)
    for row in result["measured"]:
        low, high = row["spread"]
        print(
            f"{row['samples']:>9,} samples: numpy {row['numpy'] * 1e3:.1f} ms, dask {row['dask'] * 1e3:.1f} ms, "
            f"ratio {row['ratio']:.2f} ({low:.2f} to {high:.2f})"
        )
    print("a task costs", ", ".join(f"{s * 1e3:.2f} ms by {name}" for name, s in result["task"].items()))
    print("| samples | workers | tasks | bytes | FLOPs | compute s | schedule s | read s | iteration s |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in result["projected"]:
        cells = [f"{row['samples']:.0e}", row["workers"], row["tasks"], f"{row['bytes']:.1e}", f"{row['flops']:.1e}"]
        cells += [f"{row[key]:.2g}" for key in ("compute", "schedule", "read", "seconds")]
        print("| " + " | ".join(map(str, cells)) + " |")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        draw(result, args.plot)


if __name__ == "__main__":
    main()
