"""The declaration of an array library, shared by the package, its tests and its tools."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..typing import AnyArray, Device, Namespace, NDArray


def dtype_name(dtype: Any) -> str:
    """The standard's name of a dtype, such as ``"float32"``."""
    return str(dtype).rpartition(".")[2].lower()


def default_device(xp: Namespace) -> Device:
    """The device that ``xp`` makes arrays on, None where it does not tell."""
    try:
        return xp.__array_namespace_info__().default_device()
    except (AttributeError, TypeError, RuntimeError):  # of a standard before 2023.12, array-api-strict raises the last
        return getattr(xp.zeros(0), "device", None)


def make_array(xp: Namespace, host: NDArray, dtype: str, device: Device) -> AnyArray:
    """Make an array by ``xp.asarray``, from a host array rounded to the dtype if NumPy has it."""
    host = np.array(host, dtype=None if dtype == "bfloat16" else dtype)
    return xp.asarray(host, dtype=getattr(xp, dtype), device=device)


def read_array(xp: Namespace, array: AnyArray) -> NDArray:
    """Copy an array to the host: move it to the default device, then try ``numpy.asarray`` and DLPack."""
    if dtype_name(array.dtype) == "bfloat16":
        array = xp.astype(array, xp.float32)
    default = default_device(xp)
    if hasattr(array, "to_device") and default is not None and array.device != default:
        array = array.to_device(default)
    try:
        host = np.asarray(array)
        if host.dtype != object:
            return host
    except (TypeError, ValueError, RuntimeError):
        pass
    return np.from_dlpack(array)


def _label(array: AnyArray) -> str:
    return str(getattr(array, "device", "cpu"))


def _none(*_: Any) -> None:
    return None


def _no(*_: Any) -> bool:
    return False


def _yes(*_: Any) -> bool:
    return True


