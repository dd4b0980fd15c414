"""Arrays of any library: made from NumPy arrays, read back into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._array.libraries import known
from .._array.libraries.declaration import ArrayLibrary, dtype_name
from .._array.namespace import is_array, library
from .._array.typing import AnyArray, Device, Namespace, NDArray


def to_host(array: Any, read: Callable[[AnyArray], NDArray] | None = None) -> NDArray:
    """Copy ``array`` to the host, bfloat16 as float32; numbers and lists pass through NumPy.

    ``read`` takes the place of what is declared of the library.
    """
    if isinstance(array, np.ndarray | np.generic) or not is_array(array):
        return np.asarray(array)
    lib = library(array, "array")
    if read is None:
        return np.asarray(known(lib.name).read_all(lib.xp, [array])[0])
    if dtype_name(array.dtype) == "bfloat16":
        array = lib.xp.astype(array, lib.xp.float32)
    return np.asarray(read(array))


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
    read: Callable[[AnyArray], NDArray] | None = None

    @classmethod
    def of(cls, xp: Any, device: Device = None, read: Callable[[AnyArray], NDArray] | None = None) -> Arrays:
        """The arrays of a namespace, the library's own or the one of array-api-compat."""
        lib = library(xp.asarray(0.0), "the array that asarray makes")
        return cls(lib.xp, lib.name, device, read)

    @property
    def declared(self) -> ArrayLibrary:
        """What is declared of the library."""
        return known(self.name)

    def put(self, data: Any, dtype: str = "float64") -> AnyArray:
        """``data`` as an array on the device that shares no memory with it; NumPy's are read-only."""
        return self._on(self.device, np.asarray(data), dtype)

    def _on(self, device: Device, host: NDArray, dtype: str) -> AnyArray:
        array = self.declared.make(self.xp, host, dtype, device)
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
        return array

    def get(self, array: Any) -> NDArray:
        """A copy of ``array`` on the host."""
        return to_host(array, self.read)

    def exact(self, data: Any, dtype: str) -> NDArray:
        """``data`` as it is after rounding to ``dtype``, in float64."""
        return self.get(self.put(data, dtype)).astype(np.float64)

    def has_dtype(self, name: str) -> bool:
        """Whether arrays of a dtype can be made on the device, and computed with."""
        try:
            made = self.put(np.asarray([1, 0], dtype=np.int64 if "int" in name else np.float64), name)
            return hasattr(self.xp, name) and dtype_name(made.dtype) == name and self.get(made).shape == (2,)
        except Exception:  # noqa: BLE001 - each library refuses a dtype in its own way
            return False

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
                there = self._on(device, np.ones(1), "float32")
                same = there.device == here
                # a device without values, or one that the array does not own up to, is none to compute on
                if not same and device is not None and there.device == device and self.get(there + there)[0] == 2:
                    found.append(device)
            except Exception:  # noqa: BLE001 - each library refuses a device in its own way
                continue
        return found
