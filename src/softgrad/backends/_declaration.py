"""What a back end declares, and how a call is explained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from .._array.errors import BackendError
from .._array.libraries import MATRIX, OTHERS
from .._array.libraries.declaration import ArrayLibrary
from .._kernels import dense as dense_kernels
from .._kernels import divergence as divergence_kernels
from .._kernels import high as high_kernels
from .._kernels import linear as linear_kernels
from .._kernels import linear_divergence as linear_divergence_kernels
from .._kernels import linear_log_probs as linear_log_prob_kernels
from .._kernels import linear_shards as linear_shard_kernels
from .._kernels import log_probs as log_prob_kernels
from .._kernels import logsumexp as logsumexp_kernels
from .._kernels import loss as loss_kernels
from .._kernels import sharded as sharded_kernels
from .._options import OPTIONS, LossArgs, given

#: The kernels written against the standard, by name.
GENERIC: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        name: getattr(module, name)
        for module, names in (
            (dense_kernels, "softmax_vjp softmax_jvp log_softmax_vjp log_softmax_jvp"),
            (logsumexp_kernels, "complex_logsumexp"),
            (
                high_kernels,
                (
                    "softmax log_softmax logsumexp signed_logsumexp cross_entropy cross_entropy_grad "
                    "cross_entropy_value_and_grad"
                ),
            ),
            (linear_log_prob_kernels, "linear_log_probs linear_log_probs_vjp"),
            (log_prob_kernels, "log_probs log_probs_vjp entropy entropy_vjp"),
            (loss_kernels, "cross_entropy_hvp cross_entropy_hessian_diag total_weight"),
            (divergence_kernels, "divergence"),
            (linear_divergence_kernels, "linear_divergence"),
            (
                linear_kernels,
                (
                    "linear_cross_entropy linear_cross_entropy_value_and_grad linear_cross_entropy_hvp "
                    "linear_cross_entropy_hessian"
                ),
            ),
            (sharded_kernels, "sharded_cross_entropy sharded_cross_entropy_value_and_grad"),
            (linear_shard_kernels, "sharded_linear_cross_entropy sharded_linear_cross_entropy_value_and_grad"),
        )
        for name in names.split()
    }
)
#: The kernels that are given a loss with its options.
LOSSES = frozenset(name for name in GENERIC if "cross_entropy" in name or name == "total_weight")


@dataclass(frozen=True)
class Backend:
    """A set of kernels that run in place of the generic ones for some array types.

    Parameters
    ----------
    name : str
        What ``use`` and ``explain`` call it.
    types : tuple of str
        The array types it is for, each ``"module:QualifiedName"``; their subclasses count too.
    functions : mapping of str to str
        For each kernel that it replaces, ``"module:function"``; imported when first called for.
    priority : int, default 0
        The higher is asked first; equal ones in the order of their names.
    opt_in : bool, default False
        Whether it runs only inside ``use(name)``.
    should_run : str, optional
        ``"module:function"``, called as ``should_run(kernel_name, *kernel_arguments)``: True, or a string that
        says why the back end declines this call.
    options : tuple of str, default ()
        The options that its loss kernels take: fields of :class:`CrossEntropy`, ``sample_weight`` and ``where``, each
        named. A loss with another option goes to the next kernel of the plan.
    library : ArrayLibrary, optional
        The array library of the types, where softgrad knows nothing of it: with it a library can come whose arrays
        have no ``__array_namespace__``, or differ from the standard in other ways.

    Examples
    --------
    >>> from softgrad.backends import Backend
    >>> Backend("mine", ("numpy:ndarray",), {"softmax": "my_package:softmax"}, opt_in=True).name
    'mine'
    """

    name: str
    types: tuple[str, ...]
    functions: Mapping[str, str]
    priority: int = 0
    opt_in: bool = False
    should_run: str | None = None
    options: tuple[str, ...] = ()
    library: ArrayLibrary | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name == "generic":
            raise BackendError(f"name must be an identifier other than 'generic', got {self.name!r}")
        for name in ("types", "options"):
            if isinstance(getattr(self, name), str):
                raise BackendError(f"{name} of back end {self.name!r} must be a tuple of str, got a str")
        unknown = sorted(set(self.functions) - set(GENERIC))
        if unknown:
            raise BackendError(f"back end {self.name!r} replaces unknown kernels {unknown}; known: {sorted(GENERIC)}")
        unknown = sorted(set(self.options) - set(OPTIONS))
        if unknown:
            raise BackendError(f"back end {self.name!r} takes unknown options {unknown}; known: {sorted(OPTIONS)}")
        if self.library is not None and self.library.name in (*MATRIX, *OTHERS):
            raise BackendError(f"back end {self.name!r} brings the library {self.library.name!r}, which softgrad has")
        for path in (*self.types, *self.functions.values(), *([self.should_run] if self.should_run else [])):
            if path.count(":") != 1:
                raise BackendError(f"back end {self.name!r}: {path!r} is not of the form 'module:name'")


class Delegate(ABC):
    """A kernel that calls the one of the same name for another library's arrays, which ``explain`` names then."""

    @abstractmethod
    def arguments(self, *args: Any) -> tuple[Any, ...]:
        """What it is called with: the namespace, the array whose type selects the back end, the others."""

    @abstractmethod
    def __call__(self, *args: Any) -> Any:
        """What that gives, as arrays of this library."""


class Implementation(NamedTuple):
    """One step of a plan."""

    backend: str
    call: Callable[..., Any]
    should_run: Callable[..., Any] | None = None
    #: The ``places`` of the options of a loss that it does not take.
    untaken: tuple[tuple[int, str, Any], ...] = ()

    def verdict(self, function: str, args: tuple[Any, ...]) -> bool | str:
        """True, or why this step does not run a call."""
        if self.should_run is not None:
            verdict: bool | str = self.should_run(function, *args)
            if verdict is not True:
                return verdict
        if self.untaken:
            loss = next(each for each in args if isinstance(each, LossArgs))
            others = given(loss, self.untaken)
            if others:
                return f"does not take {', '.join(others)}"
        return True


@dataclass(frozen=True)
class Explanation:
    """Which implementation a call runs, and why not the others.

    Attributes
    ----------
    function : str
        The kernel.
    array_type : str
        The type that decided.
    backend : str
        The back end that runs.
    implementation : str
        Its function, ``module:name``.
    declined : tuple of (str, str)
        The back ends asked before it, with their reasons.
    """

    function: str
    array_type: str
    backend: str
    implementation: str
    declined: tuple[tuple[str, str], ...] = field(default=())

    def __str__(self) -> str:
        lines = [f"{self.function} of {self.array_type}: {self.backend} ({self.implementation})"]
        lines += [f"  {name} declined: {reason}" for name, reason in self.declined]
        return "\n".join(lines)
