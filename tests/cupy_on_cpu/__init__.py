"""Real CuPy, on the CPU: the unmodified wheel with another device beneath it.

>>> import cupy_on_cpu
>>> cupy = cupy_on_cpu.install()  # before anything imports cupy
>>> with cupy_on_cpu.count() as record:
...     y = cupy.exp(x)

What runs is CuPy's own code, its dispatch, its refusals, and the CUDA sources that it generates, down to two layers.
The functions of CUDA's runtime and driver that CuPy's modules call are replaced (``_entry_points``, ``_runtime``,
``_driver``, ``_memory``), and the sources are compiled by g++ instead of NVRTC, into a cache (``_compile``). Threads of
a block are fibers, with CUDA's barriers and warp exchange (``src/threads.cpp``). cuBLAS is a small stand-in
(``src/cublas.cpp``); sorting and cuRAND go through NumPy (``_libraries``).

More strictly than a GPU: memory never written holds NaN, writes beyond an array raise, a barrier that not every thread
reaches raises, and every copy to the host is counted and can be forbidden.

What this cannot show: speed; races, as one thread runs at a time and blocks run in order; warps in lockstep without
``__syncwarp`` (``cupy.partition`` relies on it); the rounding and order of sums of cuBLAS and of CUDA's mathematics;
float32 subnormals, which CuPy has NVRTC flush to zero; streams; the limits of memory and registers; several devices;
CUB, cuSOLVER, cuSPARSE, cuFFT, ``cupy.random.default_rng``; and what NVRTC would refuse where g++ does not.

Needs g++ and Linux. Environment: ``SOFTGRAD_CUPY_CACHE``, the folder of compiled kernels.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from . import _compile, _entry_points, _libraries
from ._build import INCLUDE, SOURCES, EmulationError, shared_library
from ._driver import Driver
from ._log import HostTransferError, Record, count, forbid_host_copies, log, sources_alone
from ._memory import DeviceFaultError, Memory
from ._runtime import Runtime

__all__ = [
    "DeviceFaultError",
    "EmulationError",
    "HostTransferError",
    "Record",
    "count",
    "forbid_host_copies",
    "install",
    "installed",
    "log",
    "sources_alone",
]

_installed: ModuleType | None = None


def installed() -> bool:
    """Whether :func:`install` has run in this process."""
    return _installed is not None


def install() -> ModuleType:
    """Put CuPy on the CPU and return it.

    Returns
    -------
    module
        ``cupy``. Calls after the first return the same.

    Raises
    ------
    EmulationError
        An ``ImportError``: there is no CuPy or no g++, something has imported CuPy before, or a release of CuPy has its
        entry points elsewhere.
    """
    global _installed
    if _installed is None:
        if "cupy" in sys.modules:
            raise EmulationError("cupy_on_cpu.install() has to run before anything imports cupy")
        if not sys.platform.startswith("linux"):
            raise EmulationError("CuPy on the CPU runs on Linux alone")
        _installed = _install()
    return _installed


def _install() -> ModuleType:
    _entry_points.cupy_version()
    # CUB and cuTENSOR are precompiled device code
    os.environ["CUPY_ACCELERATORS"] = ""
    source = (SOURCES / "threads.cpp").read_text()
    threads = ctypes.PyDLL(str(shared_library("threads", source)), mode=ctypes.RTLD_GLOBAL)
    memory = Memory()
    # From the start of the teardown to the end of the process nothing may call into Python
    atexit.register(_entry_points.replace("cupy_backends.cuda.api.runtime", Runtime(memory)))
    atexit.register(_entry_points.replace("cupy_backends.cuda.api.driver", Driver(memory, threads)))
    _libraries.install_cublas()
    with _as_toolkit(INCLUDE.parent):
        import cupy

        if not hasattr(cupy._core.core, "assemble_cupy_compiler_options"):
            raise _entry_points.moved("cupy._core.core.assemble_cupy_compiler_options", "there is no such function")
        # Now, so that CuPy remembers where it found the headers
        cupy._core.core.assemble_cupy_compiler_options(())
    # A pool would hand out used memory, and round sizes up: no NaN in new arrays, no guard right behind them
    cupy.cuda.set_allocator(None)
    _compile.install(cupy.cuda.compiler)
    _libraries.install_sorting(cupy.cuda.thrust)
    _libraries.install_random()
    _libraries.refuse_generators(cupy.random)
    return cupy


@contextlib.contextmanager
def _as_toolkit(folder: Path) -> Iterator[None]:
    """Show CuPy a folder as the CUDA toolkit's: without headers of CUDA it compiles nothing."""
    before = os.environ.get("CUDA_PATH")
    os.environ["CUDA_PATH"] = str(folder)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Multiple CUDA environment variables")
            yield
    finally:
        if before is None:
            del os.environ["CUDA_PATH"]
        else:
            os.environ["CUDA_PATH"] = before
