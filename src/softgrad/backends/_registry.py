"""Select the back end that runs a function for an array type."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from .._array import libraries
from .._array.context import Override
from .._array.errors import BackendError
from .._array.namespace import Library, ignore_fp_warnings, tracing
from .._options import OPTIONS, places
from . import _discovery
from ._declaration import GENERIC, LOSSES, Backend, Delegate, Explanation, Implementation

#: The functions that ``explain`` accepts, by name; filled in by the package.
PUBLIC: dict[str, Callable[..., Any]] = {}


class _Answer(Exception):  # noqa: N818 - it carries a result
    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation


_plans: dict[tuple[str, type], tuple[Implementation, ...]] = {}
_override_plans: dict[tuple[str, type, str], tuple[Implementation, ...]] = {}
_fresh: dict[tuple[str, type, str | None], tuple[Implementation, ...]] = {}
_chosen: Override[str] = Override("softgrad.backends.use")
_asked: Override[bool] = Override("softgrad.backends.explain")


def _forget_plans() -> None:
    """Replace the caches; a plan that another thread is making goes into the old ones, which are no longer read."""
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
    if backend.library is not None:
        libraries.add(backend.library)
    _discovery.registered[backend.name] = backend
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
    if _discovery.registered.pop(name, None) is None:
        raise BackendError(f"no back end is named {name!r}")
    _forget_plans()


def _resolve(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _serves(backend: Backend, names: set[str]) -> bool:
    return not names.isdisjoint(backend.types)


def _generic(function: str) -> Callable[..., Any]:
    """The generic kernel; what it calls of others, and of the linear model the loss of a block, by the registry."""
    kernel = GENERIC[function]
    parameters = inspect.signature(kernel).parameters
    parts = {name: name for name, p in parameters.items() if name in GENERIC and p.default is not p.empty}
    if "loss" in parameters:
        parts["loss"] = function.removeprefix("linear_")
    if not parts:
        return kernel
    given = {name: functools.partial(call, part) for name, part in parts.items()}

    @functools.wraps(kernel)
    def whole(*args: Any) -> Any:
        return kernel(*args, **given)

    return whole


def _make_plan(function: str, cls: type, chosen: str | None) -> tuple[tuple[Implementation, ...], bool]:
    """The plan, and whether it is complete: it is not if this call happens during an import of a back end."""
    generic = Implementation("generic", _generic(function))
    whole = all(_discovery.load_for(base.__module__) for base in cls.__mro__)
    whole = _discovery.discover() and whole
    if chosen == "generic":
        return (generic,), whole
    names = libraries.names_of(cls)
    usual = [b for b in _discovery.registered.values() if _serves(b, names) and (not b.opt_in or b.name == chosen)]
    usual.sort(key=lambda b: (b.name != chosen, -b.priority, b.name))
    plan = []
    for backend in usual:
        path = backend.functions.get(function)
        if path is None:
            continue
        try:
            condition = None if backend.should_run is None else _resolve(backend.should_run)
            untaken = [name for name in OPTIONS if name not in backend.options] if function in LOSSES else []
            plan.append(Implementation(backend.name, _resolve(path), condition, places(untaken)))
        except Exception as error:  # noqa: BLE001 - as for discovery: a broken kernel is named and left out
            if _discovery.half_imported(path.partition(":")[0]):
                whole = False
                continue
            _discovery.warn(backend.name, error)
    return (*plan, generic), whole


def _prepare(function: str, cls: type, chosen: str | None) -> None:
    """Make the plan of a function and a type; under torch.compile, of all functions at once."""
    if tracing():
        _fresh.update({(name, cls, chosen): _make_plan(name, cls, chosen)[0] for name in GENERIC})
        return
    plans, override_plans = _plans, _override_plans
    plan, whole = _make_plan(function, cls, chosen)
    _fresh[function, cls, chosen] = plan
    if not whole:
        return
    if chosen is None:
        plans[function, cls] = plan
    else:
        override_plans[function, cls, chosen] = plan


# torch.compile runs marked functions while tracing, since an import cannot be traced. A dictionary that the trace has
# read must not change, so new plans are returned through another one.
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
    """The back end that the enclosing ``use`` block prefers, or None."""
    return _choice() if _chosen.users else None


def call(function: str, *args: Any) -> Any:
    """``run`` for callers that already ignore floating-point warnings."""
    for step in _plan(function, type(args[1])):
        if step.verdict(function, args) is True:
            return step.call(*args)
    raise AssertionError("the generic kernel declines nothing")  # pragma: no cover


def run(function: str, lib: Library, *args: Any) -> Any:
    """Run a kernel on ``args``: the namespace, the array whose type selects the back end, the other arguments."""
    for step in _plan(function, type(args[1])):
        if step.verdict(function, args) is True:
            if _asked.users and _asked.get():
                raise _Answer(_explained(function, args))
            if lib.warns:
                with ignore_fp_warnings():
                    return step.call(*args)
            return step.call(*args)
    raise AssertionError("the generic kernel declines nothing")  # pragma: no cover


def _explained(function: str, args: tuple[Any, ...]) -> Explanation:
    cls = type(args[1])
    declined = []
    for step in _plan(function, cls):
        verdict = step.verdict(function, args)
        if verdict is True:
            break
        declined.append((step.backend, str(verdict)))
    if isinstance(step.call, Delegate):
        inner = _explained(function, step.call.arguments(*args))
        return replace(inner, array_type=_named(cls), declined=(*declined, *inner.declined))
    kernel = getattr(step.call, "__wrapped__", step.call)
    kernel = getattr(kernel, "func", kernel)
    where = f"{getattr(kernel, '__module__', '?')}:{getattr(kernel, '__qualname__', repr(kernel))}"
    return Explanation(function, _named(cls), step.backend, where, tuple(declined))


def _named(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def available() -> dict[str, Backend]:
    """All known back ends by name, including the built-in ones of the libraries that are installed.

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
    _discovery.load_all()
    return dict(sorted(_discovery.registered.items()))


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
    if function not in PUBLIC:
        raise BackendError(f"function must be the name of one of softgrad, such as 'softmax', got {function!r}")
    try:
        with _asked.set(True):
            PUBLIC[function](*args, **kwargs)
    except _Answer as answer:
        return answer.explanation
    raise BackendError(f"{function} runs no kernel for this call (of an empty array, say): nothing to explain")
