"""Compiling with g++ into a cache that parallel processes share."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
SOURCES = HERE / "src"


class EmulationError(ImportError):
    """CuPy cannot be put on the CPU here; the message says why in one line."""


@functools.cache
def compiler() -> str:
    found = shutil.which("g++")
    if found is None:
        raise EmulationError("CuPy on the CPU compiles CuPy's kernels with g++, and there is no g++ on PATH")
    return found


@functools.cache
def cache_directory() -> Path:
    """Return the folder of compiled code: $SOFTGRAD_CUPY_CACHE, or one below the user's cache folder."""
    chosen = os.environ.get("SOFTGRAD_CUPY_CACHE")
    if not chosen:
        chosen = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "softgrad/cupy_on_cpu")
    path = Path(chosen).absolute()
    try:
        # What lies here is loaded as code: nobody else may write to it
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmulationError(f"cannot make the cache folder {path} (set SOFTGRAD_CUPY_CACHE): {error}") from error
    return path


@functools.cache
def identity() -> str:
    """Return what, besides source and options, decides the outcome: the compiler, its target and our headers."""
    about = subprocess.run([compiler(), "-v"], capture_output=True, text=True, check=True).stderr
    headers = (path.read_bytes() for path in sorted(INCLUDE.rglob("*.h")))
    return digest(about, *processor_flags(), *headers)


@functools.cache
def processor_flags() -> tuple[str, ...]:
    """Return the flags that let g++ contract a product and a sum into one FMA, as nvcc does by default."""
    with contextlib.suppress(OSError):
        cpu = Path("/proc/cpuinfo").read_text()
        if " fma " in cpu:
            return ("-mfma",)
    return ()


def digest(*parts: str | bytes) -> str:
    """Return a short name for the given texts."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(f"{len(data)}:".encode() + data)
    return sha.hexdigest()[:32]


def write(path: Path, text: str) -> None:
    """Put a text file in place in one step."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as scratch:
        (Path(scratch) / path.name).write_text(text)
        (Path(scratch) / path.name).replace(path)


def run_compiler(files: dict[str, str], arguments: Sequence[str], target: Path) -> None:
    """Run g++ on files of the given names and texts, and put its output in place.

    That happens in one step, in a folder of its own: other processes may be at the same, and must not see half of it.

    Raises
    ------
    subprocess.CalledProcessError
        g++ found a fault; ``stderr`` holds its words.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch:
        for name, text in files.items():
            (Path(scratch) / name).write_text(text)
        sources = [name for name in files if name.endswith((".cpp", ".h"))]
        # Libraries have to follow what needs them
        command = [compiler(), *sources, *arguments, "-o", "output"]
        subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=True)
        (Path(scratch) / "output").replace(target)


def shared_library(name: str, source: str, *options: str) -> Path:
    """Compile one of the emulation's own sources, once, and return the library's path."""
    target = cache_directory() / f"{name}-{digest(identity(), source, *options)}.so"
    if not target.exists():
        try:
            run_compiler({f"{name}.cpp": source}, [*library_flags(), *options], target)
        except subprocess.CalledProcessError as error:
            raise EmulationError(f"g++ cannot compile {name} of CuPy on the CPU: {error.stderr}") from error
    return target


def library_flags() -> list[str]:
    return ["-O2", "-std=c++17", "-shared", "-fPIC", f"-I{INCLUDE}", *processor_flags()]
