"""The array libraries that the suite runs on: how each makes an array and hands its values back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

_PROBE_GPU = """
import cupy
cupy.cuda.runtime.getDeviceCount()
print(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
"""


@dataclass(frozen=True)
class Library:
    """One array library under test.

    ``put(host, dtype)`` takes a NumPy array and the name of a dtype, or None for the array's own.
    """

    xp: Any
    description: str
    put: Callable[[np.ndarray, str | None], Any]
    get: Callable[[Any], Any] = np.asarray
    dtypes: Any = None
    context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext

    def asarray(self, data: Any, dtype: str | None = "float64") -> Any:
        return self.put(np.asarray(data), dtype)

    def to_numpy(self, array: Any) -> np.ndarray:
        if isinstance(array, bool | int | float | complex | np.ndarray | np.generic):
            return np.asarray(array)
        return np.asarray(self.get(array))

    def has_dtype(self, name: str) -> bool:
        return hasattr(self.dtypes or self.xp, name)


def load_numpy() -> Library:
    def put(host: np.ndarray, dtype: str | None) -> np.ndarray:
        array = np.array(host, dtype=dtype)
        array.flags.writeable = False
        return array

    return Library(_namespace(np.zeros(1)), f"NumPy {np.__version__}, inputs read-only", put)


def load_torch() -> Library:
    import torch

    if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        # small tensors everywhere: more threads than cores would wait for each other
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(processes)))

    def put(host: np.ndarray, dtype: str | None) -> Any:
        tensor = torch.from_numpy(np.array(host))
        return tensor if dtype is None else tensor.to(getattr(torch, dtype))

    def get(tensor: Any) -> np.ndarray:
        tensor = tensor.detach().cpu()
        return tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()

    return Library(_namespace(torch.zeros(1)), f"PyTorch {torch.__version__}, on cpu", put, get)


def load_array_api_strict() -> Library:
    import array_api_strict as strict

    home, away = strict.Device("CPU_DEVICE"), strict.Device("device1")

    def put(host: np.ndarray, dtype: str | None) -> Any:
        return strict.asarray(host, dtype=dtype and getattr(strict, dtype), device=away, copy=True)

    return Library(
        strict,
        f"array-api-strict {strict.__version__}, on device1, no boolean indexing, no data-dependent shapes",
        put,
        lambda array: np.asarray(array.to_device(home)),
        context=lambda: strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False),
    )


def load_jax() -> Library:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    if cache := os.environ.get("SOFTGRAD_JAX_CACHE"):
        # a folder for each process: JAX writes its entries in place, and another process could read half of one
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        jax.config.update("jax_compilation_cache_dir", f"{cache}/{worker}")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

    def put(host: np.ndarray, dtype: str | None) -> Any:
        return jnp.asarray(host, dtype=dtype, copy=True)

    def get(array: Any) -> np.ndarray:
        return np.asarray(array.astype("float32") if array.dtype == jnp.bfloat16 else array)

    return Library(_namespace(jnp.zeros(1)), f"JAX {jax.__version__}, on {jax.default_backend()}, x64", put, get)


def load_cupy() -> Library:
    gpu = subprocess.run([sys.executable, "-c", _PROBE_GPU], capture_output=True, text=True, check=False)
    if gpu.returncode == 0:
        import cupy

        where = f"real GPU {gpu.stdout.strip()}"
    elif "ModuleNotFoundError" in gpu.stderr:
        raise ImportError(gpu.stderr.strip().splitlines()[-1])
    else:
        import cupy_on_cpu

        cupy = cupy_on_cpu.install()
        where = f"real CuPy {cupy.__version__} on the CPU, no GPU found"
    return Library(
        _namespace(cupy.zeros(1)),
        where,
        lambda host, dtype: cupy.array(host, dtype=dtype),
        cupy.asnumpy,
    )


def load_dask() -> Library:
    import dask
    import dask.array as da

    def put(host: np.ndarray, dtype: str | None) -> Any:
        array = np.array(host, dtype=dtype)
        chunks = list(array.shape)
        if array.ndim and chunks[0] > 1:
            chunks[0] = (chunks[0] // 2, chunks[0] - chunks[0] // 2)
        return da.from_array(array, chunks=tuple(chunks))

    return Library(
        _namespace(da.zeros(1)),
        f"Dask {dask.__version__}, the first axis in two chunks, synchronous scheduler",
        put,
        lambda array: array.compute(),
        dtypes=np,
        context=lambda: dask.config.set(scheduler="synchronous"),
    )


def load_ndonnx() -> Library:
    import ndonnx

    return Library(
        ndonnx,
        f"ndonnx {ndonnx.__version__}, with values",
        lambda host, dtype: ndonnx.asarray(np.array(host, dtype=dtype)),
        lambda array: array.unwrap_numpy(),
    )


def load_sparse() -> Library:
    import sparse

    return Library(
        sparse,
        f"sparse {sparse.__version__}",
        lambda host, dtype: sparse.COO.from_numpy(np.array(host, dtype=dtype)),
        lambda array: array.todense(),
    )


def _namespace(array: Any) -> Any:
    return array_api_compat.array_namespace(array)


LOADERS: dict[str, Callable[[], Library]] = {
    "numpy": load_numpy,
    "torch": load_torch,
    "array_api_strict": load_array_api_strict,
    "jax": load_jax,
    "cupy": load_cupy,
    "dask": load_dask,
    "ndonnx": load_ndonnx,
    "sparse": load_sparse,
}
