"""``bench``: speed against the peers that are installed, as ratios of one run on this machine."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .._version import __version__
from ._errors import UsageError

GROUPS = ("dense", "tiny", "linear")
_VERSIONS = ("numpy", "scipy", "torch", "jax", "scikit-learn", "optax", "cupy-cuda12x", "numba")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "SOFTGRAD_WORKERS")


def add_parser(subparsers: Any) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed against the peers that are installed",
        description="Measure softgrad against the libraries that are installed here, interleaved in one run. A ratio "
        "below 1 means that softgrad on NumPy arrays is faster.",
    )
    parser.add_argument("--group", action="append", choices=GROUPS, help="what to measure (default: dense and tiny)")
    parser.add_argument("--dtype", action="append", choices=("float32", "float64"), help="default: float32")
    parser.add_argument("--threads", action="append", type=int, metavar="N", help="default: all cores")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller shapes")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: a minute or more of compiling")
    parser.add_argument("--memory", action="store_true", help="peak memory of the linear model too")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds a case at most (default: 9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios to the best peer")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, each number of threads in a process of its own, and print, write and draw what was asked for."""
    if args.child is not None:
        return _child(args)
    if args.plot is not None:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise UsageError("--plot needs matplotlib: install softgrad with its extra 'plot'") from None
    console = Console(stderr=True)
    groups = args.group or ["dense", "tiny"]
    rows: list[dict[str, Any]] = []
    for threads in args.threads or [os.cpu_count() or 1]:
        if threads < 1:
            raise UsageError(f"--threads must be at least 1, got {threads}")
        for dtype in args.dtype or ["float32"]:
            rows += _measure(args, groups, dtype, threads, console)
    result: dict[str, Any] = {"machine": _machine(), "cases": rows}
    if args.memory:
        result["memory"] = _memory(console)
    # cut to a pipe's 80 columns the table would lose its numbers
    out = Console(width=None if sys.stdout.isatty() else 150)
    for table in _tables(rows):
        out.print(table)
    if args.memory:
        out.print(_memory_table(result["memory"]))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot is not None:
        from ._bench_plot import draw

        draw(result, args.plot)
    return 0


def _measure(
    args: argparse.Namespace, groups: list[str], dtype: str, threads: int, console: Console
) -> list[dict[str, Any]]:
    """All cases of one dtype in one process, whose libraries are held to ``threads`` from their start."""
    asked = {"groups": groups, "dtype": dtype, "threads": threads}
    command = [sys.executable, "-m", "softgrad", "bench", "--child", json.dumps(asked), f"--rounds={args.rounds}"]
    command += [flag for flag, on in (("--quick", args.quick), ("--compile", args.compile)) if on]
    environment = os.environ | dict.fromkeys(_THREADS, str(threads))
    if threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    rows = []
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child,
        Progress(console=console, transient=True) as progress,
    ):
        task = progress.add_task(f"{dtype}, {threads} threads", total=None)
        assert child.stdout is not None
        for line in child.stdout:
            message = json.loads(line)
            if "total" in message:
                progress.update(task, total=message["total"])
            elif "begin" in message:
                progress.update(task, description=message["begin"])
            else:
                rows.append(message)
                progress.advance(task)
    if child.returncode:
        raise UsageError(f"the measuring process ended with exit code {child.returncode}")
    return rows


def _child(args: argparse.Namespace) -> int:
    from ..testing.bench import _cases, _contenders, _timer

    asked = args.child
    if _contenders.installed("torch"):
        _contenders.set_torch_threads(asked["threads"])
    todo = _cases.cases(tuple(asked["groups"]), quick=args.quick)
    print(json.dumps({"total": len(todo)}), flush=True)
    for case in todo:
        print(json.dumps({"begin": f"{case} {asked['dtype']}"}), flush=True)
        given = _cases.data(case, asked["dtype"])
        everyone = _contenders.contenders(case, given, compiled=args.compile)
        timings = _timer.race(everyone, "softgrad", rounds=args.rounds)
        row = {
            "operation": case.operation,
            "shape": case.shape,
            "axis": case.axis,
            "group": case.group,
            "dtype": asked["dtype"],
            "threads": asked["threads"],
            # a peer's time is in units of softgrad's, so softgrad's ratio to it is the inverse
            "seconds": {name: t.seconds for name, t in timings.items()},
            "ratio": {name: 1 / t.ratio for name, t in timings.items()},
            "spread": {name: (1 / t.high, 1 / t.low) for name, t in timings.items()},
        }
        print(json.dumps(row), flush=True)
    return 0


def _memory(console: Console) -> dict[str, Any]:
    from ..testing.bench import _cases, _memory

    case = _cases.Case("linear", (2048, 768, 32_000))
    with console.status("peak memory, each contender in a process of its own"):
        return {"case": str(case), "dtype": "float32", **_memory.table(case, "float32")}


def _machine() -> dict[str, Any]:
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


def _tables(rows: list[dict[str, Any]]) -> list[Table]:
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


def _memory_table(memory: dict[str, Any]) -> Table:
    table = Table(title=f"MiB added by {memory['case']} (the gradient itself takes {memory['gradient']:.0f})")
    table.add_column("")
    table.add_column("MiB", justify="right")
    for name, value in memory["peaks"].items():
        table.add_row(name, "-" if value is None else f"{value:.0f}")
    return table
