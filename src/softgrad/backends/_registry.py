"""The registry of back ends: declaration, discovery, the plan for a function and a type, and the override."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import threading
import warnings
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from .._array.context import Override
from .._array.errors import BackendError, BackendWarning
from .._array.namespace import Library, quiet, tracing
from ._declaration import GENERIC, Backend, Explanation, Implementation

#: The entry point group in which other packages name their ``Backend``.
GROUP = "softgrad.backends"
_PACKAGE = __package__
#: Top-level module of an array's type: the built-in back ends (modules of this package) to load for it.
_BUILTIN = {
    "numpy": ("numpy", "numba"),
    "torch": ("torch",),
    "cupy": ("cupy",),
    "jax": ("jax",),
    "jaxlib": ("jax",),
    "dask": ("dask",),
    "scipy": ("sparse",),
}


class _Answer(Exception):  # noqa: N818 - it carries a result
    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation


_RESERVED = frozenset(name for names in _BUILTIN.values() for name in names)
_registered: dict[str, Backend] = {}
# No lock of ours is held over an import, since it would deadlock with Python's own: every thread that needs a back end
# imports it, which waits for another that is at it, and only then is it in here.
_loaded: set[str] = set()
#: Back ends that could not be loaded, with the library as it was then: another module under its name is a new try.
_failed: dict[str, Any] = {}
_plans: dict[tuple[str, type], tuple[Implementation, ...]] = {}
_override_plans: dict[tuple[str, type, str], tuple[Implementation, ...]] = {}
_fresh: dict[tuple[str, type, str | None], tuple[Implementation, ...]] = {}
_chosen: Override[str] = Override("softgrad.backends.use")
_asked: Override[bool] = Override("softgrad.backends.explain")
_discovered = False
_here = threading.local()
_builtin_types: set[str] = set()


def _warn(name: str, error: BaseException | str) -> None:
    warnings.warn(f"back end {name!r} is left out: {error}", BackendWarning, stacklevel=4)


def _forget_plans() -> None:
    """Begin anew: a plan that somebody is making goes where nobody looks any more."""
    global _plans, _override_plans
    _plans, _override_plans = {}, {}


def register(backend: Backend) -> None:
    """Add a back end, or replace the one of that name.

    Parameters
    ----------
    backend : Backend
        What it replaces and for which types.

    Raises
    ------
    TypeError
        If ``backend`` is not a ``Backend``.

    Examples
    --------
    >>> from softgrad import backends
    >>> backends.register(backends.Backend("mine", ("numpy:ndarray",), {"softmax": "m:f"}, opt_in=True))
    >>> "mine" in backends.available()
    True
    >>> backends.unregister("mine")
    """
    if not isinstance(backend, Backend):
        raise TypeError(f"backend must be a Backend, got {type(backend).__qualname__}")
    _registered[backend.name] = backend
    _forget_plans()


def unregister(name: str) -> None:
    """Remove a back end.

    Parameters
    ----------
    name : str
        The name that it was registered under.

    Raises
    ------
    BackendError
        If there is none of that name.

    Examples
    --------
    >>> from softgrad import backends
    >>> backends.unregister("never_there")
    Traceback (most recent call last):
        ...
    softgrad._array.errors.BackendError: no back end is named 'never_there'
    """
    if _registered.pop(name, None) is None:
        raise BackendError(f"no back end is named {name!r}")
    _forget_plans()


def _half_imported(module: str) -> bool:
    """Whether this call comes from within the import of a module."""
    return bool(getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False))


def _load_builtin(name: str) -> bool:
    """Load a built-in back end if it can be; False where this call comes from within its import."""
    if name in _loaded or (name in _failed and _failed[name] is sys.modules.get(name)):
        return True
    path = f"{_PACKAGE}.{name}"
    try:
        backend = importlib.import_module(path).BACKEND if importlib.util.find_spec(path) is not None else None
    except Exception as error:  # noqa: BLE001 - whatever a broken installation raises must not reach the caller
        if _half_imported(path):
            return False
        _failed[name] = sys.modules.get(name)
        _warn(name, error)
        return True
    if backend is not None:  # None: what its kernels are made with is not installed
        _builtin_types.update(backend.types)
        _registered.setdefault(backend.name, backend)
    _loaded.add(name)
    return True


def _load_for(module: str) -> bool:
    """Load the built-in back ends for types of a module; False where this call comes from within."""
    return all(_load_builtin(name) for name in _BUILTIN.get(module.partition(".")[0], ()))


def _declared(entry: importlib.metadata.EntryPoint) -> Backend | None:
    """The back end that another package declares; None where this call comes from within the package's import."""
    try:
        backend = entry.load()
    except Exception:
        if _half_imported(entry.value.partition(":")[0]):
            return None
        raise
    if not isinstance(backend, Backend):
        raise TypeError(f"{entry.value} is not a Backend")
    if backend.name in _RESERVED:
        raise BackendError("its name is taken by a built-in back end")
    if not all(_load_for(path.partition(":")[0]) for path in backend.types):
        return None
    if not backend.opt_in and _builtin_types & set(backend.types):
        return replace(backend, opt_in=True)
    return backend


