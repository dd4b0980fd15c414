"""The array libraries of the test matrix, opened: imported, with a device to compute on."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._array.libraries import MATRIX, known
from .._array.libraries.declaration import ArrayLibrary
from .._array.typing import AnyArray, NDArray
from ._host import Arrays


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


#: The libraries that checks are run on, by name.
LIBRARIES: dict[str, ArrayLibrary] = {name: known(name) for name in MATRIX}


class OpenLibrary:
    """A library that was imported and has made an array on its default device.

    Parameters
    ----------
    declared : ArrayLibrary
    """

    def __init__(self, declared: ArrayLibrary) -> None:
        self.name = declared.name
        self.autograd = declared.autograd
        self.version = _version(declared.root)
        self._declared = declared
        self._arrays = Arrays.of(declared.namespace())
        self.session = declared.session
        with self.session():
            probe = self.put(np.ones(2), "float32")
            self.get([probe + probe])
            self.device = declared.device_label(probe)

    def put(self, host: NDArray, dtype: str) -> AnyArray:
        """``host`` as an array of the library on its default device."""
        return self._arrays.put(host, dtype)

    def get(self, arrays: Sequence[AnyArray]) -> list[NDArray]:
        """NDArray copies of ``arrays``; lazy ones are computed in one go."""
        return self._declared.read_all(self._arrays.xp, arrays)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` of arrays as users of the library run it: compiled by JAX, else as it is."""
        return self._declared.compile(function) if self._declared.compile else function

    def gradient(self, X: AnyArray, labels: AnyArray, W: AnyArray) -> AnyArray:
        """Differentiate the loss by W, ``(M, K)``, by the library's automatic differentiation."""
        if self._declared.gradient is None:
            raise TypeError(f"{self.name} has no automatic differentiation")
        return self._declared.gradient(X, labels, W)


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
        library.namespace()
    except Exception as error:  # a broken installation raises whatever it likes
        raise LibraryMissingError(f"import fails: {_words(error)}") from error
    try:
        return OpenLibrary(library)
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
