"""A plugin for pytest: the fixtures ``xp`` and ``device``, on the array libraries that ``--softgrad-backend`` names.

It is opt-in: by ``pytest -p softgrad.testing.plugin``, or by
``pytest_plugins = ["softgrad.testing.plugin"]`` in the ``conftest.py`` at the root of the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ._host import Arrays
from ._libraries import LIBRARIES, LibraryMissingError, open_library

_OPTION = "--softgrad-backend"
_LIBRARIES = pytest.StashKey[list[Any]]()


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


def _libraries(config: pytest.Config) -> list[Any]:
    """The libraries asked for, as pytest takes parameters; of all, those without a device are skipped."""
    asked = [name.strip() for words in config.getoption(_OPTION) for name in words.split(",") if name.strip()]
    everything = "all" in asked
    found: list[Any] = []
    for name in LIBRARIES if everything else dict.fromkeys(asked or ["numpy"]):
        if name not in LIBRARIES:
            raise pytest.UsageError(f"{_OPTION} {name!r} is none of {', '.join(LIBRARIES)}, all")
        try:
            open_library(name)
        except LibraryMissingError as error:
            if not everything:
                raise pytest.UsageError(f"{_OPTION} {name} was asked for and cannot be used: {error}") from error
            if not error.absent:
                found.append(pytest.param(name, marks=pytest.mark.skip(reason=f"{name} cannot be used: {error}")))
        else:
            found.append(name)
    return found


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a library that was asked for and cannot be used: it is never skipped."""
    config.stash[_LIBRARIES] = _libraries(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``xp`` or ``device`` once on each library."""
    if "softgrad_backend" in metafunc.fixturenames:
        chosen: list[Any] = metafunc.config.stash[_LIBRARIES]
        metafunc.parametrize("softgrad_backend", chosen, scope="session")


@pytest.fixture(scope="session")
def softgrad_arrays(softgrad_backend: str) -> Iterator[Any]:
    """How arrays of the library under test are made (``put``) and read (``get``); in JAX's case in 64 bits."""
    arrays = Arrays.of(LIBRARIES[softgrad_backend].namespace())
    with arrays.declared.session():
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
