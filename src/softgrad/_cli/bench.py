"""``bench``: speed against the peers that are installed, as ratios of one run on this machine."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from ..testing.bench import _report
from ._errors import UsageError

GROUPS = ("dense", "tiny", "linear")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SOFTGRAD_WORKERS")


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
    parser.add_argument("--compile", action="store_true", help="peers through their compilers too: minutes")
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
    result: dict[str, Any] = {"machine": _report.machine(), "cases": rows}
    if args.memory:
        result["memory"] = _memory(console)
    # cut to a pipe's 80 columns the table would lose its numbers
    out = Console(width=None if sys.stdout.isatty() else 150)
    for table in _report.tables(rows):
        out.print(table)
    if args.memory:
        out.print(_report.memory_table(result["memory"]))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=0) + "\n")
    if args.plot is not None:
        from ..testing.bench._plot import draw

        draw(result, args.plot)
    return 0


def _measure(
    args: argparse.Namespace, groups: list[str], dtype: str, threads: int, console: Console
) -> list[dict[str, Any]]:
    """All cases of one dtype in one process, whose libraries are held to ``threads`` from their start."""
    asked = {"groups": groups, "dtype": dtype, "threads": threads}
    command = [
        sys.executable,
        "-m",
        __package__.rpartition(".")[0],
        "bench",
        "--child",
        json.dumps(asked),
        f"--rounds={args.rounds}",
    ]
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
    _contenders.hold_threads(asked["threads"])
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
            "seconds": {name: _short(t.seconds) for name, t in timings.items()},
            "ratio": {name: _short(1 / t.ratio) for name, t in timings.items()},
            "spread": {name: (_short(1 / t.high), _short(1 / t.low)) for name, t in timings.items()},
        }
        print(json.dumps(row), flush=True)
    return 0


def _short(number: float) -> float:
    """Four digits: more than a clock is good for."""
    return float(f"{number:.4g}")


def _memory(console: Console) -> dict[str, Any]:
    from ..testing.bench import _cases, _memory

    case = _cases.Case("linear", (2048, 768, 32_000))
    with console.status("peak memory, each contender in a process of its own"):
        return {"case": str(case), "dtype": "float32", **_memory.table(case, "float32")}
