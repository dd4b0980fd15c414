"""A pytest plugin: the fixtures ``xp`` and ``device``, on the array libraries that ``--softgrad-backend`` names.

It stands beside the package and not in it, so that pytest starts without importing the package, and a measurement of
coverage that pytest starts sees that import.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

_OPTION = "--softgrad-backend"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("softgrad").addoption(
        _OPTION,
        action="append",
        default=[],
        metavar="NAME",
        help="array library for the xp and device fixtures: numpy (default), torch, jax, cupy, dask, array_api_strict, "
        "or all that are installed; repeated or comma separated",
    )


def _names(config: pytest.Config) -> list[str]:
    asked = [name.strip() for words in config.getoption(_OPTION) for name in words.split(",") if name.strip()]
    if not asked:
        return ["numpy"]
    libraries = importlib.import_module("softgrad.testing._libraries")
    if "all" in asked:
        return [name for name, library in libraries.LIBRARIES.items() if importlib.util.find_spec(library.root)]
    for name in asked:
        if name not in libraries.LIBRARIES:
            raise pytest.UsageError(f"{_OPTION} {name!r} is none of {', '.join(libraries.LIBRARIES)}, all")
        try:
            libraries.open_library(name)
        except libraries.LibraryMissingError as error:
            raise pytest.UsageError(f"{_OPTION} {name} was asked for and cannot be used: {error}") from error
    return list(dict.fromkeys(asked))


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a library that was asked for and cannot be used: it is never skipped."""
    if config.getoption(_OPTION):
        _names(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``xp`` or ``device`` once on each library."""
    if "softgrad_backend" in metafunc.fixturenames:
        metafunc.parametrize("softgrad_backend", _names(metafunc.config), scope="session")


@pytest.fixture(scope="session")
def softgrad_arrays(softgrad_backend: str) -> Iterator[Any]:
    """How arrays of the library under test are made (``put``) and read (``get``); in JAX's case in 64 bits."""
    arrays = importlib.import_module("softgrad.testing._host").Arrays.named(softgrad_backend)
    with arrays.session():
        yield arrays


@pytest.fixture(scope="session")
def xp(softgrad_arrays: Any) -> Any:
    """The namespace of the array library under test, as array-api-compat gives it."""
    return softgrad_arrays.xp


@pytest.fixture(scope="session")
def device(softgrad_arrays: Any) -> Any:
    """A device of the library under test: another than the default where it has one to compute on."""
    others = softgrad_arrays.other_devices()
    return others[0] if others else getattr(softgrad_arrays.put([1.0], "float32"), "device", None)
