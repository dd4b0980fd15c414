"""``check_backend``: the whole contract on one array library, namespace or plug-in, and the table of what it found."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TextIO, TypeAlias

import numpy as np

from .. import backends
from .._array.errors import BackendError
from .._array.typing import AnyArray, Device, NDArray
from . import (
    _contract_dense,
    _contract_divergence,
    _contract_linear,
    _contract_log_probs,
    _contract_loss,
    _contract_parallel,
)
from ._contract import CLAUSES, Clause, Kit, Skip
from ._host import Arrays
from ._libraries import LIBRARIES, LibraryMissingError, open_library
from ._terminal import Terminal

Status: TypeAlias = Literal["passed", "failed", "skipped"]
OnFailure: TypeAlias = Literal["raise", "exit", "return"]
_PARTS = (
    _contract_dense,
    _contract_log_probs,
    _contract_loss,
    _contract_divergence,
    _contract_linear,
    _contract_parallel,
)
_SECTIONS = ("values", "gradients", "edge cases", "dtypes", "layout", "devices", "transforms", "large", "kernels")


class ContractError(AssertionError):
    """A back end that breaks the contract; ``report`` holds what was found."""

    def __init__(self, report: BackendReport) -> None:
        self.report = report
        super().__init__(
            "\n".join([report.verdict, *(f"{c.section}: {c.promise}: {c.detail}" for c in report.failures)])
        )


@dataclass(frozen=True)
class Check:
    """One promise of the contract and how it went.

    Attributes
    ----------
    section, promise : str
    status : {"passed", "failed", "skipped"}
    detail : str
        What went wrong, or why it does not apply.
    seconds : float
    """

    section: str
    promise: str
    status: Status
    detail: str
    seconds: float


@dataclass(frozen=True)
class BackendReport:
    """What ``check_backend`` found.

    Attributes
    ----------
    name : str
        The back end.
    arrays : str
        The library, device and dtypes that it was run on.
    checks : tuple of Check
    """

    name: str
    arrays: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The promises that were broken."""
        return tuple(check for check in self.checks if check.status == "failed")

    @property
    def ok(self) -> bool:
        """Whether no promise was broken."""
        return not self.failures

    @property
    def verdict(self) -> str:
        """One line on the whole."""
        count = {s: sum(c.status == s for c in self.checks) for s in ("passed", "failed", "skipped")}
        words = "keeps the contract" if self.ok else "BREAKS the contract"
        return (
            f"{self.name} {words}: {count['passed']} passed, {count['failed']} failed, {count['skipped']} do not apply "
            f"({sum(c.seconds for c in self.checks):.1f} s)"
        )

    def show(self, file: TextIO | None = None) -> None:
        """Print the promises, what became of each, and the verdict.

        Parameters
        ----------
        file : text stream, optional
            Where to print; ``sys.stdout`` by default.
        """
        out = Terminal(file)
        styles = {"passed": "good", "failed": "bad", "skipped": "warn"}
        out.say(f"{self.name}: {self.arrays}")
        last = None
        for check in self.checks:
            if check.section != last:
                out.say()
                out.say(check.section)
                last = check.section
            head = f"  {check.status:8}{1000 * check.seconds:6.0f} ms  "
            out.say(head + check.promise, styles[check.status], " " * len(head))
            for line in check.detail.splitlines():
                out.say(" " * len(head) + line, styles[check.status], " " * len(head))
        out.say()
        out.say(self.verdict, "good" if self.ok else "bad")


def _held(clause: Clause, kit: Kit) -> Check:
    started = time.perf_counter()
    status: Status = "passed"
    detail = ""
    try:
        clause.hold(kit)
    except Skip as reason:
        status, detail = "skipped", str(reason)
    except AssertionError as error:
        status, detail = "failed", str(error) or "AssertionError"
    except Exception as error:  # noqa: BLE001 - whatever a library raises is its failure, not the report's
        status, detail = "failed", f"{type(error).__name__}: {error}"
    return Check(clause.section, clause.promise, status, detail.strip(), time.perf_counter() - started)


