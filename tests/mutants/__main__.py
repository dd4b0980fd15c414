"""Inject each bug of the catalogue and see which array library notices: ``python tests/mutants --backend torch``.

The generic code is what is tested, on every library: back ends that replace it are not used. Exit status 1 if a bug
goes unnoticed everywhere.
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
#: The slowest first: the others fill in beside them.
BACKENDS = ("jax", "torch", "cupy", "dask", "array_api_strict", "numpy")
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


def table(mutants: list[Mutant], backends: list[str], found: dict[tuple[str, str], dict[str, object]]) -> None:
    """Print which library caught which mutant."""
    width = max(len(mutant.name) for mutant in mutants)
    print(" " * width, *backends, sep="  ")
    for mutant in mutants:
        cells = (("caught" if found[b, mutant.name]["caught"] else "-").center(len(b)) for b in backends)
        print(mutant.name.ljust(width), *cells, sep="  ")
    totals = [sum(bool(found[b, mutant.name]["caught"]) for mutant in mutants) for b in backends]
    print("caught".ljust(width), *(str(n).center(len(b)) for n, b in zip(totals, backends, strict=True)), sep="  ")


def main() -> int:
    """Run the mutants asked for on the libraries asked for."""
    parser = argparse.ArgumentParser(prog="python tests/mutants", description=__doc__)
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="library to run on (all)")
    parser.add_argument("--mutant", action="append", metavar="WORDS", help="run only mutants so named (all)")
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
        names = [UNCHANGED, *(mutant.name for mutant in mutants)]

        def run(backend: str) -> None:
            for name, outcome in outcomes(backend, names, folder):
                found[backend, name] = outcome
                if arguments.verbose and outcome["caught"]:
                    print(f"{backend}: {name}: {outcome['by']}", flush=True)

        list(pool.map(run, backends))
    broken = [b for b in backends if found[b, UNCHANGED]["caught"]]
    if broken:
        for backend in broken:
            print(f"{backend}: the tests fail without a mutant: {found[backend, UNCHANGED]['by']}")
        return 1
    table(mutants, backends, found)
    survivors = [m.name for m in mutants if not any(found[b, m.name]["caught"] for b in backends)]
    print(f"\n{len(mutants) - len(survivors)} of {len(mutants)} caught in {time.monotonic() - began:.0f} s")
    for name in survivors:
        print(f"survives: {name}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
