"""Infer the library of an array, and check array arguments. Only this module imports array-api-compat."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from .._kernels.dense import AS_LIKE, FUSES, MEMORY, PRODUCTS, SCATTERS, as_like, device_of
from .._kernels.wide import CAN_BRANCH
from . import libraries
from .errors import AxisError, MixedArraysError
from .libraries.declaration import ArrayLibrary
from .scalars import integer
from .typing import Array, DType, Namespace

if TYPE_CHECKING:
    import array_api_compat as compat
else:
    # a library that vendors this package names its copy of array-api-compat in a module next to it
    try:
        from ... import _array_api_compat_vendor as compat
    except ModuleNotFoundError:
        raise  # that module is there, and what it imports is not
    except ImportError:
        import array_api_compat as compat


class Library(NamedTuple):
    """Properties of an array type, inferred once and cached."""

    xp: Namespace
    name: str
    #: The library warns through NumPy of an overflow or a NaN.
    warns: bool
    #: Zero-dimensional results are returned as scalars.
    scalars: bool
    #: Arrays have a ``device``, and all arrays of a call must share it.
    has_device: bool
    #: Arrays consist of chunks of another library, whose arrays are accepted as parameters.
    chunked: bool
    #: Returns why an array of this type is not accepted, or None.
    refuses_array: Callable[[Array], str | None] | None
    #: Returns whether two array types cannot be combined.
    incompatible: Callable[[Array, Array], bool] | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the namespace by name if it is a module."""
        return _library_with, (self.xp.__name__ if isinstance(self.xp, ModuleType) else self.xp, *self[1:])


def _library_with(xp: Any, *rest: Any) -> Library:
    return Library(importlib.import_module(xp) if isinstance(xp, str) else xp, *rest)


Function = TypeVar("Function", bound=Callable[..., Any])

_LIBRARIES: dict[type, Library] = {}
_FRESH: dict[type, Library] = {}
_KINDS: dict[tuple[type, DType], str] = {}
_COMPAT = compat.array_namespace.__module__.rpartition(".")[0]


def _namespace(x: Any, declared: ArrayLibrary | None) -> Namespace | None:
    """The namespace of an array, or None if ``x`` is not an array.

    array-api-compat itself asks each library in ``sys.modules`` for its arrays, and fails where one is half imported.
    """
    if declared is not None and not libraries.names_of(type(x)).isdisjoint(declared.types):
        return importlib.import_module(f"..{declared.compat}", _COMPAT) if declared.compat else declared.namespace()
    return x.__array_namespace__() if hasattr(x, "__array_namespace__") else None


def _infer(x: Any, argument: str) -> Library:
    cls = type(x)
    declared = libraries.of_type(cls)
    refusal = None if declared is None else declared.refuses(cls)
    if refusal is not None:
        raise TypeError(f"{argument}: {refusal}")
    if "sparse" in cls.__module__.split(".") and cls.__module__.startswith(("scipy.", "cupyx.")):
        raise TypeError(
            f"{argument} is a sparse matrix ({cls.__module__.split('.')[0]}): exp(0) is 1, so that nothing stays "
            "sparse; pass its .toarray(). Only the linear model takes sparse samples, its divergences apart"
        )
    xp = _namespace(x, declared)
    if xp is None:
        what = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        raise TypeError(
            f"{argument} must be an array of NumPy, PyTorch, CuPy, JAX, Dask or another library of the array API "
            f"standard (numpy.asarray makes one), got {what}"
        )
    if declared is None:
        declared = libraries.known(xp.__name__.rpartition("array_api_compat.")[2].split(".")[0])
    if declared.fuses is not None:
        FUSES.setdefault(xp.__name__, declared.fuses)
    if declared.as_like is not None:
        AS_LIKE.setdefault(xp.__name__, declared.as_like)
    if declared.product is not None:
        PRODUCTS.setdefault(xp.__name__, declared.product)
    if declared.scatter is not None:
        SCATTERS.setdefault(xp.__name__, declared.scatter)
    if declared.memory is not None:
        MEMORY.setdefault(xp.__name__, declared.memory)
    CAN_BRANCH.setdefault(xp.__name__, declared.can_branch)
    return Library(
        xp,
        declared.name,
        declared.warns,
        declared.scalars,
        declared.has_device,
        declared.chunked,
        declared.refuses_array,
        declared.incompatible,
    )


def tracing() -> bool:
    """Whether torch.compile is tracing the caller."""
    context = getattr(sys.modules.get("torch._guards"), "TracingContext", None)
    return context is not None and context.try_get() is not None


def _known_by_class(cls: type) -> bool:
    """Infer the library of torch's own array types, and the kinds of its dtypes, without an array."""
    if cls.__module__.partition(".")[0] != "torch":
        return False
    torch = sys.modules["torch"]
    if cls not in (torch.Tensor, torch.nn.Parameter):
        return False
    found = _FRESH[cls] = _infer(torch.empty(0), "x")
    for dtype in vars(torch).values():
        if isinstance(dtype, torch.dtype):
            kind(found.xp, dtype)
    if not tracing():
        _LIBRARIES[cls] = found
    return True