def _discover() -> bool:
    """Load the back ends that other packages declare, once; False where this call comes from within."""
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
                elif _registered.setdefault(backend.name, backend) != backend:
                    raise BackendError("its name is taken")
            except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way, and none is the caller's
                _warn(entry.name, error)
    finally:
        _here.discovering = False
    _discovered = whole
    return whole


def _resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _serves(backend: Backend, names: set[str]) -> bool:
    return not names.isdisjoint(backend.types)


def _names(cls: type) -> set[str]:
    """``module:QualifiedName`` of a type and its bases, by each of the module's parents too."""
    out: set[str] = set()
    for base in cls.__mro__:
        parts = base.__module__.split(".")
        out.update(f"{'.'.join(parts[: i + 1])}:{base.__qualname__}" for i in range(len(parts)))
    return out


def _make_plan(function: str, cls: type, chosen: str | None) -> tuple[tuple[Implementation, ...], bool]:
    """The plan, and whether it holds all that there will be: not where this call comes from within an import."""
    generic = Implementation("generic", GENERIC[function], None)
    whole = all(_load_for(base.__module__) for base in cls.__mro__)
    whole = _discover() and whole
    if chosen == "generic":
        return (generic,), whole
    names = _names(cls)
    usual = [b for b in _registered.values() if _serves(b, names) and (not b.opt_in or b.name == chosen)]
    usual.sort(key=lambda b: (b.name != chosen, -b.priority, b.name))
    plan = []
    for backend in usual:
        path = backend.functions.get(function)
        if path is None:
            continue
        try:
            condition = None if backend.should_run is None else _resolve(backend.should_run)
            plan.append(Implementation(backend.name, _resolve(path), condition))
        except Exception as error:  # noqa: BLE001 - as for discovery: a broken kernel is named and left out
            if _half_imported(path.partition(":")[0]):
                whole = False
                continue
            _warn(backend.name, error)
    return (*plan, generic), whole


def _prepare(function: str, cls: type, chosen: str | None) -> None:
    """Make the plan of a function and a type; of all functions while torch.compile traces, which looks here once."""
    if tracing():
        _fresh.update({(name, cls, chosen): _make_plan(name, cls, chosen)[0] for name in GENERIC})
        return
    plans, override_plans = _plans, _override_plans
    plan, whole = _make_plan(function, cls, chosen)
    _fresh[function, cls, chosen] = plan
    if whole and chosen is None:
        plans[function, cls] = plan
    elif whole:
        override_plans[function, cls, chosen] = plan


# torch.compile runs what is marked so while it traces: an import has no place in a graph. A dictionary that the trace
# has read must not change under it, so that what is new comes through another.
vars(_prepare)["_dynamo_marked_constant"] = True


def _choice() -> str | None:
    return _chosen.get()


# a graph keeps the kernels that it was traced with
vars(_choice)["_dynamo_marked_constant"] = True


