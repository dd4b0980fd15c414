"""``bench``: speed against the peers that are installed, as ratios of one run on this machine."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..testing._terminal import Terminal
from ..testing.bench import _report
from . import _output, _plot
from ._arguments import count
from ._errors import UsageError

GROUPS = ("dense", "tiny", "linear")
#: A compiler's remarks on how long it takes.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SOFTGRAD_WORKERS")


def add_parser(subparsers: Any) -> None:
    """Declare the command's arguments."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed against the other libraries that are installed",
        description="Measure softgrad against the libraries that are installed here, interleaved in one run. A ratio "
        "is softgrad's time over the other library's: below 1 softgrad is faster.",
    )
    parser.add_argument("--group", action="append", choices=GROUPS, help="what to measure (default: dense and tiny)")
    parser.add_argument("--dtype", action="append", choices=("float32", "float64"), help="precision (default: float32)")
    parser.add_argument(
        "--threads", action="append", type=count(1), metavar="N", help="number of threads (default: all cores)"
    )
    parser.add_argument("--quick", action="store_true", help="a few small cases, half a minute")
    parser.add_argument("--compile", action="store_true", help="other libraries through their compilers too: minutes")
    parser.add_argument("--memory", action="store_true", help="peak memory of the linear model too")
    parser.add_argument(
        "--rounds", type=count(1), metavar="N", help="rounds of a case at most, 3 at least (default: 9, --quick: 5)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write everything that was measured, more than the tables show"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the ratios to the best library: .png, .svg or .pdf"
    )
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, each number of threads in a process of its own, and print, write and draw what was asked for."""
    if args.child is not None:
        try:
            return _child(args)
        except KeyboardInterrupt:
            return 130  # the parent reports it
    if args.plot is not None:
        _plot.prepare(args.plot)
    if args.json is not None:
        _output.prepare("--json", args.json)
    out, progress = Terminal(sys.stdout), Terminal(sys.stderr)
    busy = _busy()
    rows: list[dict[str, Any]] = []
    failures: dict[str, str] = {}
    try:
        for threads in args.threads or [os.cpu_count() or 1]:
            for dtype in args.dtype or ["float32"]:
                rows += _measure(args, dtype, threads, progress, failures)
        result: dict[str, Any] = {"machine": _report.machine(), "cases": rows, "failures": failures}
        if args.memory:
            progress.status("peak memory, each library in a process of its own")
            result["memory"] = _memory()
    finally:
        progress.status("")
    _report.show(rows, out)
    if busy:
        out.say(busy, "warn")
    for name, words in failures.items():
        out.say(f"left out: {name}: {words[:300]}", "warn", "  ")
    if args.memory:
        _report.show_memory(result["memory"], out)
    if args.json is not None:
        _output.write("--json", args.json, (json.dumps(result, indent=0) + "\n").encode())
        out.say(f"Wrote {args.json}: everything that was measured.")
    if args.plot is not None:
        from ..testing.bench import _plot as picture

        content = io.BytesIO()
        picture.draw(result, content, format=args.plot.suffix.lower().removeprefix("."))
        _output.write("--plot", args.plot, content.getvalue())
        out.say(f"Wrote {args.plot}: the ratios to each library.")
    return 0


def _busy() -> str:
    """What to say of the other programs that run when the measuring begins."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    words = f"The machine was busy at the start: a load of {load:.1f} on {cores} cores. Ratios are less certain for it."
    return words if load > cores / 2 else ""


def _measure(
    args: argparse.Namespace, dtype: str, threads: int, progress: Terminal, failures: dict[str, str]
) -> list[dict[str, Any]]:
    """All cases of one dtype in one process, whose libraries are held to ``threads`` from their start."""
    asked = {"groups": args.group or ["dense", "tiny"], "dtype": dtype, "threads": threads}
    command = [sys.executable, "-m", __package__.rpartition(".")[0], "bench", "--child", json.dumps(asked)]
    command += [flag for flag, on in (("--quick", args.quick), ("--compile", args.compile)) if on]
    command += [f"--rounds={args.rounds}"] if args.rounds else []
    environment = _QUIET | os.environ | dict.fromkeys(_THREADS, str(threads))
    if threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    rows: list[dict[str, Any]] = []
    total = 0
    progress.status(f"{dtype}, {threads} threads: starting")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                try:
                    message = json.loads(line)
                except ValueError:
                    continue  # libraries print too
                total = message.get("total", total)
                failures |= message.get("failures", {})
                if "begin" in message:
                    progress.status(f"{len(rows) + 1} of {total}: {message['begin']}, {threads} threads")
                elif "ratio" in message:
                    rows.append(message)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise UsageError(f"the process that measures ended with exit code {child.returncode}")
    return rows


def _child(args: argparse.Namespace) -> int:
    from ..testing.bench import _cases, _contenders, _timer

    asked = args.child
    _contenders.hold_threads(asked["threads"])
    todo = _cases.cases(tuple(asked["groups"]), quick=args.quick)
    rounds, budget = (5, 1.0) if args.quick else (9, 6.0)
    print(json.dumps({"total": len(todo)}), flush=True)
    for case in todo:
        print(json.dumps({"begin": f"{case} {asked['dtype']}"}), flush=True)
        given = _cases.data(case, asked["dtype"])
        everyone = _contenders.contenders(case, given, compiled=args.compile)
        failures: dict[str, str] = {}
        timings = _timer.race(everyone, "softgrad", rounds=args.rounds or rounds, budget=budget, failures=failures)
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
            "failures": {f"{name}, {case}": words for name, words in failures.items()},
        }
        print(json.dumps(row), flush=True)
    return 0


def _short(number: float) -> float:
    """Four digits: more than a clock is good for."""
    return float(f"{number:.4g}")


def _memory() -> dict[str, Any]:
    from ..testing.bench import _cases, _memory

    case = _cases.Case("linear", (2048, 768, 32_000))
    return {"case": str(case), "dtype": "float32", **_memory.table(case, "float32")}
