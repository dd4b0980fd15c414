"""The array libraries known by name: an entry here, and ``LIBRARY`` in the module of that name.

This file imports only the standard library, because ``noxfile.py`` reads it too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .declaration import ArrayLibrary

#: Top-level modules of the array types of each library that the default test matrix runs on.
MATRIX = {
    "numpy": ("numpy",),
    "torch": ("torch",),
    "jax": ("jax", "jaxlib"),
    "array_api_strict": ("array_api_strict",),
    "cupy": ("cupy",),
    "dask": ("dask",),
}
#: Those of libraries tested outside the matrix, by ``nox -s others``.
OTHERS = {"ndonnx": ("ndonnx",), "sparse": ("sparse",)}
_NAMES = {root: name for name, roots in (*MATRIX.items(), *OTHERS.items()) for root in roots}
_known: dict[str, ArrayLibrary] = {}
_of_types: dict[str, ArrayLibrary] = {}
#: Called when an array type is unknown; the registry of back ends adds its discovery here.
DISCOVER: list[Callable[[], object]] = []


def known(name: str) -> ArrayLibrary:
    """The declaration of the library called ``name``; the defaults if there is none."""
    if name not in _known:
        own = name in MATRIX or name in OTHERS
        module = importlib.import_module(f".{name if own else 'declaration'}", __name__)
        _known[name] = module.LIBRARY if own else module.ArrayLibrary(name, name)
    return _known[name]


def add(library: ArrayLibrary) -> None:
    """Add a library declared by a back end of another package."""
    _known[library.name] = library
    _of_types.update(dict.fromkeys(library.types, library))


def names_of(cls: type) -> set[str]:
    """``module:QualifiedName`` of a type and its bases, by each of the module's parents too."""
    out: set[str] = set()
    for base in cls.__mro__:
        parts = base.__module__.split(".")
        out.update(f"{'.'.join(parts[: i + 1])}:{base.__qualname__}" for i in range(len(parts)))
    return out


def of_type(cls: type) -> ArrayLibrary | None:
    """The library of an array type, from the type alone; None if it is unknown."""
    if cls.__module__ == "builtins":
        return None
    for base in cls.__mro__:
        name = _NAMES.get(base.__module__.partition(".")[0])
        if name is not None:
            return known(name)
    for discover in DISCOVER:
        discover()
    return next((_of_types[name] for name in names_of(cls) if name in _of_types), None)