@dataclass(frozen=True)
class ArrayLibrary:
    """An array library: how its arrays are made and read, and where they differ from others.

    All but the first two parameters have defaults that suit a library that keeps to the standard. The functions import
    the library when they are called, not before.

    Parameters
    ----------
    name : str
        An identifier: the name of its dependency group and of ``pytest --backend``.
    module : str
        The module of its functions.
    title : str, optional
        Its name in the documentation; ``name`` by default.
    types : tuple of str, default ()
        Array types that do not say by ``__array_namespace__`` which namespace is theirs, each
        ``"module:QualifiedName"``; their subclasses count too.
    compat : str, default ""
        The module of array-api-compat that is the namespace of those, such as ``"dask.array"``; else it is ``module``.
    formats : tuple of str, default ()
        Its floating dtypes beside float32 and float64.
    has_complex : bool, default True
        Whether it has complex dtypes.
    warns : bool, default False
        Whether it warns through NumPy of an overflow or a NaN.
    scalars : bool, default False
        Whether a result of no dimensions is given back as a scalar.
    has_device : bool, default False
        Whether the arrays of one call must share a device, and can tell theirs.
    chunked : bool, default False
        Whether arrays are computed when asked for, and made of chunks of another library.
    waits : bool, default False
        Whether each reading waits for the device, so that several arrays are read as one.
    make : callable, optional
        ``make(xp, host, dtype, device)``: the array of a NumPy array, in the dtype of that name; a device of None is
        the default one.
    read : callable, optional
        ``read(xp, array)``: a NumPy copy, of bfloat16 in float32.
    compute : callable, optional
        ``compute(arrays)``: the values of several lazy arrays in one go.
    synchronize : callable, optional
        ``synchronize(results)`` returns when the device has computed them.
    other_device : callable, optional
        ``other_device()``: a device beside the default that computes, for tests; None where there is none.
    device_label : callable, optional
        ``device_label(array)``: a word for the array's device.
    is_abstract : callable, optional
        ``is_abstract(array)``: whether it has no values yet, as in a trace.
    refuses : callable, optional
        ``refuses(cls)``: why arrays of a type are not taken, or None.
    refuses_array : callable, optional
        ``refuses_array(array)``: why this array is not taken, or None.
    incompatible : callable, optional
        ``incompatible(x, other)``: whether two arrays of different types cannot be combined.
    as_like : callable, optional
        ``as_like(a, x)``: a new array as one of ``x``'s subclass, where that cannot be combined with a plain one.
    can_branch : callable, optional
        ``can_branch(array)``: whether Python code may branch on its values, as it may by default.
    fuses : callable, optional
        ``fuses()``: whether a compiler may fuse the operations of the caller.
    product : callable, optional
        ``product(a, b)``: the matrix product, where ``matmul`` may round its operands.
    scatter : callable, optional
        ``scatter(a, index, values, axis)``: a copy of ``a`` with the values at the entries that ``index`` names along
        the axis.
    memory : callable, optional
        ``memory(array)``: bytes of the accelerator that it is on, by which blocks are cut; None on a CPU.
    compile : callable, optional
        ``compile(function)``: the function as users of the library run it.
    session : callable, optional
        ``session()``: a context manager in which the library computes in the width asked for.
    flushes : callable, optional
        ``flushes()``: whether subnormal numbers become 0.
    autograd : str, optional
        The name of its automatic differentiation.
    gradient : callable, optional
        ``gradient(X, labels, W)``: the derivative by W of the summed loss, by that automatic differentiation.

    Examples
    --------
    >>> from softgrad.backends import ArrayLibrary
    >>> ArrayLibrary("tiny", "tiny_arrays.standard").title
    'tiny'
    """

    name: str
    module: str
    title: str = ""
    types: tuple[str, ...] = ()
    compat: str = ""
    formats: tuple[str, ...] = ()
    has_complex: bool = True
    warns: bool = False
    scalars: bool = False
    has_device: bool = False
    chunked: bool = False
    waits: bool = False
    make: Callable[[Namespace, NDArray, str, Device], AnyArray] = field(default_factory=lambda: make_array)
    read: Callable[[Namespace, AnyArray], NDArray] = field(default_factory=lambda: read_array)
    compute: Callable[[Sequence[AnyArray]], Sequence[AnyArray]] | None = None
    synchronize: Callable[[Any], object] | None = None
    other_device: Callable[[], Device] = field(default_factory=lambda: _none)
    device_label: Callable[[AnyArray], str] = field(default_factory=lambda: _label)
    is_abstract: Callable[[AnyArray], bool] = field(default_factory=lambda: _no)
    refuses: Callable[[type], str | None] = field(default_factory=lambda: _none)
    refuses_array: Callable[[AnyArray], str | None] | None = None
    incompatible: Callable[[AnyArray, AnyArray], bool] | None = None
    as_like: Callable[[AnyArray, AnyArray], AnyArray] | None = None
    can_branch: Callable[[AnyArray], bool] = field(default_factory=lambda: _yes)
    fuses: Callable[[], bool] | None = None
    product: Callable[[AnyArray, AnyArray], AnyArray] | None = None
    scatter: Callable[[AnyArray, AnyArray, AnyArray, int], AnyArray] | None = None
    memory: Callable[[AnyArray], int | None] | None = None
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    session: Callable[[], AbstractContextManager[Any]] = field(default_factory=lambda: contextlib.nullcontext)
    flushes: Callable[[], bool] = field(default_factory=lambda: _no)
    autograd: str | None = None
    gradient: Callable[[AnyArray, AnyArray, AnyArray], AnyArray] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name must be an identifier, got {self.name!r}")
        if not self.title:
            object.__setattr__(self, "title", self.name)

    @property
    def root(self) -> str:
        """The name of the top-level package."""
        return self.module.partition(".")[0]

    def namespace(self) -> Namespace:
        """Import the module of its functions.

        Returns
        -------
        module
        """
        return importlib.import_module(self.module)

    def read_all(self, xp: Namespace, arrays: Sequence[AnyArray]) -> list[NDArray]:
        """NumPy copies of several arrays; lazy ones are computed in one go.

        Parameters
        ----------
        xp : namespace
            The namespace of the arrays.
        arrays : sequence of array

        Returns
        -------
        list of numpy.ndarray
        """
        return [self.read(xp, array) for array in (self.compute(arrays) if self.compute else arrays)]
