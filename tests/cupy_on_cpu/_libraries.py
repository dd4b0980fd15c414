"""Stand-ins for the libraries of CUDA: cuBLAS in C++, sorting and random numbers through NumPy."""

# ruff: noqa: N802 - methods bear the names of cuRAND's functions
from __future__ import annotations

import ctypes
import importlib.util
import math
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ._build import (
    SOURCES,
    EmulationError,
    cache_directory,
    digest,
    identity,
    library_flags,
    run_compiler,
)
from ._entry_points import load, moved
from ._log import log

_Note = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_kept: list[Any] = []


def load_stand_in(extension: str, source: Path | None = None) -> ctypes.CDLL:
    """Load a library of the name that one of CuPy's extension modules is linked with.

    What the module imports from it and the source lacks is added, and answers "not supported".
    """
    package, _, name = extension.rpartition(".")
    spec = importlib.util.find_spec(f".{name}", load(package).__name__)
    if spec is None or spec.origin is None:
        raise moved(extension, "there is no such module")
    text = source.read_text() if source else ""
    status = Path(spec.origin).stat()
    built = f"{spec.origin} {status.st_size} {status.st_mtime_ns}"
    folder = cache_directory() / f"library-{digest(identity(), built, text)}"
    ready = list(folder.glob("lib*.so.*"))
    return ctypes.CDLL(str(ready[0] if ready else _build(spec.origin, text, folder)), mode=ctypes.RTLD_GLOBAL)


def _build(extension: str, source: str, folder: Path) -> Path:
    name = Path(extension).name.partition(".")[0]
    soname = re.search(rf"NEEDED.*\[(lib{name}\.so[.\d]*)\]", _inspect("readelf", "-d", extension))
    if not soname:
        raise moved(extension, f"it is not linked with lib{name}")
    wanted = sorted(set(re.findall(rf"\bU ({name}\w+)", _inspect("nm", "-D", extension))))
    files = {
        "library.cpp": source,
        # A weak definition counts only where the source has none
        "stubs.cpp": "".join(f'extern "C" __attribute__((weak)) int {f}() {{ return 15; }}\n' for f in wanted),
        # Extension modules ask for symbols by name and version; the version is the library's name
        "versions": f"{soname[1]} {{ global: *; }};\n",
    }
    link = [f"-Wl,-soname,{soname[1]}", "-Wl,--version-script=versions"]
    run_compiler(files, [*library_flags(), *link], folder / soname[1])
    return folder / soname[1]


def _inspect(tool: str, *arguments: str) -> str:
    try:
        return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise EmulationError(f"CuPy on the CPU needs {tool} of binutils, and there is none on PATH") from None


def install_cublas() -> None:
    """Load the stand-in for cuBLAS; its calls are recorded as launches."""
    name = "cupy_backends.cuda.libs.cublas"
    library = load_stand_in(name, SOURCES / "cublas.cpp")
    note = _Note(lambda name: log.launches.append(name.decode()))
    _kept.append(note)
    library.emulator_set_note(note)
    # Asked of the package, the module would be preceded by a search for NVIDIA's library
    load(name)


def _view(address: int, shape: Sequence[int], dtype: Any) -> np.ndarray:
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = (ctypes.c_char * size).from_address(address) if size else b""
    return np.frombuffer(memory, dtype=dtype, count=math.prod(shape)).reshape(shape)


def _sort(dtype: Any, data_start: int, keys_start: int, shape: Sequence[int]) -> None:
    log.launches.append("thrust::sort")
    _view(data_start, shape, dtype).sort(axis=-1, kind="stable")


def _argsort(dtype: Any, idx_start: int, data_start: int, keys_start: int, shape: Sequence[int]) -> None:
    log.launches.append("thrust::argsort")
    data = _view(data_start, shape, dtype)
    order = data.argsort(axis=-1, kind="stable")
    _view(idx_start, shape, np.intp)[...] = order
    # Thrust sorts the data on the way
    data[...] = np.take_along_axis(data, order, axis=-1)


def _lexsort(dtype: Any, idx_start: int, keys_start: int, k: int, n: int) -> None:
    log.launches.append("thrust::lexsort")
    _view(idx_start, (n,), np.intp)[...] = np.lexsort(tuple(_view(keys_start, (k, n), dtype)))


def install_sorting(thrust: ModuleType) -> None:
    """Replace the sorting functions of ``cupy.cuda.thrust``, which hold precompiled device code."""
    for name, function in {"sort": _sort, "argsort": _argsort, "lexsort": _lexsort}.items():
        if not hasattr(thrust, name):
            raise moved(f"cupy.cuda.thrust.{name}", "there is no such function")
        setattr(thrust, name, function)


class _Random:
    """cuRAND's generators by NumPy's: the same distributions, other numbers."""

    def __init__(self) -> None:
        self._generators: dict[int, np.random.Generator] = {}

    def createGenerator(self, kind: int) -> int:
        handle = max(self._generators, default=0) + 1
        self._generators[handle] = np.random.default_rng(0)
        return handle

    def destroyGenerator(self, handle: int) -> None:
        self._generators.pop(handle, None)

    def setPseudoRandomGeneratorSeed(self, handle: int, seed: int) -> None:
        self._generators[handle] = np.random.default_rng(seed)

    def setGeneratorOffset(self, handle: int, offset: int) -> None:
        if offset:
            raise NotImplementedError("the CPU emulation's random numbers have no offset")

    def setStream(self, handle: int, stream: int) -> None:
        pass

    def _fill(self, address: int, values: np.ndarray) -> None:
        log.launches.append("curand::generate")
        _view(address, values.shape, values.dtype)[...] = values

    def generate(self, handle: int, address: int, num: int) -> None:
        self._fill(address, self._generators[handle].integers(0, 2**32, num, dtype=np.uint32))

    def generateUniform(self, handle: int, address: int, num: int) -> None:
        # cuRAND's interval is (0, 1], NumPy's [0, 1)
        self._fill(address, 1 - self._generators[handle].random(num, dtype=np.float32))

    def generateUniformDouble(self, handle: int, address: int, num: int) -> None:
        self._fill(address, 1 - self._generators[handle].random(num))

    def generateNormal(self, handle: int, address: int, n: int, mean: float, std: float) -> None:
        normal = self._generators[handle].standard_normal(n, dtype=np.float32)
        self._fill(address, normal * np.float32(std) + np.float32(mean))

    def generateNormalDouble(self, handle: int, address: int, n: int, mean: float, std: float) -> None:
        self._fill(address, self._generators[handle].normal(mean, std, n))


def install_random() -> None:
    """Replace cuRAND behind ``cupy.random``'s classic generator."""
    name = "cupy_backends.cuda.libs.curand"
    load_stand_in(name)
    curand = load(name)
    random = _Random()
    for name in (name for name in dir(_Random) if not name.startswith("_")):
        if not hasattr(curand, name):
            raise moved(f"cupy_backends.cuda.libs.curand.{name}", "there is no such function")
        setattr(curand, name, getattr(random, name))


def refuse_generators(random: ModuleType) -> None:
    """Make ``cupy.random``'s newer generators say that they are missing: precompiled, they would fill in nothing."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("CuPy on the CPU has cupy.random.RandomState, not default_rng and Generator")

    for name in ("default_rng", "Generator"):
        setattr(random, name, refuse)