def _plan(function: str, cls: type) -> tuple[Implementation, ...]:
    if _chosen.users:
        chosen = _choice()
        if chosen is not None:
            plan = _override_plans.get((function, cls, chosen))
            if plan is None:
                _prepare(function, cls, chosen)
                plan = _fresh[function, cls, chosen]
            return plan
    plan = _plans.get((function, cls))
    if plan is None:
        _prepare(function, cls, None)
        plan = _fresh[function, cls, None]
    return plan


def asked_for() -> str | None:
    """The back end that ``use`` prefers here."""
    return _choice() if _chosen.users else None


def run(function: str, lib: Library, *args: Any) -> Any:
    """Run a kernel on ``args`` (the namespace, the array that decides, the rest)."""
    for step in _plan(function, type(args[1])):
        if step.should_run is None or step.should_run(function, *args) is True:
            if _asked.users and _asked.get():
                raise _Answer(_explained(function, args))
            if lib.warns:
                with quiet():
                    return step.call(*args)
            return step.call(*args)
    raise AssertionError("the generic kernel declines nothing")  # pragma: no cover


def _explained(function: str, args: tuple[Any, ...]) -> Explanation:
    cls = type(args[1])
    declined = []
    for step in _plan(function, cls):
        verdict = True if step.should_run is None else step.should_run(function, *args)
        if verdict is True:
            break
        declined.append((step.backend, str(verdict)))
    kernel = getattr(step.call, "__wrapped__", step.call)
    where = f"{getattr(kernel, '__module__', '?')}:{getattr(kernel, '__qualname__', repr(kernel))}"
    return Explanation(function, f"{cls.__module__}.{cls.__qualname__}", step.backend, where, tuple(declined))


def available() -> dict[str, Backend]:
    """Every back end that is known, by name; the built-in ones of libraries that are installed included.

    Returns
    -------
    dict of str to Backend
        ``"generic"`` runs everywhere and so is not among them.

    Examples
    --------
    >>> from softgrad import backends
    >>> isinstance(backends.available(), dict)
    True
    """
    for root in _BUILTIN:
        if sys.modules[root] is not None if root in sys.modules else importlib.util.find_spec(root) is not None:
            _load_for(root)
    _discover()
    return dict(sorted(_registered.items()))


def use(name: str) -> AbstractContextManager[None]:
    """Prefer one back end inside a ``with`` block, in this thread or task alone.

    Parameters
    ----------
    name : str
        ``"generic"`` for the code written against the standard, else the name of a back end; where it does not
        serve an array's type or declines a call, the usual plan follows. What ``torch.compile`` traces keeps the
        kernels of its trace.

    Returns
    -------
    context manager

    Raises
    ------
    BackendError
        If there is no back end of that name.

    Examples
    --------
    >>> import numpy as np, softgrad as sg
    >>> with sg.backends.use("generic"):
    ...     print(sg.backends.explain("softmax", np.zeros(3)).backend)
    generic
    """
    if name != "generic" and name not in available():
        raise BackendError(f"no back end is named {name!r}; known: {['generic', *available()]}")
    return _chosen.set(name)


def explain(function: str, *args: Any, **kwargs: Any) -> Explanation:
    """Tell which implementation a call would run, without running it.

    Parameters
    ----------
    function : str
        The public function's name, such as ``"softmax"`` or ``"cross_entropy_value_and_grad"``.
    *args, **kwargs
        The arguments of that call: dtype, shape and options decide too.

    Returns
    -------
    Explanation

    Raises
    ------
    BackendError
        If there is no such function, or it answers with no kernel (an empty array, say).

    Examples
    --------
    >>> import numpy as np, softgrad as sg
    >>> sg.backends.explain("softmax", np.zeros((2, 3), dtype=np.int64)).function
    'softmax'
    """
    package = importlib.import_module("..", _PACKAGE)
    if function not in package.__all__ or not callable(getattr(package, function)):
        raise BackendError(f"softgrad has no function {function!r}")
    try:
        with _asked.set(True):
            getattr(package, function)(*args, **kwargs)
    except _Answer as answer:
        return answer.explanation
    raise BackendError(f"{function} answers this call without a kernel")
