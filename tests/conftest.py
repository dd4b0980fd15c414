"""Fixtures that run one suite on every array library: ``pytest --backend torch,jax``."""

from __future__ import annotations

import contextlib
import gc
import importlib
import zlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import arrays
import triton_on_cpu
from softgrad import backends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

settings.register_profile(
    "softgrad",
    deadline=None,
    derandomize=True,
    max_examples=10,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("full", parent=settings.get_profile("softgrad"), max_examples=25)
settings.register_profile("search", parent=settings.get_profile("softgrad"), derandomize=False, max_examples=500)
settings.load_profile("softgrad")

#: What has a configuration of its own, and what is for a process in which Triton interprets its kernels.
collect_ignore_glob = ["gpu_static", *([] if triton_on_cpu.interpreted() else ["backends/triton"])]
LIBRARIES = pytest.StashKey[dict[str, arrays.Library]]()
#: What is tested where a test asks for no library.
PLAIN = "numpy"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help=f"library to test, repeated or comma separated: {', '.join(arrays.LOADERS)} (default: numpy)",
    )
    parser.addoption("--kernels", metavar="NAME", help="back end to prefer in every test, as of softgrad.backends.use")
    parser.addoption("--full", action="store_true", help="run the tests marked full too, as before a release")


def pytest_configure(config: pytest.Config) -> None:
    asked = [name.strip() for option in config.getoption("--backend") for name in option.split(",")]
    if config.getoption("--full"):
        settings.load_profile("full")
    libraries = {}
    for name in dict.fromkeys(asked or ["numpy"]):
        if name not in arrays.LOADERS:
            known = ", ".join(arrays.LOADERS)
            raise pytest.UsageError(f"--backend {name!r} is none of {known}")
        try:
            libraries[name] = arrays.LOADERS[name]()
        except ImportError as error:
            raise pytest.UsageError(f"--backend {name} was asked for and cannot be used: {error}") from error
    config.stash[LIBRARIES] = libraries
    # what is imported and collected stays: no use in looking through it while it comes, nor, for a second, at the end
    gc.disable()
    if triton_on_cpu.interpreted():
        triton_on_cpu.install()
    config.addinivalue_line("markers", "libraries(*names): collected for these array libraries alone")
    config.addinivalue_line("markers", "full(*names): collected with --full alone, of these libraries or of all")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Run a test, its fixtures included, on the kernels asked for."""
    name = item.config.getoption("--kernels")
    with backends.use(name) if name else contextlib.nullcontext():
        return (yield)


def own(item: pytest.Function) -> set[str]:
    """The libraries that a test is about: those that its mark names, or that one of its fixtures is named after."""
    mark = item.get_closest_marker("libraries")
    return set(mark.args) if mark else set(item.fixturenames) & set(arrays.LOADERS)


def belongs(item: pytest.Function, tested: dict[str, arrays.Library]) -> bool:
    """Whether a test says something about a library under test; of NumPy alone where it asks for no library."""
    named = own(item)
    if "backend" not in item.fixturenames:
        return bool(tested.keys() & (named or {PLAIN}))
    return not named or item.callspec.params["backend"] in named


def left_for_later(item: pytest.Function, mark: pytest.Mark) -> bool:
    """Whether a test waits for ``--full``: on the libraries that the mark names, or on all."""
    return not mark.args or item.callspec.params["backend"] in mark.args


def parameters(item: pytest.Item) -> dict[str, Any]:
    """The value that a test has of each set of parameters that are combined."""
    if not hasattr(item, "callspec"):
        return {}
    together = [mark.args[0] for mark in item.iter_markers("parametrize")]
    names = [names.split(",") if isinstance(names, str) else names for names in together]
    tied = {"backend", *(name.strip() for each in names for name in each[1:])}
    return {name: value for name, value in item.callspec.params.items() if name not in tied}


def thinned(items: list[pytest.Item]) -> list[pytest.Item]:
    """As many cases of a test as its longest set of values has: through each shorter one they go round and round.

    So each value occurs, on each library beside others. Of a test that JAX, which compiles each call anew, shares with
    other libraries it takes one case.
    """
    values: dict[str, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for item in items:
        for name, value in parameters(item).items():
            known = values[item.nodeid.partition("[")[0]][name]
            known.setdefault(id(value), len(known))
    shared: dict[str, list[pytest.Item]] = defaultdict(list)
    kept = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        backend = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        if backend == "jax" and not own(item):
            shared[test].append(item)
            continue
        start = zlib.crc32(f"{item.name.partition('[')[0]} {backend}".encode())
        places = {name: values[test][name][id(value)] for name, value in parameters(item).items()}
        sizes = {name: len(values[test][name]) for name in places}
        longest = max(sizes, key=sizes.get, default=None)
        turn = (places[longest] + start) % sizes[longest] if sizes else 0
        if all(places[name] == turn % sizes[name] for name in sizes if name != longest):
            kept.add(item)
    kept.update(cases[zlib.crc32(test.encode()) % len(cases)] for test, cases in shared.items())
    return [item for item in items if item in kept]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tested, chosen, full = config.stash[LIBRARIES], config.getoption("--kernels"), config.getoption("--full")
    kept, left = [], []
    for item in items:
        is_test = isinstance(item, pytest.Function)  # of doctests there is one library
        unusual = chosen and is_test and "usual_kernels" in item.fixturenames
        late = not full and any(left_for_later(item, mark) for mark in item.iter_markers("full"))
        (left if late or (is_test and (unusual or not belongs(item, tested))) else kept).append(item)
    if not full:
        candidates, kept = kept, thinned(kept)
        left += set(candidates).difference(kept)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"{name}: {library.description}" for name, library in config.stash[LIBRARIES].items()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", list(metafunc.config.stash[LIBRARIES]), scope="session")


@pytest.fixture(scope="module", autouse=True)
def compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forget what JAX compiled: a process may map memory 65,530 times, and 23 go to a program, with megabytes."""
    yield
    if "jax" not in request.config.stash[LIBRARIES]:
        return
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") >= 5_000:
        importlib.import_module("jax").clear_caches()


