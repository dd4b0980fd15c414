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
from ..testing._terminal import Cell, Terminal

#: The example that ``explain`` is asked about: logits of so many samples and classes.
_SAMPLES, _CLASSES, _ATTRIBUTES = 1000, 10, 20
_DTYPE = "float32"


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "info",
        help="list the array libraries that are installed, and whose kernels run on their arrays",
        description="List the array libraries that are installed, and, for every function, whose kernel runs on their "
        "arrays.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    found = _collect()
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _show(found, Terminal(sys.stdout))
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
    try:
        with lib.session():
            runs = _runs(lib)
    except Exception as error:  # noqa: BLE001 -- a library that is broken must not hide the others
        return {"name": name, "available": False, "reason": f"fails: {type(error).__name__}: {error}"}
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


def _show(found: dict[str, Any], out: Terminal) -> None:
    out.say(
        f"softgrad {found['softgrad']}, Python {found['python']}, array-api-compat {found['array_api_compat']}, "
        f"{found['platform']}"
    )
    out.say()
    there = [library for library in found["libraries"] if library["available"]]
    out.table(["library", "version", "device"], [[lib["name"], lib["version"], lib["device"]] for lib in there], left=3)
    for library in found["libraries"]:
        if not library["available"]:
            out.say(f"not used: {library['name']}: {library['reason']}", "warn", "  ")
    out.say()
    tick, none = out.sign("✓", "yes"), out.sign("·", "-")
    functions = dict.fromkeys(function for library in there for function in library["runs"])
    heads = ["function", *(library["name"].replace("_strict", "_\nstrict") for library in there)]
    rows = [
        [function, *(_cell(lib["name"], lib["runs"], function, tick, none) for lib in there)] for function in functions
    ]
    out.table(heads, rows)
    example = found["example"]
    out.say(
        f"{tick} the library's own kernel; a name: that back end's kernel; {none} the generic code. Asked for "
        f"{example['dtype']}, {example['samples']} samples and {example['classes']} classes: shape, dtype and options "
        "decide too, and softgrad.backends.explain explains a call.",
        "dim",
    )
    if found["back_ends"]:
        names = [back_end["name"] + " (inside use() only)" * back_end["opt_in"] for back_end in found["back_ends"]]
        out.say(f"Registered back ends: {', '.join(names)}.", "dim")
    for words in found["broken"]:
        out.say(f"broken: {words}", "bad", "  ")


def _cell(library: str, runs: dict[str, dict[str, Any]], function: str, tick: str, none: str) -> Cell:
    name = runs[function]["back_end"]
    if name in (None, "generic"):
        return none, "dim"
    return (tick, "good") if name == library else (name, "good")
