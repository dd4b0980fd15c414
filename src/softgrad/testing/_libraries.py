"""The array libraries that are known by name: how each is opened, fed, read and differentiated."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .._array.typing import Array

Host: TypeAlias = npt.NDArray[Any]


class LibraryMissingError(ImportError):
    """A library that cannot be used here; the message says why.

    Parameters
    ----------
    message : str
    absent : bool, default False
        Whether it is not installed at all.
    """

    def __init__(self, message: str, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


@dataclass(frozen=True)
class Library:
    """How one array library is spoken to. Every function takes the imported ``module`` first.

    ``put(module, host, dtype)`` makes an array on the library's default device, ``get(module, arrays)``
    brings several home (lazy ones in one go), ``device(module, array)`` names where an array lies, and
    ``gradient(module, X, labels, W)`` is the derivative by W of the loss written in the library's own
    functions, taken by its own automatic differentiation; ``autograd`` names that. ``compile(module, function)``
    is the function as users of the library run it.
    """

    name: str
    module: str
    put: Callable[[Any, Host, str], Array]
    get: Callable[[Any, Sequence[Array]], list[Host]]
    device: Callable[[Any, Array], str]
    autograd: str | None = None
    gradient: Callable[[Any, Array, Array, Array], Array] | None = None
    compile: Callable[[Any, Callable[..., Any]], Callable[..., Any]] = lambda module, function: function
    session: Callable[[Any], AbstractContextManager[Any]] = lambda module: contextlib.nullcontext()

    @property
    def root(self) -> str:
        """The name of the top-level package."""
        return self.module.partition(".")[0]


class OpenLibrary:
    """A library that was imported and has made an array on its default device.

    Parameters
    ----------
    library : Library
    module : module
        What ``library.module`` names.
    """

    def __init__(self, library: Library, module: ModuleType) -> None:
        self._library = library
        self._module = module
        self.name = library.name
        self.autograd = library.autograd
        self.version = _version(library.root)
        with self.session():
            probe = self.put(np.ones(2), "float32")
            self.get([probe + probe])
            self.device = library.device(module, probe)

    def put(self, host: Host, dtype: str) -> Array:
        """``host`` as an array of the library on its default device."""
        return self._library.put(self._module, host, dtype)

    def get(self, arrays: Sequence[Array]) -> list[Host]:
        """Host copies of ``arrays``."""
        return self._library.get(self._module, arrays)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of arrays as users of the library run it: compiled by JAX, else as it is."""
        return self._library.compile(self._module, function)

    def gradient(self, X: Array, labels: Array, W: Array) -> Array:
        """Differentiate the loss by W, ``(M, K)``, by the library's automatic differentiation."""
        if self._library.gradient is None:
            raise TypeError(f"{self.name} has no automatic differentiation")
        return self._library.gradient(self._module, X, labels, W)

    def session(self) -> AbstractContextManager[Any]:
        """Open a block in which the library computes in the width asked for."""
        return self._library.session(self._module)


def open_library(name: str) -> OpenLibrary:
    """Import a library of ``LIBRARIES`` and make a first array.

    Raises
    ------
    LibraryMissingError
        It is not installed, its import fails, or it has no device to compute on.
    """
    library = LIBRARIES[name]
    if importlib.util.find_spec(library.root) is None:
        raise LibraryMissingError("not installed", absent=True)
    try:
        module = importlib.import_module(library.module)
    except Exception as error:  # a broken installation raises whatever it likes
        raise LibraryMissingError(f"import fails: {_words(error)}") from error
    try:
        return OpenLibrary(library, module)
    except Exception as error:  # each driver has exceptions of its own
        raise LibraryMissingError(f"no usable device: {_words(error)}") from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _version(root: str) -> str:
    version = getattr(importlib.import_module(root), "__version__", None)
    if version is not None:
        return str(version)
    try:
        return importlib.metadata.version(root)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _put_asarray(module: Any, host: Host, dtype: str) -> Array:
    return module.asarray(host, dtype=getattr(module, dtype))


def _get_asarray(module: Any, arrays: Sequence[Array]) -> list[Host]:
    return [np.asarray(array) for array in arrays]


def _put_torch(torch: Any, host: Host, dtype: str) -> Array:
    return torch.asarray(host, dtype=getattr(torch, dtype), device=torch.get_default_device(), copy=True)


def _get_torch(torch: Any, arrays: Sequence[Array]) -> list[Host]:
    return [array.detach().cpu().numpy() for array in arrays]


def _gradient_torch(torch: Any, X: Array, labels: Array, W: Array) -> Array:
    W = W.detach().clone().requires_grad_()
    logits = W.T @ X
    chosen = logits.gather(0, labels.unsqueeze(0)).squeeze(0)
    loss = (torch.logsumexp(logits, 0) - chosen).sum()
    return torch.autograd.grad(loss, W)[0]


@contextlib.contextmanager
def _session_jax(jax_numpy: Any) -> Iterator[None]:
    jax: Any = importlib.import_module("jax")
    # older ones have it among the experiments alone
    home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    # on an accelerator JAX multiplies float32 matrices in fewer bits unless told otherwise
    with home.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


def _compile_jax(jnp: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    # eagerly, JAX compiles every operation by itself: ten times as long
    jax: Any = importlib.import_module("jax")
    compiled: Callable[..., Any] = jax.jit(function)
    return compiled


def _gradient_jax(jnp: Any, X: Array, labels: Array, W: Array) -> Array:
    jax: Any = importlib.import_module("jax")

    def loss(W: Array) -> Array:
        logits = W.T @ X
        chosen = jnp.take_along_axis(logits, labels[None, :], axis=0)[0]
        return jnp.sum(jax.nn.logsumexp(logits, axis=0) - chosen)

    return jax.jit(jax.grad(loss))(W)


def _put_dask(da: Any, host: Host, dtype: str) -> Array:
    # several chunks, or nothing of what Dask does would be seen
    chunks = tuple(-(-size // 4) if size >= 1024 else size for size in host.shape)
    return da.from_array(np.array(host, dtype=dtype), chunks=chunks)


def _get_dask(da: Any, arrays: Sequence[Array]) -> list[Host]:
    dask: Any = importlib.import_module("dask")
    return [np.asarray(array) for array in dask.compute(*arrays)]


LIBRARIES: dict[str, Library] = {
    library.name: library
    for library in (
        Library("numpy", "numpy", _put_asarray, _get_asarray, lambda np, array: "cpu"),
        Library(
            "torch",
            "torch",
            _put_torch,
            _get_torch,
            lambda torch, array: str(array.device),
            "torch autograd",
            _gradient_torch,
        ),
        Library(
            "jax",
            "jax.numpy",
            _put_asarray,
            _get_asarray,
            lambda jnp, array: f"{array.device.platform}:{array.device.id}",
            "jax.grad",
            _gradient_jax,
            _compile_jax,
            _session_jax,
        ),
        Library(
            "array_api_strict",
            "array_api_strict",
            _put_asarray,
            _get_asarray,
            lambda strict, array: "cpu" if "CPU_DEVICE" in str(array.device) else str(array.device),
        ),
        Library(
            "cupy",
            "cupy",
            _put_asarray,
            lambda cupy, arrays: [cupy.asnumpy(array) for array in arrays],
            lambda cupy, array: f"cuda:{array.device.id}",
        ),
        Library("dask", "dask.array", _put_dask, _get_dask, lambda da, array: "cpu"),
    )
}