@contextmanager
def _registered(backend: backends.Backend) -> Iterator[None]:
    known = backends.available().get(backend.name)
    backends.register(backend)
    try:
        yield
    finally:
        if known is None:
            backends.unregister(backend.name)
        else:
            backends.register(known)


def _namespace_of(backend: backends.Backend) -> Any:
    if backend.library is not None:
        return backend.library.namespace()
    for path in backend.types:
        root = path.partition(":")[0].split(".")[0]
        for library in LIBRARIES.values():
            if library.root == root:
                return library.namespace()
        with contextlib.suppress(ImportError):
            module = importlib.import_module(root)
            if hasattr(module, "asarray"):
                return module
    raise BackendError(f"back end {backend.name!r} is for {backend.types}: pass the namespace of their arrays")


def _kernels(backend: backends.Backend, kit: Kit) -> list[Check]:
    """Which of a plug-in's kernels run on the arrays that the contract is tried on."""
    random = np.random.default_rng(0)
    found = []
    for function in sorted(backend.functions):
        ran, reasons = [], []
        for dtype in (name for name in ("float32", "float64") if name in kit.floats):
            for rows, classes in ((3, 4), (3000, 7), (60, 900)):
                x = kit.put(random.normal(size=(rows, classes)), dtype)
                arguments = _arguments(function, x, kit, rows, classes, dtype)
                if arguments is None:
                    continue
                told = backends.explain(function, *arguments)
                ran.append(told.backend == backend.name)
                reasons += [why for name, why in told.declined if name == backend.name]
        status: Status = "passed" if any(ran) else "skipped"
        detail = "" if all(ran) and ran else "; ".join(dict.fromkeys(reasons)) or "no public function calls it alone"
        found.append(Check("kernels", f"{function} runs in place of the generic code", status, detail, 0.0))
    return found


def _arguments(function: str, x: AnyArray, kit: Kit, rows: int, classes: int, dtype: str) -> tuple[Any, ...] | None:
    y = kit.labels(np.arange(rows) % classes)
    if function in ("softmax", "log_softmax", "logsumexp"):
        return (x,)
    if function.startswith("linear_log_probs"):
        X, W = kit.put(np.ones((rows, 3)), dtype), kit.put(np.ones((classes, 3)), dtype)
        return (X, y, W, None, (None, X[:, 0])) if function.endswith("_vjp") else (X, y, W)
    if function.startswith(("log_probs", "entropy")):
        c, several = kit.put(np.ones((rows, 2)), dtype), kit.labels(np.stack([np.arange(rows) % classes] * 2, axis=1))
        given = (x, several) if function.startswith("log_probs") else (x,)
        return (*given, c if len(given) > 1 else c[:, 0]) if function.endswith("_vjp") else given
    if function.endswith(("_vjp", "_jvp")):
        return (x, x)
    if function.startswith("linear_cross_entropy"):
        X, W = kit.put(np.ones((rows, 3)), dtype), kit.put(np.ones((classes, 3)), dtype)
        return (X, y, W, W) if function.endswith("_hvp") else (X, y, W)
    if function in ("cross_entropy", "cross_entropy_grad", "cross_entropy_value_and_grad"):
        return (x, y)
    return (x, y, x) if function == "cross_entropy_hvp" else None