# torch.compile runs marked functions while tracing, since an import cannot be traced. A dictionary that the trace has
# read must not change, so new entries are returned through another one.
vars(_known_by_class)["_dynamo_marked_constant"] = True


def library(x: Any, argument: str) -> Library:
    """The library of ``x``, or a TypeError that names the argument."""
    found = _LIBRARIES.get(type(x))
    if found is None:
        if _known_by_class(type(x)):
            found = _FRESH[type(x)]
        else:
            found = _LIBRARIES[type(x)] = _infer(x, argument)
    if found.refuses_array is not None:
        words = found.refuses_array(x)
        if words is not None:
            raise TypeError(f"{argument} {words}")
    return found


def named(name: str) -> Library:
    """The library called ``name``, imported."""
    try:
        example = libraries.known(name).namespace().zeros((1,))
        return library(example, name)
    except (AttributeError, ImportError, TypeError) as error:
        raise ValueError(
            f"{name!r} is not an array library softgrad can use: expected 'numpy', 'torch', 'jax', 'cupy', 'dask' "
            f"or another one of the array API standard ({error})"
        ) from error


def _is_array_type(cls: type) -> bool:
    """Whether a type is a known array type, even without ``__array_namespace__``."""
    declared = libraries.of_type(cls)
    return declared is not None and not libraries.names_of(cls).isdisjoint(declared.types)


vars(_is_array_type)["_dynamo_marked_constant"] = True


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array of a supported library."""
    return type(x) in _LIBRARIES or (
        not isinstance(x, (int, float, complex, list, tuple, str, type))
        and (hasattr(x, "__array_namespace__") or _is_array_type(type(x)))
    )


def kind(xp: Namespace, dtype: DType) -> str:
    """One of "real", "complex", "integer", "bool", "other"."""
    # dtypes of two libraries may hash alike, and warn when they are compared
    key = (type(dtype), dtype)
    known = _KINDS.get(key)
    if known is None:
        known = "other"
        for word, standard in (
            ("real", "real floating"),
            ("complex", "complex floating"),
            ("integer", "integral"),
            ("bool", "bool"),
        ):
            if xp.isdtype(dtype, standard):
                known = word
                break
        _KINDS[key] = known
    return known


def default_float(xp: Namespace, x: Array) -> DType:
    """The floating dtype that ``x``'s library makes of a Python float, on ``x``'s device."""
    device = device_of(x)
    try:
        return xp.__array_namespace_info__().default_dtypes(device=device)["real floating"]
    except (AttributeError, TypeError, ValueError):
        return xp.asarray(0.0).dtype


def _native_dtype(lib: Library, dtype: DType) -> DType:
    return np.dtype(dtype).newbyteorder("=") if lib.scalars or lib.chunked else dtype


def base_array(lib: Library, a: Array) -> Array:
    """``a`` as a base ndarray if it is a subclass, so that the result type does not depend on the kernel."""
    return np.asarray(a) if lib.scalars and type(a) is not np.ndarray else a


def native(lib: Library, a: Array) -> Array:
    """``base_array(a)`` in native byte order; arrays read from a file may have the other."""
    a = base_array(lib, a)
    if (lib.scalars or lib.chunked) and not a.dtype.isnative:
        return lib.xp.astype(a, _native_dtype(lib, a.dtype))
    return a


def floating(lib: Library, x: Any, argument: str, dtype: DType = None, *, complex_ok: bool = False) -> Array:
    """Convert ``x`` to ``dtype`` if given; otherwise integers become the default float and floats stay."""
    xp = lib.xp
    what = kind(xp, x.dtype)
    if what in ("bool", "other") or (what == "complex" and not complex_ok):
        wanted = "real or complex" if complex_ok else "real"
        raise TypeError(f"{argument} must be a {wanted} array of numbers, got dtype {x.dtype}")
    if dtype is not None:
        dtype = getattr(xp, dtype, dtype) if isinstance(dtype, str) else dtype
        try:
            # not by kind, which knows dtypes of other libraries too
            real, imaginary = (xp.isdtype(dtype, f"{each} floating") for each in ("real", "complex"))
        except (TypeError, AttributeError):
            raise TypeError(f"dtype must be a dtype of {lib.name}, such as {xp.float32!r}, got {dtype!r}") from None
        if not (real or (complex_ok and imaginary)):
            raise TypeError(f"dtype must be a real floating dtype of {lib.name}, got {dtype}")
        if what == "complex" and real:
            raise TypeError(f"dtype {dtype} would drop the imaginary part of {argument}")
        x, dtype = base_array(lib, x), _native_dtype(lib, dtype)
        return x if x.dtype == dtype else xp.astype(x, dtype)
    return xp.astype(base_array(lib, x), default_float(xp, x)) if what == "integer" else native(lib, x)


def one_axis(axis: Any, ndim: int) -> int:
    """Normalize ``axis`` to a non-negative int; a 0-d array counts as 1-d."""
    number = integer(axis, "axis")
    size = max(ndim, 1)
    if not -size <= number < size:
        raise AxisError(f"axis {number} is out of range for an array of {ndim} dimensions")
    return number % size


def many_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Normalize ``axis`` (int, tuple of int, or None for all) to a tuple of non-negative ints."""
    if axis is None:
        return tuple(range(max(ndim, 1)))
    if not isinstance(axis, tuple):
        return (one_axis(axis, ndim),)
    axes = tuple(one_axis(each, ndim) for each in axis)
    if not axes:
        raise AxisError("axis must name at least one axis, got ()")
    if len(set(axes)) != len(axes):
        raise AxisError(f"axis names an axis twice: {axis}")
    return axes


