"""Inject each bug of the catalogue and see which array library notices: ``python tests/mutants --backend torch``.

The generic code is what is tested: back ends that replace it are not used. A bug goes from one library to the next
until one notices, with ``--every`` to all of them. Exit status 1 if a bug goes unnoticed everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from catalogue import MUTANTS, Mutant

REPO = Path(__file__).resolve().parents[2]
SOURCE = REPO / "src" / "softgrad"
#: The quickest first: few bugs are left to the slow ones.
BACKENDS = ("array_api_strict", "numpy", "torch", "dask", "cupy", "jax")
#: Bugs for which a second process of the same library is worth its start.
SHARE = 8
#: Seconds without a result after which a run counts as hung; JAX compiles for a minute before its first.
PATIENCE = 300
UNCHANGED = "(unchanged)"


def package(folder: Path, mutant: Mutant | None) -> None:
    """Make a copy of the package in ``folder``, with a bug in it."""
    shutil.copytree(SOURCE, folder / "softgrad", ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        mutant.mutate(folder / "softgrad")


def outcomes(backend: str, names: list[str], folder: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """What the tests say of each package; a worker that dies or hangs is replaced."""
    left = list(names)
    while left:
        worker = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), backend, str(folder), *left],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPO,
            env={**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=read, args=(worker, lines), daemon=True).start()
        while left:
            try:
                line = lines.get(timeout=PATIENCE)
            except queue.Empty:
                line = None
                worker.kill()
            if line is None:
                how = "hangs" if worker.wait() == -9 else f"ends the process: {worker.returncode}"
                yield left.pop(0), {"caught": True, "by": how}
                break
            if line.startswith("{"):
                yield left.pop(0), json.loads(line)
        worker.wait()


def read(worker: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    """Put a worker's lines into a queue, None at their end."""
    assert worker.stdout is not None
    for line in worker.stdout:
        lines.put(line)
    lines.put(None)


def caught(found: dict[tuple[str, str], dict[str, object]], backend: str, name: str) -> bool:
    """Whether a library was handed a bug and noticed."""
    return bool(found.get((backend, name), {"caught": False})["caught"])


def cell(outcome: dict[str, object] | None) -> str:
    """What the table says of an outcome: nothing of a library that was not asked."""
    return "" if outcome is None else "caught" if outcome["caught"] else "-"


def table(mutants: list[Mutant], backends: list[str], found: dict[tuple[str, str], dict[str, object]]) -> None:
    """Print which library caught which mutant."""
    width = max(len(mutant.name) for mutant in mutants)
    print(" " * width, *backends, sep="  ")
    for mutant in mutants:
        cells = (cell(found.get((b, mutant.name))).center(len(b)) for b in backends)
        print(mutant.name.ljust(width), *cells, sep="  ")
    totals = [sum(caught(found, b, mutant.name) for mutant in mutants) for b in backends]
    print("caught".ljust(width), *(str(n).center(len(b)) for n, b in zip(totals, backends, strict=True)), sep="  ")


def main() -> int:
    """Run the mutants asked for on the libraries asked for."""
    parser = argparse.ArgumentParser(prog="python tests/mutants", description=__doc__)
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="library to run on (all)")
    parser.add_argument("--mutant", action="append", metavar="WORDS", help="run only mutants so named (all)")
    parser.add_argument("--every", action="store_true", help="try every bug on every library")
    parser.add_argument("--verbose", action="store_true", help="name the first test that fails")
    arguments = parser.parse_args()
    backends = arguments.backend or list(BACKENDS)
    mutants = [m for m in MUTANTS if not arguments.mutant or any(words in m.name for words in arguments.mutant)]
    found: dict[tuple[str, str], dict[str, object]] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        folder = Path(temporary)
        package(folder / UNCHANGED, None)
        for mutant in mutants:
            package(folder / mutant.name.replace("/", "-"), mutant)
        left = [mutant.name for mutant in mutants]

        def run(backend: str, names: list[str]) -> None:
            for name, outcome in outcomes(backend, [UNCHANGED, *names], folder):
                if name == UNCHANGED and caught(found, backend, name):
                    continue  # by another process
                found[backend, name] = outcome
                if arguments.verbose and outcome["caught"]:
                    print(f"{backend}: {name}: {outcome['by']}", flush=True)

        for backend in backends:
            processes = max(1, min(os.cpu_count() or 1, len(left) // SHARE))
            list(pool.map(run, [backend] * processes, [left[i::processes] for i in range(processes)]))
            if caught(found, backend, UNCHANGED):
                break
            if not arguments.every:
                left = [name for name in left if not caught(found, backend, name)]
            if not left:
                break
    broken = [b for b in backends if caught(found, b, UNCHANGED)]
    if broken:
        for backend in broken:
            print(f"{backend}: the tests fail without a mutant: {found[backend, UNCHANGED]['by']}")
        return 1
    table(mutants, backends, found)
    survivors = [m.name for m in mutants if not any(caught(found, b, m.name) for b in backends)]
    print(f"\n{len(mutants) - len(survivors)} of {len(mutants)} caught in {time.monotonic() - began:.0f} s")
    for name in survivors:
        print(f"survives: {name}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
