"""The memory of the emulated device: host memory between guards."""

from __future__ import annotations

import ctypes
from bisect import bisect_right, insort

from ._log import log

_ALIGNMENT = 256
_GUARD = 256
_UNTOUCHED = b"\xff" * _GUARD


class DeviceFaultError(RuntimeError):
    """A kernel or a call did what a GPU would answer with an error, or with damage."""


class Memory:
    """Blocks of device memory and of pinned host memory.

    A block lies between two guards and is filled with ones, NaN in every floating type: a read of memory never written
    shows, and a write beyond a block is noticed when the block is freed.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.malloc.restype = ctypes.c_void_p
        self._libc.malloc.argtypes = [ctypes.c_size_t]
        self._libc.free.argtypes = [ctypes.c_void_p]
        self._starts: list[int] = []
        self._blocks: dict[int, tuple[int, int, bool]] = {}  # start -> (base, size, on the device)
        self._damage = ""

    def allocate(self, size: int, on_device: bool) -> int:
        base = self._libc.malloc(size + 2 * _GUARD + _ALIGNMENT)
        if not base:
            raise MemoryError(f"no {size} bytes for the emulated device")
        start = -(-(base + _GUARD) // _ALIGNMENT) * _ALIGNMENT
        ctypes.memset(start - _GUARD, 0xFF, size + 2 * _GUARD)
        insort(self._starts, start)
        self._blocks[start] = (base, size, on_device)
        if on_device:
            log.allocated(size)
        return start

    def release(self, start: int) -> None:
        if not start:
            return
        base, size, on_device = self._blocks.pop(start)
        del self._starts[bisect_right(self._starts, start) - 1]
        if on_device:
            log.bytes_in_use -= size
        for address, side in ((start - _GUARD, "before"), (start + size, "behind")):
            if ctypes.string_at(address, _GUARD) != _UNTOUCHED:
                # Raised by check(): CuPy frees in destructors, where an exception would be lost
                self._damage = f"a kernel wrote {side} an array of {size} bytes"
        self._libc.free(base)

    def on_device(self, address: int) -> bool:
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return False
        _, size, on_device = self._blocks[self._starts[at]]
        return on_device and address < self._starts[at] + max(size, 1)

    def check(self) -> None:
        """Raise what an earlier release found."""
        if self._damage:
            message, self._damage = self._damage, ""
            raise DeviceFaultError(message)
