"""``info``: the array libraries that are there, and which code softgrad runs on their arrays."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
import warnings
from typing import Any

import numpy as np

from .. import backends
from .._array.errors import BackendError, BackendWarning
from .._version import __version__
from ..testing._libraries import LIBRARIES, LibraryMissingError, OpenLibrary, open_library

#: The example that ``explain`` is asked about: logits of so many samples and classes.
_SAMPLES, _CLASSES, _ATTRIBUTES = 1000, 10, 20
_DTYPE = "float32"


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "info",
        help="list the back ends, their versions and devices, and which kernels are replaced",
        description="List the array libraries that are installed, and which code softgrad runs on them.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    found = _collect()
    if args.json:
        json.dump(found, sys.stdout, indent=2)
        print()
    else:
        from . import _table

        _table.show_info(found)
    return 0


def _collect() -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BackendWarning)
        known = backends.available()
        libraries = [_library(name) for name in LIBRARIES]
    broken = [str(each.message) for each in caught if issubclass(each.category, BackendWarning)]
    for each in caught:
        if not issubclass(each.category, BackendWarning):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return {
        "softgrad": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "array_api_compat": importlib.metadata.version("array-api-compat"),
        "example": {"samples": _SAMPLES, "classes": _CLASSES, "attributes": _ATTRIBUTES, "dtype": _DTYPE},
        "libraries": libraries,
        "back_ends": [
            {
                "name": backend.name,
                "types": list(backend.types),
                "replaces": dict(backend.functions),
                "priority": backend.priority,
                "opt_in": backend.opt_in,
            }
            for backend in known.values()
        ],
        "broken": broken,
    }


def _library(name: str) -> dict[str, Any]:
    try:
        lib = open_library(name)
    except LibraryMissingError as error:
        return {"name": name, "available": False, "reason": str(error)}
    with lib.session():
        runs = _runs(lib)
    return {"name": name, "available": True, "version": lib.version, "device": lib.device, "runs": runs}


def _runs(lib: OpenLibrary) -> dict[str, dict[str, Any]]:
    """Ask ``explain`` of each function on an example of the library's arrays."""
    rng = np.random.default_rng(0)
    logits = lib.put(rng.normal(size=(_SAMPLES, _CLASSES)), _DTYPE)
    labels = lib.put(rng.integers(_CLASSES, size=_SAMPLES), "int64")
    X = lib.put(rng.normal(size=(_SAMPLES, _ATTRIBUTES)), _DTYPE)
    W = lib.put(rng.normal(size=(_CLASSES, _ATTRIBUTES)), _DTYPE)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        *((name, (logits,)) for name in ("softmax", "log_softmax", "logsumexp")),
        *((f"{name}_{kind}", (logits, logits)) for name in ("softmax", "log_softmax") for kind in ("vjp", "jvp")),
        *((f"cross_entropy{kind}", (logits, labels)) for kind in ("", "_grad", "_value_and_grad")),
        ("cross_entropy_hvp", (logits, labels, logits)),
        *((f"linear_cross_entropy{kind}", (X, labels, W)) for kind in ("", "_grad", "_value_and_grad")),
        ("linear_cross_entropy_hvp", (X, labels, W, W)),
        ("linear_cross_entropy_hessian", (X, labels, W)),
    ]
    runs: dict[str, dict[str, Any]] = {}
    for function, arguments in calls:
        try:
            told = backends.explain(function, *arguments)
        except BackendError as error:
            runs[function] = {"back_end": None, "implementation": None, "declined": {}, "reason": str(error)}
            continue
        runs[function] = {
            "back_end": told.backend,
            "implementation": told.implementation,
            "declined": dict(told.declined),
        }
    return runs