def check_same_library(lib: Library, x: Any, other: Any, argument: str, x_name: str) -> None:
    """Raise if ``other`` belongs to another library or device than ``x``."""
    theirs = library(other, argument)
    if theirs.xp is not lib.xp:
        raise MixedArraysError(
            f"{argument} is an array of {theirs.name}, {x_name} is one of {lib.name}: convert one of them"
        )
    if type(other) is not type(x) and lib.incompatible is not None and lib.incompatible(x, other):
        raise MixedArraysError(
            f"{argument} is a {type(other).__name__}, {x_name} is a {type(x).__name__}: convert one of them"
        )
    if lib.has_device and other.device != x.device:
        raise MixedArraysError(f"{argument} is on device {other.device}, {x_name} is on {x.device}")


def as_one_chunk(lib: Library, a: Any, argument: str) -> Array:
    """Convert a NumPy or CuPy parameter to a single chunk if the library is chunked."""
    if lib.chunked and library(a, argument).name in ("numpy", "cupy"):
        return lib.xp.asarray(a, chunks=-1)
    return a


def small(lib: Library, x: Array, value: Any, argument: str, dtype: DType = None) -> Array:
    """Convert ``value`` (number, list, NumPy array or array like ``x``) to ``x``'s library, device and ``dtype``."""
    xp = lib.xp
    dtype = x.dtype if dtype is None else dtype
    device = device_of(x)
    if is_array(value):
        theirs = library(value, argument)
        if theirs.xp is lib.xp or theirs.name != "numpy":
            check_same_library(lib, x, value, argument, "the first argument")
        if kind(theirs.xp, value.dtype) not in ("real", "integer"):
            raise TypeError(f"{argument} must hold real numbers, got dtype {value.dtype}")
        if theirs.xp is lib.xp:
            value = base_array(lib, value)
            return value if value.dtype == dtype else xp.astype(value, dtype)
        value = value.tolist()
    try:
        return as_like(xp, xp.asarray(value, dtype=dtype, device=device), x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument} must be a number, a list of numbers or an array, got {value!r}") from error


def fits(shape: tuple[Any, ...], into: tuple[Any, ...]) -> bool:
    """Whether ``shape`` broadcasts to exactly ``into``."""
    if len(shape) > len(into):
        return False
    return all(a in (1, b) or a != a or b != b for a, b in zip(reversed(shape), reversed(into), strict=False))


def mask(lib: Library, x: Array, where: Any, argument: str = "where", x_name: str = "x") -> Array | None:
    """``where`` as a boolean array that broadcasts to ``x``; None where nothing is hidden."""
    if where is None or where is True:
        return None
    if where is False:
        return lib.xp.zeros((1,) * x.ndim, dtype=lib.xp.bool, device=device_of(x))
    check_same_library(lib, x, where, argument, x_name)
    if kind(lib.xp, where.dtype) != "bool":
        raise TypeError(f"{argument} must be a boolean array, got dtype {where.dtype}")
    if not fits(tuple(where.shape), tuple(x.shape)):
        raise ValueError(f"{argument} of shape {tuple(where.shape)} does not broadcast to {x_name}'s {tuple(x.shape)}")
    return base_array(lib, where)


def as_scalar(lib: Library, y: Array) -> Any:
    """Return a 0-d NumPy result as a scalar, as SciPy does."""
    return y[()] if lib.scalars and y.ndim == 0 else y


def ignore_fp_warnings(lib: Library | None = None) -> Any:
    """Context manager that ignores NumPy's floating-point warnings: infinities and NaNs are valid results.

    With a library that does not warn it is one that does nothing, which another one's compiler can trace.
    """
    return np.errstate(all="ignore") if lib is None or lib.warns else nullcontext()


def without_fp_warnings(function: Function) -> Function:
    """Decorate a function, possibly a task of another process, to ignore NumPy's floating-point warnings."""
    return np.errstate(all="ignore")(function)
