"""What an iteration of the linear model costs on Dask: measured here, and by a model where no machine here reaches.

    python benchmarks/scale.py            # four minutes on an idle machine; writes docs/_data and docs/_static
    python benchmarks/scale.py --quick    # half a minute, to see that it works
    python benchmarks/scale.py --draw     # page and picture again, from the file of the last measurement

Measures, interleaved, the loss and gradient of NumPy arrays and of Dask arrays in 16 chunks on the same cores; what
one more chunk costs the program, the threads' scheduler and the cluster's; and the bytes that two workers send each
other. The model takes these to clusters of growing size. Needs dask, distributed and matplotlib.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
import dask
import dask.array as da
import numpy as np

import softgrad as sg
from softgrad.testing.bench._timer import race

DOCS = Path(__file__).resolve().parent.parent / "docs"
#: Features and classes of the model that is projected (the first) and of one more that is measured.
MODELS = ((54, 7), (784, 10))
SAMPLES = {(54, 7): (100_000, 400_000, 1_600_000), (784, 10): (40_000, 160_000)}
QUICK = {(54, 7): (50_000, 400_000), (784, 10): (20_000,)}
#: Samples of an iteration on a cluster of two processes.
ON_CLUSTER, QUICK_ON_CLUSTER = (1_000_000, 4_000_000), (500_000,)
CHUNKS = 16
ITEM = 4

# --- the clusters of the model
#: Workers of one core each, and bytes of memory for the data of each.
WORKERS = (2, 32, 512)
MEMORY = 8e9
#: Bytes a second: from the disk or object store where the data outgrow the memory, and over the network, of a worker.
DISK, NETWORK = 200e6, 1.25e9
#: Bytes of the chunks to choose from.
SIZES = (5e6, 10e6, 20e6, 50e6, 100e6, 200e6, 400e6)
#: Partial results that one task merges.
FAN = 8


def data(samples: int, m: int, k: int) -> tuple[Any, ...]:
    """X, labels, W."""
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((samples, m), dtype=np.float32), rng.integers(0, k, samples)
    return X, labels, (rng.standard_normal((k, m)) / m**0.5).astype(np.float32)


def measure(samples: int, m: int, k: int, budget: float) -> dict[str, Any]:
    """Seconds an iteration of NumPy, and of Dask by threads on the same cores."""
    X, labels, W = data(samples, m, k)
    lazy, lazy_labels = da.from_array(X, chunks=(samples // CHUNKS, m)), da.from_array(labels, chunks=samples // CHUNKS)
    with dask.config.set(scheduler="threads", num_workers=os.cpu_count()):
        timings = race(
            {
                "numpy": lambda: sg.linear_cross_entropy_value_and_grad(X, labels, W),
                "dask": lambda: dask.compute(*sg.linear_cross_entropy_value_and_grad(lazy, lazy_labels, W)),
            },
            "numpy",
            rounds=31,
            budget=budget,
        )
    return {
        "samples": samples,
        "features": m,
        "classes": k,
        "numpy": timings["numpy"].seconds,
        "dask": timings["dask"].seconds,
        "ratio": timings["dask"].ratio,
        "spread": (timings["dask"].low, timings["dask"].high),
    }


def empty(chunks: int) -> Any:
    """The graph of an iteration whose chunks are next to nothing."""
    X, labels = da.ones((chunks * 2, 1), chunks=(2, 1)), da.zeros(chunks * 2, chunks=2, dtype="int64")
    return sg.linear_cross_entropy_value_and_grad(X, labels, np.zeros((2, 1)))


def slope(calls: dict[int, Any], rounds: int) -> float:
    """Seconds that one more chunk costs."""
    timings = race({str(n): call for n, call in calls.items()}, str(min(calls)), rounds=rounds, budget=20.0)
    few, many = min(calls), max(calls)
    return max(0.0, (timings[str(many)].seconds - timings[str(few)].seconds) / (many - few))


def per_task(quick: bool) -> dict[str, Any]:
    """Seconds a chunk costs beside its arithmetic, bytes of its graph, and what two workers send each other."""
    from distributed import Client, LocalCluster, wait

    rounds, counts = (3, (16, 64)) if quick else (7, (32, 256))
    graphs = {n: empty(n) for n in counts}
    out: dict[str, Any] = {"build": slope({n: lambda n=n: empty(n) for n in counts}, rounds)}
    with dask.config.set(scheduler="threads"):
        out["threads"] = slope({n: lambda g=g: dask.compute(*g) for n, g in graphs.items()}, rounds)
    sizes = [len(cloudpickle.dumps([dict(a.__dask_graph__()) for a in graphs[n]])) for n in counts]
    out["graph_bytes"] = (sizes[1] - sizes[0]) / (counts[1] - counts[0])
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local, Client(local) as client:
        out["cluster"] = slope({n: lambda g=g: dask.compute(*g) for n, g in graphs.items()}, rounds)
        k, m = 100, 2000
        X = client.persist(da.random.default_rng(0).random((16 * 50, m), chunks=(50, m)))
        labels = client.persist(da.zeros(16 * 50, chunks=50, dtype="int64"))
        sent_so_far = "transfer_outgoing_bytes_total"

        def total() -> int:
            return sum(client.run(lambda dask_worker: getattr(dask_worker, sent_so_far)).values())

        sent = []
        for i in range(3 if quick else 7):
            before = total()
            dask.compute(*sg.linear_cross_entropy_value_and_grad(X, labels, np.full((k, m), i / 1e6)))
            time.sleep(0.2)
            sent.append((total() - before) / (k * m * 8))
        out["sent_between_two"] = float(np.median(sent))
        m, k = MODELS[0]
        out["iterations"] = []
        for samples in QUICK_ON_CLUSTER if quick else ON_CLUSTER:
            rows = samples // 16
            lazy = da.random.default_rng(0).standard_normal((samples, m), chunks=(rows, m), dtype=np.float32)
            X, labels = client.persist((lazy, da.zeros(samples, chunks=rows, dtype="int64")))
            wait((X, labels))
            timing = race({"cluster": lambda X=X, y=labels: step(X, y, m, k)}, "cluster", rounds=rounds, budget=20.0)
            out["iterations"].append({"samples": samples, "seconds": timing["cluster"].seconds})
            del X, labels
    return out


def step(X: Any, labels: Any, m: int, k: int) -> None:
    """An iteration with coefficients that were never seen, so that nothing is taken from a result that is kept."""
    W = np.random.default_rng().standard_normal((k, m)).astype(np.float32)
    dask.compute(*sg.linear_cross_entropy_value_and_grad(X, labels, W))


def iteration(result: dict[str, Any], workers: int, samples: int, chunk: float) -> dict[str, Any]:
    """One iteration by the model, in chunks of so many bytes."""
    m, k = MODELS[0]
    mine = [row for row in result["measured"] if (row["features"], row["classes"]) == (m, k)]
    biggest = max(mine, key=lambda row: row["samples"])
    pace = biggest["dask"] / biggest["samples"] * result["machine"]["cores"]
    row_bytes, parameters = m * ITEM, k * m * ITEM
    rows = max(1, min(samples, int(chunk / row_bytes)))
    tasks = math.ceil(samples / rows)
    size, busy = samples * row_bytes, min(workers, tasks)
    merges = math.ceil((tasks - 1) / (FAN - 1))
    levels = max(1, math.ceil(math.log(max(tasks, 2), FAN)))
    # W is handed on from worker to worker; a level of the tree waits for what one task fetches
    hops = (math.ceil(math.log2(max(busy, 2))) + levels * (FAN - 1)) * parameters
    compute = pace * math.ceil(tasks / busy) * rows
    read = 0.0 if size <= workers * MEMORY else size / (workers * DISK)
    schedule = (tasks + merges) * (result["task"]["build"] + result["task"]["cluster"])
    return {
        "workers": workers,
        "samples": samples,
        "tasks": tasks,
        "chunk": rows * row_bytes,
        "bytes": size,
        "flops": 4 * samples * m * k,
        "network": (busy + tasks) * parameters,
        "compute": compute,
        "read": read,
        "schedule": schedule,
        "wire": hops / NETWORK,
        # the scheduler works while the workers do
        "seconds": max(compute + read, schedule) + hops / NETWORK,
    }


def project(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Iterations from 1e6 to 1e11 samples, each in the largest chunks that are as good as the best."""
    out = []
    for workers in WORKERS:
        for samples in (10**p for p in range(6, 12)):
            rows = [iteration(result, workers, samples, size) for size in SIZES]
            best = min(row["seconds"] for row in rows)
            out.append([row for row in rows if row["seconds"] <= 1.05 * best][-1])
    return out


