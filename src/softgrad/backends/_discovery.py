"""Find back ends: built-in ones, loaded when an array type needs them, and those declared by other packages.

No lock of ours is held over an import, since it would deadlock with Python's own: every thread that needs a back end
imports it, which waits for another that is at it, and only then is it noted as loaded.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import threading
import warnings
from dataclasses import replace
from typing import Any

from .._array import libraries
from .._array.errors import BackendError, BackendWarning
from ._declaration import Backend

#: The entry point group in which other packages name their ``Backend``.
GROUP = "softgrad.backends"
_PACKAGE = __package__
#: Top-level module of an array's type: the built-in back ends (modules of this package) to load for it.
_BUILTIN = {
    "numpy": ("numpy", "numba"),
    "torch": ("torch", "triton", "torch_cpu"),
    "cupy": ("cupy",),
    "jax": ("jax", "jax_cpu"),
    "jaxlib": ("jax", "jax_cpu"),
    "dask": ("dask",),
    "scipy": ("sparse",),
}
_RESERVED = frozenset(name for names in _BUILTIN.values() for name in names)

#: All known back ends by name.
registered: dict[str, Backend] = {}
_loaded: set[str] = set()
#: Back ends that failed to load, with the library module at that time; another module is a reason to retry.
_failed: dict[str, Any] = {}
_builtin_types: set[str] = set()
_discovered = False
_here = threading.local()


def warn(name: str, error: BaseException | str) -> None:
    """Warn that a back end is ignored."""
    warnings.warn(f"back end {name!r} is left out: {error}", BackendWarning, stacklevel=4)


def half_imported(module: str) -> bool:
    """Whether a module is being imported further up the call stack."""
    return bool(getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False))


def _load_builtin(name: str) -> bool:
    """Load a built-in back end if possible; return False if its import is still in progress."""
    if name in _loaded or (name in _failed and _failed[name] is sys.modules.get(name)):
        return True
    path = f"{_PACKAGE}.{name}"
    try:
        backend = importlib.import_module(path).BACKEND if importlib.util.find_spec(path) is not None else None
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises must not reach the caller
        if half_imported(path):
            return False
        _failed[name] = sys.modules.get(name)
        warn(name, error)
        return True
    if backend is not None:  # None: what its kernels are made with is not installed
        _builtin_types.update(backend.types)
        registered.setdefault(backend.name, backend)
    _loaded.add(name)
    return True


def load_for(module: str) -> bool:
    """Load the built-in back ends for the types of a module; return False if an import is still in progress."""
    return all(_load_builtin(name) for name in _BUILTIN.get(module.partition(".")[0], ()))


def _declared(entry: importlib.metadata.EntryPoint) -> Backend | None:
    """Load the back end that another package declares; None if that package is still being imported."""
    try:
        backend = entry.load()
    except Exception:
        if half_imported(entry.value.partition(":")[0]):
            return None
        raise
    if not isinstance(backend, Backend):
        raise TypeError(f"{entry.value} is not a Backend")
    if backend.name in _RESERVED:
        raise BackendError("its name is taken by a built-in back end")
    if not all(load_for(path.partition(":")[0]) for path in backend.types):
        return None
    if not backend.opt_in and _builtin_types & set(backend.types):
        return replace(backend, opt_in=True)
    return backend


def discover() -> bool:
    """Load the back ends that other packages declare, once; return False if an import is still in progress."""
    global _discovered
    if _discovered or not __name__.startswith("softgrad."):
        return True  # inside another library the entry points speak to softgrad, not to the copy
    if getattr(_here, "discovering", False):
        return False
    _here.discovering = True
    whole = True
    try:
        for entry in importlib.metadata.entry_points(group=GROUP):
            try:
                backend = _declared(entry)
                if backend is None:
                    whole = False
                elif registered.setdefault(backend.name, backend) != backend:
                    raise BackendError("its name is taken")
                elif backend.library is not None:
                    libraries.add(backend.library)
            except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way, and none is the caller's
                warn(entry.name, error)
    finally:
        _here.discovering = False
    _discovered = whole
    return whole


# an unknown array type may belong to a library that another package declares
libraries.DISCOVER.append(discover)


def load_all() -> None:
    """Load the built-in back ends of all libraries that are installed, and discover the others."""
    for root in _BUILTIN:
        if sys.modules[root] is not None if root in sys.modules else importlib.util.find_spec(root) is not None:
            load_for(root)
    discover()
