"""Arrays of any library: made from NumPy arrays, read back into them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .._array.namespace import is_array, library
from .._array.typing import Array, Device, Namespace
from ._libraries import LIBRARIES

Host: TypeAlias = npt.NDArray[Any]


def dtype_name(dtype: Any) -> str:
    """The standard's name of a dtype, such as ``"float32"``."""
    return str(dtype).rpartition(".")[2].lower()


def to_host(array: Any, read: Callable[[Array], Host] | None = None) -> Host:
    """Copy ``array`` to the host, bfloat16 as float32; numbers and lists pass through NumPy.

    ``read`` takes the place of what is known of the library.
    """
    if isinstance(array, np.ndarray | np.generic) or not is_array(array):
        return np.asarray(array)
    lib = library(array, "array")
    if dtype_name(array.dtype) == "bfloat16":
        array = lib.xp.astype(array, lib.xp.float32)
    if read is not None:
        return np.asarray(read(array))
    home = default_device(lib.xp)
    if hasattr(array, "to_device") and home is not None and array.device != home:
        array = array.to_device(home)
    if lib.name in LIBRARIES:
        known = LIBRARIES[lib.name]
        return known.get(importlib.import_module(known.module), [array])[0]
    try:
        host = np.asarray(array)
        if host.dtype != object:
            return host
    except (TypeError, ValueError, RuntimeError):
        pass
    return np.from_dlpack(array)


def from_host(xp: Namespace, host: Host, dtype: str, device: Device = None) -> Array:
    """``host`` as an array of ``xp`` that shares no memory with it; lazy arrays in two chunks, NumPy's read-only."""
    copied = np.array(host)
    array = xp.asarray(copied, dtype=getattr(xp, dtype), device=device)
    if hasattr(array, "rechunk") and array.ndim and array.shape[0] > 1:
        return array.rechunk({0: -(-array.shape[0] // 2)})
    if isinstance(array, np.ndarray):
        array.flags.writeable = False
    return array


def default_device(xp: Namespace) -> Device:
    """The device that ``xp`` makes arrays on, None where it does not tell."""
    try:
        return xp.__array_namespace_info__().default_device()
    except (AttributeError, TypeError):
        return None


@dataclass(frozen=True)
class Arrays:
    """The arrays of one library on one device.

    Parameters
    ----------
    xp : namespace
        As array-api-compat gives it.
    name : str
        The library's name.
    device : device, optional
        Where arrays are made; None is the library's default.
    read : callable, optional
        ``read(array)`` gives a NumPy array; None uses what is known of the library.
    """

    xp: Namespace
    name: str
    device: Device = None
    read: Callable[[Array], Host] | None = None

    @classmethod
    def of(cls, xp: Any, device: Device = None, read: Callable[[Array], Host] | None = None) -> Arrays:
        """The arrays of a namespace, the library's own or the one of array-api-compat."""
        lib = library(xp.asarray(0.0), "the array that asarray makes")
        return cls(lib.xp, lib.name, device, read)

    @classmethod
    def named(cls, name: str, device: Device = None) -> Arrays:
        """The arrays of a library that is known by name."""
        return cls.of(importlib.import_module(LIBRARIES[name].module), device)

    def put(self, data: Any, dtype: str = "float64") -> Array:
        """``data`` as an array of the library, on the device."""
        return from_host(self.xp, np.asarray(data), dtype, self.device)

    def get(self, array: Any) -> Host:
        """A copy of ``array`` on the host."""
        return to_host(array, self.read)

    def exact(self, data: Any, dtype: str) -> Host:
        """``data`` as it is after rounding to ``dtype``, in float64."""
        return self.get(self.put(data, dtype)).astype(np.float64)

    def has_dtype(self, name: str) -> bool:
        """Whether arrays of a dtype can be made on the device, and computed with."""
        try:
            made = self.put(np.asarray([1, 0], dtype=np.int64 if "int" in name else np.float64), name)
            return dtype_name(made.dtype) == name and self.get(made).shape == (2,)
        except Exception:  # noqa: BLE001 - each library refuses a dtype in its own way
            return False

    def session(self) -> AbstractContextManager[Any]:
        """Open a block in which the library computes in the width asked for."""
        known = LIBRARIES.get(self.name)
        return contextlib.nullcontext() if known is None else known.session(importlib.import_module(known.module))

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any] | None:
        """``function`` as compiled by the library; None where the library runs it as it is."""
        known = LIBRARIES.get(self.name)
        if known is None:
            return None
        made = known.compile(importlib.import_module(known.module), function)
        return None if made is function else made

    def other_devices(self) -> Sequence[Device]:
        """Devices beside the one in use that arrays can be put on and read back from."""
        try:
            devices = self.xp.__array_namespace_info__().devices()
        except (AttributeError, TypeError):
            return []
        here = getattr(self.put([1.0], "float32"), "device", None)
        found = []
        for device in devices:
            try:
                there = from_host(self.xp, np.ones(1), "float32", device)
                same = there.device == here
                # a device without values, or one that the array does not own up to, is none to compute on
                if not same and device is not None and there.device == device and self.get(there + there)[0] == 2:
                    found.append(device)
            except Exception:  # noqa: BLE001 - each library refuses a device in its own way
                continue
        return found