def draw(result: dict[str, Any], path: Path, dark: bool) -> None:
    """Write the picture: seconds an iteration against samples, measured points marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ink, colors = (
        ("#d5dbe1", ("#56b4e9", "#00c08b", "#e69f00"))
        if dark
        else (
            "#1f2933",
            ("#0072b2", "#009e73", "#d55e00"),
        )
    )
    style = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink)
    with mpl.rc_context({**style, "svg.hashsalt": "scale", "font.size": 9}):
        fig, ax = plt.subplots(figsize=(7.2, 4.8), layout="constrained")
        for workers, color in zip(WORKERS, colors, strict=True):
            rows = [row for row in result["projected"] if row["workers"] == workers]
            x, y = [row["samples"] for row in rows], [row["seconds"] for row in rows]
            ax.plot(x, y, "--", color=color, linewidth=1.2, label=f"model, {workers:,} cores")
            for row in rows:
                ax.plot(
                    row["samples"],
                    row["seconds"],
                    "o",
                    color=color,
                    markersize=4.5,
                    markerfacecolor="none" if row["read"] else color,
                )
        m, k = MODELS[0]
        rows = [row for row in result["measured"] if (row["features"], row["classes"]) == (m, k)]
        cores = result["machine"]["cores"]
        x = [row["samples"] for row in rows]
        ax.plot(
            x,
            [row["numpy"] for row in rows],
            "s",
            color=ink,
            markersize=8,
            markerfacecolor="none",
            label=f"measured, NumPy, {cores} cores",
        )
        ax.plot(
            x,
            [row["dask"] for row in rows],
            "^",
            color=ink,
            markersize=6,
            label=f"measured, Dask, {CHUNKS} chunks, {cores} cores",
        )
        there = result["task"]["iterations"]
        ax.plot(
            [row["samples"] for row in there],
            [row["seconds"] for row in there],
            "x",
            color=ink,
            markersize=7,
            label="measured, cluster of 2 processes",
        )
        ax.plot(
            [], [], "o", color=ink, markersize=4.5, markerfacecolor="none", label="data read anew on each iteration"
        )
        ax.set(xscale="log", yscale="log", xlabel="samples", ylabel="seconds an iteration")
        ax.set_title(f"Loss and gradient of {m} features and {k} classes, float32", fontsize=10)
        ax.grid(which="major", linewidth=0.4, alpha=0.5)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=8, frameon=False)
        fig.savefig(path, transparent=True, metadata={"Date": None})
        plt.close(fig)


def number(x: float) -> str:
    """Two digits, as prose has them."""
    if x == 0:
        return "0"
    if 0.01 <= x < 1000:
        return f"{x:.0f}" if x >= 10 else f"{x:.2g}"
    power = math.floor(math.log10(x))
    return f"10{superscript(power)}" if math.isclose(x, 10.0**power) else f"{x / 10**power:.1f}·10{superscript(power)}"


def superscript(power: int) -> str:
    """An exponent."""
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def page(result: dict[str, Any]) -> str:
    """The tables of docs/scale.md."""
    machine, task = result["machine"], result["task"]
    load = "; other work was running" if machine["load"] > 0.5 * machine["cores"] else ""
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, NumPy {machine['numpy']}, "
        f"Dask {machine['dask']}, {machine['date']}{load}.",
        "",
        f"| samples | features | classes | NumPy ms | Dask ms, {CHUNKS} chunks | ratio (quartiles) |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["measured"]:
        low, high = row["spread"]
        cells = [f"{row['samples']:,}", row["features"], row["classes"], f"{row['numpy'] * 1e3:.1f}"]
        cells += [f"{row['dask'] * 1e3:.1f}", f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [
        "",
        "| For each chunk | |",
        "| --- | ---: |",
        f"| your program, building the graph | {task['build'] * 1e3:.2f} ms |",
        f"| the scheduler of threads | {task['threads'] * 1e3:.2f} ms |",
        f"| the scheduler of a cluster | {task['cluster'] * 1e3:.2f} ms |",
        f"| its part of the graph | {task['graph_bytes']:.0f} bytes |",
        f"| between two workers, an iteration | {task['sent_between_two']:.1f} times the bytes of W |",
        "",
        "| Cluster of two processes, samples | iteration s | by the model |",
        "| ---: | ---: | ---: |",
    ]
    for row in task["iterations"]:
        chunk = row["samples"] // 16 * MODELS[0][0] * ITEM
        said = iteration(result, 2, row["samples"], chunk)["seconds"]
        lines.append(f"| {row['samples']:,} | {row['seconds']:.3f} | {said:.3f} |")
    lines += [
        "",
        "| samples | cores | chunks | MB each | bytes of X | FLOPs | sent | compute s | read s | tasks s | in all s |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in result["projected"]:
        cells = [number(row["samples"]), f"{row['workers']:,}", f"{row['tasks']:,}", f"{row['chunk'] / 1e6:.0f}"]
        cells += [number(row[key]) for key in ("bytes", "flops", "network", "compute", "read", "schedule", "seconds")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measured(quick: bool) -> dict[str, Any]:
    """Everything that is measured, and the model's projection of it."""
    load = os.getloadavg()[0]
    rows = []
    for (m, k), sizes in (QUICK if quick else SAMPLES).items():
        for samples in sizes:
            rows.append(measure(samples, m, k, 3.0 if quick else 25.0))
            print(f"{samples:,} × {m}, {k} classes: ratio {rows[-1]['ratio']:.2f}", flush=True)
    result = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load": load,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "dask": dask.__version__,
        },
        "measured": rows,
        "task": per_task(quick),
    }
    result["projected"] = project(result)
    return result


def main() -> None:
    """Measure, write the file, the tables and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller measurements")
    parser.add_argument("--draw", action="store_true", help="tables and pictures of the last measurement")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where _data and _static are")
    args = parser.parse_args()
    kept, static = args.docs / "_data" / "scale.json", args.docs / "_static"
    kept.parent.mkdir(parents=True, exist_ok=True)
    static.mkdir(parents=True, exist_ok=True)
    if args.draw:
        result = json.loads(kept.read_text(encoding="utf-8"))
        result["projected"] = project(result)
    else:
        result = measured(args.quick)
    kept.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (static / "scale.md").write_text(page(result), encoding="utf-8")
    for theme in ("light", "dark"):
        draw(result, static / f"scale_{theme}.svg", theme == "dark")
    sys.stdout.write(page(result))


if __name__ == "__main__":
    main()
