"""Compiling with g++ into a cache that parallel processes share."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
INCLUDE = HERE / "include"
SOURCES = HERE / "src"
LIBRARY_FLAGS = ("-O2", "-std=c++17", "-shared", "-fPIC", f"-I{INCLUDE}")


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


def run_compiler(arguments: list[str], target: Path) -> None:
    """Run g++ and put its output in place in one step, so that no other process sees half of it.

    Raises
    ------
    subprocess.CalledProcessError
        g++ found a fault; ``stderr`` holds its words.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch:
        output = Path(scratch) / "output"
        subprocess.run([compiler(), *arguments, "-o", str(output)], capture_output=True, text=True, check=True)
        output.replace(target)


def shared_library(name: str, source: str, *options: str) -> Path:
    """Compile one of the emulation's own sources, once, and return the library's path."""
    key = digest(identity(), source, *options)
    target = cache_directory() / f"{name}-{key}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"{name}.cpp"
            path.write_text(source)
            try:
                run_compiler([*LIBRARY_FLAGS, *processor_flags(), *options, str(path)], target)
            except subprocess.CalledProcessError as error:
                raise EmulationError(f"g++ cannot compile {name} of CuPy on the CPU: {error.stderr}") from error
    return target