@pytest.fixture(scope="session")
def usual_kernels() -> None:
    """For tests of one back end's kernels, or of what runs where nobody asks for any: ``--kernels`` leaves them out."""


@pytest.fixture(scope="session")
def torch(backend: str) -> Any:
    """PyTorch, for tests of its tensors alone."""
    return importlib.import_module("torch")


@pytest.fixture(scope="session")
def jax(backend: str) -> Any:
    """JAX, for tests of its arrays alone."""
    return importlib.import_module("jax")


@pytest.fixture(scope="session")
def dask(backend: str) -> Any:
    """Dask, for tests of its arrays alone."""
    return importlib.import_module("dask")


@pytest.fixture(scope="session")
def cupy(backend: str) -> Any:
    """CuPy, for tests of its arrays alone."""
    return importlib.import_module("cupy")


@pytest.fixture(scope="session")
def library(backend: str, request: pytest.FixtureRequest) -> Iterator[arrays.Library]:
    """The array library under test."""
    chosen = request.config.stash[LIBRARIES][backend]
    with chosen.context():
        yield chosen


@pytest.fixture(scope="session")
def xp(library: arrays.Library) -> Any:
    """The namespace of the array library under test, as array-api-compat gives it."""
    return library.xp


@pytest.fixture(scope="session")
def asarray(library: arrays.Library) -> Callable[..., Any]:
    """``asarray(data, dtype="float64")``: an array of the library under test, on its test device."""
    return library.asarray


@pytest.fixture(scope="session")
def to_numpy(library: arrays.Library) -> Callable[[Any], np.ndarray]:
    """``to_numpy(array)``: a NumPy copy on the host; Dask computes, Python scalars pass."""
    return library.to_numpy


@pytest.fixture(scope="session")
def has_dtype(library: arrays.Library) -> Callable[[str], bool]:
    """``has_dtype("bfloat16")``: whether the library under test has such a dtype."""
    return library.has_dtype