def check_backend(
    backend: Any,
    namespace: Any = None,
    *,
    device: Device = None,
    to_numpy: Callable[[AnyArray], NDArray] | None = None,
    sections: tuple[str, ...] | None = None,
    on_failure: OnFailure = "raise",
    show: bool = True,
) -> BackendReport:
    """Run the whole contract on an array library, a namespace or a plug-in, and print a table of what it found.

    Values are held against the formulas in eighty digits, derivatives against differences of those, edge cases,
    dtypes and layouts against the documented table, large arrays against the generic code.

    Parameters
    ----------
    backend : str, Backend or namespace
        The name of an array library (``"numpy"``, ``"torch"``, ``"jax"``, ``"cupy"``, ``"dask"``,
        ``"array_api_strict"``), the name of a registered back end or ``"generic"``, a ``softgrad.backends.Backend``
        that need not be registered, or a namespace of the array API standard.
    namespace : namespace, optional
        For a back end: the array library to run it on, where its array types do not tell.
    device : device, optional
        Where to make arrays; the library's default device.
    to_numpy : callable, optional
        ``to_numpy(array)`` copies an array of an unknown library to the host, where ``numpy.asarray`` cannot.
    sections : tuple of str, optional
        Some of "values", "gradients", "edge cases", "dtypes", "layout", "devices", "transforms", "large", "kernels";
        None runs all.
    on_failure : {"raise", "exit", "return"}, default "raise"
        What to do where a promise is broken: raise ContractError, leave Python with exit code 1, or return.
    show : bool, default True
        Whether to print the table.

    Returns
    -------
    BackendReport

    Raises
    ------
    ContractError
        If a promise is broken, with ``on_failure="raise"``.
    BackendError
        If there is no such back end.
    ImportError
        If the library is not installed, or has no device to compute on.
    TypeError, ValueError
        If an argument is of the wrong type, or not one of those known.

    Examples
    --------
    >>> from softgrad.testing import check_backend
    >>> report = check_backend("numpy", sections=("edge cases",), show=False)
    >>> report.ok
    True
    """
    if on_failure not in ("raise", "exit", "return"):
        raise ValueError(f"on_failure must be 'raise', 'exit' or 'return', got {on_failure!r}")
    if not set(sections or ()) <= set(_SECTIONS):
        raise ValueError(f"sections must be a tuple of some of {_SECTIONS}, got {sections!r}")
    chosen, name, plug = _chosen(backend, namespace)
    with contextlib.ExitStack() as stack:
        if plug is not None:
            stack.enter_context(_registered(plug))
        if plug is not None or name == "generic":
            stack.enter_context(backends.use(name))
        arrays = Arrays.of(chosen, device, to_numpy)
        stack.enter_context(arrays.declared.session())
        kit = Kit(arrays)
        asked = [c for c in CLAUSES if sections is None or c.section in sections]
        asked.sort(key=lambda c: _SECTIONS.index(c.section))
        checks = [_held(c, kit) for c in asked]
        if plug is not None and (sections is None or "kernels" in sections):
            checks += _kernels(plug, kit)
        given_device = "default device" if device is None else f"device {device}"
        report = BackendReport(name, f"arrays of {arrays.name}, {given_device}, {', '.join(kit.floats)}", tuple(checks))
    if show:
        report.show()
    if not report.ok and on_failure == "raise":
        raise ContractError(report)
    if not report.ok and on_failure == "exit":
        raise SystemExit(1)
    return report


def _chosen(backend: Any, namespace: Any) -> tuple[Any, str, backends.Backend | None]:
    """(namespace, name, the plug-in if it is one)."""
    if isinstance(backend, backends.Backend):
        return namespace or _namespace_of(backend), backend.name, backend
    if isinstance(backend, str):
        if backend == "generic":
            return namespace or np, "generic", None
        if backend in LIBRARIES and namespace is None:
            try:
                open_library(backend)
            except LibraryMissingError as error:
                raise ImportError(f"{backend} cannot be used: {error}") from error
            return LIBRARIES[backend].namespace(), backend, None
        plug = backends.available().get(backend)
        if plug is None:
            known = sorted({*LIBRARIES, *backends.available(), "generic"})
            raise BackendError(f"no array library or back end is named {backend!r}; known: {known}")
        return namespace or _namespace_of(plug), backend, plug
    if not hasattr(backend, "asarray"):
        raise TypeError(f"backend must be a name, a Backend or a namespace with asarray, got {backend!r}")
    return backend, getattr(backend, "__name__", repr(backend)), None
