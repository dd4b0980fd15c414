"""The array libraries that the suite runs on, by what is declared of them, on devices and settings that tell most."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from softgrad._array.libraries import MATRIX, OTHERS, known
from softgrad._array.libraries.declaration import ArrayLibrary

_PROBE_GPU = """
import cupy
cupy.cuda.runtime.getDeviceCount()
print(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
"""


@dataclass(frozen=True)
class Library:
    """One array library under test, on one device."""

    declared: ArrayLibrary
    xp: Any
    description: str
    device: Any = None
    context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext

    def asarray(self, data: Any, dtype: str | None = "float64") -> Any:
        """An array of ``data``, in its own dtype where that is None; NumPy's are read-only."""
        host = np.asarray(data)
        array = self.declared.make(self.xp, host, dtype or host.dtype.name, self.device)
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
        return array

    def to_numpy(self, array: Any) -> Any:
        """A NumPy copy on the host; lazy arrays are computed, numbers pass."""
        if isinstance(array, bool | int | float | complex | np.ndarray | np.generic):
            return np.asarray(array)
        return np.asarray(self.declared.read_all(self.xp, [array])[0])

    def has_dtype(self, name: str) -> bool:
        """Whether arrays of a dtype can be made."""
        return name in self.declared.formats if name in ("float16", "bfloat16") else hasattr(self.xp, name)


def _torch() -> dict[str, Any]:
    import torch

    if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        # small tensors everywhere: more threads than cores would wait for each other
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(processes)))
    return {}


def _array_api_strict() -> dict[str, Any]:
    import array_api_strict as strict

    flags = functools.partial(strict.ArrayAPIStrictFlags, boolean_indexing=False, data_dependent_shapes=False)
    return {"note": "no boolean indexing, no data-dependent shapes", "context": flags}


def _jax() -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    if cache := os.environ.get("SOFTGRAD_JAX_CACHE"):
        # a folder for each process: JAX writes its entries in place, and another process could read half of one
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        jax.config.update("jax_compilation_cache_dir", f"{cache}/{worker}")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return {"note": "x64"}


def _cupy() -> dict[str, Any]:
    gpu = subprocess.run([sys.executable, "-c", _PROBE_GPU], capture_output=True, text=True, check=False)
    if gpu.returncode == 0:
        return {"note": f"real GPU {gpu.stdout.strip()}"}
    if "ModuleNotFoundError" in gpu.stderr:
        raise ImportError(gpu.stderr.strip().splitlines()[-1])
    import cupy_on_cpu

    cupy_on_cpu.install()
    return {"note": "real CuPy on the CPU, no GPU found"}


def _dask() -> dict[str, Any]:
    import dask

    return {
        "note": "the first axis in two chunks, synchronous scheduler",
        "context": functools.partial(dask.config.set, scheduler="synchronous"),
    }


#: What is set up before a library's first array is made, with words on it and the context that tests run in.
SETUPS: dict[str, Callable[[], dict[str, Any]]] = {
    "torch": _torch,
    "array_api_strict": _array_api_strict,
    "jax": _jax,
    "cupy": _cupy,
    "dask": _dask,
}


@functools.cache  # to look for a GPU takes a process
def load(name: str) -> Library:
    """A library, set up for tests, on another device than the default where it has one."""
    declared = known(name)
    setup = SETUPS[name]() if name in SETUPS else {}
    module = declared.namespace()
    xp = array_api_compat.array_namespace(module.zeros(1)) if declared.compat else module
    device = declared.other_device()
    array = declared.make(xp, np.zeros(1), "float64", device)
    words = [f"{declared.title} {_version(declared.root)}", f"on {declared.device_label(array)}"]
    words += [setup["note"]] if "note" in setup else []
    context = setup.get("context", contextlib.nullcontext)
    return Library(declared, xp, ", ".join(words), device, context)


def _version(root: str) -> str:
    return str(getattr(importlib.import_module(root), "__version__", ""))


LOADERS: dict[str, Callable[[], Library]] = {name: functools.partial(load, name) for name in (*MATRIX, *OTHERS)}
