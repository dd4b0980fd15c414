# ruff: noqa: N802 - every method bears the name of the CUDA function that it stands for
"""What stands in for the functions of CUDA's runtime."""

from __future__ import annotations

import ctypes
import itertools
import time
from typing import Any

from ._log import log
from ._memory import DeviceFaultError, Memory

CUDA_VERSION = 12090
# cudaDeviceAttr, of a GPU with compute capability 8.0
ATTRIBUTES = {
    1: 1024,  # threads a block, then along x, y and z
    2: 1024,
    3: 1024,
    4: 64,
    5: 2**31 - 1,  # blocks a grid along x, y and z
    6: 65535,
    7: 65535,
    8: 49152,  # shared memory a block
    10: 32,  # threads a warp
    12: 65536,  # registers a block
    13: 1_000_000,  # clock rate
    16: 8,  # multiprocessors
    39: 2048,  # threads a multiprocessor
    41: 1,  # unified addressing
    75: 8,  # compute capability
    76: 0,
    81: 167936,  # shared memory a multiprocessor
    82: 65536,
    97: 166912,  # shared memory that a block may ask for
    106: 32,  # blocks a multiprocessor
}
_MEMORY = 8 << 30
_PROPERTIES = {
    "name": b"CPU emulation of one GPU",
    "major": 8,
    "minor": 0,
    "warpSize": 32,
    "maxThreadsPerBlock": 1024,
    "maxThreadsPerMultiProcessor": 2048,
    "multiProcessorCount": 8,
    "sharedMemPerBlock": 49152,
    "sharedMemPerMultiprocessor": 167936,
    "totalGlobalMem": _MEMORY,
    "maxGridSize": (2**31 - 1, 65535, 65535),
    "maxThreadsDim": (1024, 1024, 64),
    "pciBusID": 0,
    "pciDeviceID": 0,
    "pciDomainID": 0,
    "integrated": 0,
}
_DEVICE_MEMORY, _HOST_MEMORY = 2, 1
_BY_ADDRESS = 4
# cudaMemcpyKind: whether the target and the source lie on the device
_SIDES = {0: (False, False), 1: (True, False), 2: (False, True), 3: (True, True)}


class Runtime:
    """CUDA's runtime of one device. Everything has happened when a call returns, whatever its stream."""

    def __init__(self, memory: Memory) -> None:
        self.__memory = memory
        self.__numbers = itertools.count(1)
        self.__recorded: dict[int, float] = {}

    def malloc(self, size: int) -> int:
        return self.__memory.allocate(size, on_device=True)

    def mallocManaged(self, size: int, flags: int = 0) -> int:
        return self.__memory.allocate(size, on_device=True)

    def mallocAsync(self, size: int, stream: int) -> int:
        return self.__memory.allocate(size, on_device=True)

    def hostAlloc(self, size: int, flags: int) -> int:
        return self.__memory.allocate(size, on_device=False)

    def free(self, address: int) -> None:
        self.__memory.release(address)

    def freeHost(self, address: int) -> None:
        self.__memory.release(address)

    def freeAsync(self, address: int, stream: int) -> None:
        self.__memory.release(address)

    def memGetInfo(self) -> tuple[int, int]:
        return _MEMORY - log.bytes_in_use, _MEMORY

    def pointerGetMemoryType(self, address: int) -> int:
        return _DEVICE_MEMORY if self.__memory.on_device(address) else _HOST_MEMORY

    def pointerGetAttributes(self, address: int) -> Any:
        from cupy_backends.cuda.api.runtime import PointerAttributes

        return PointerAttributes(0, address, 0, self.pointerGetMemoryType(address))

    def memcpy(self, target: int, source: int, size: int, kind: int) -> None:
        self.__memory.check()
        sides = self.__memory.on_device(target), self.__memory.on_device(source)
        if kind != _BY_ADDRESS and sides != _SIDES[kind]:
            raise DeviceFaultError(f"memcpy of kind {kind} with an address on the wrong side")
        if sides == (False, True):
            log.to_host(f"a copy of {size} bytes from the device to the host")
            log.d2h += 1
        elif sides == (True, False):
            log.h2d += 1
        elif sides == (True, True):
            log.d2d += 1
        ctypes.memmove(target, source, size)

    def memcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        self.memcpy(target, source, size, kind)

    def memset(self, target: int, value: int, size: int) -> None:
        self.__memory.check()
        log.memsets += 1
        ctypes.memset(target, value, size)

    def memsetAsync(self, target: int, value: int, size: int, stream: int) -> None:
        self.memset(target, value, size)

    def getDevice(self) -> int:
        return 0

    def getDeviceCount(self) -> int:
        return 1

    def setDevice(self, device: int) -> None:
        if device != 0:
            raise DeviceFaultError(f"the emulation has device 0 alone, not {device}")

    def deviceGetAttribute(self, attribute: int, device: int) -> int:
        return ATTRIBUTES.get(attribute, 0)

    def getDeviceProperties(self, device: int) -> dict[str, Any]:
        return dict(_PROPERTIES)

    def deviceCanAccessPeer(self, device: int, peer: int) -> int:
        return 0

    def deviceGetLimit(self, limit: int) -> int:
        return 1 << 20

    def driverGetVersion(self) -> int:
        return CUDA_VERSION

    def runtimeGetVersion(self) -> int:
        return CUDA_VERSION

    def _getCUDAMajorVersion(self) -> int:
        return CUDA_VERSION // 1000

    def _ensure_context(self) -> None:
        pass

    def deviceSynchronize(self) -> None:
        self.__wait("a wait for the device")

    def streamSynchronize(self, stream: int) -> None:
        self.__wait("a wait for a stream")

    def eventSynchronize(self, event: int) -> None:
        self.__wait("a wait for an event")

    def __wait(self, what: str) -> None:
        self.__memory.check()
        log.to_host(what)
        log.syncs += 1

    def streamCreate(self) -> int:
        return next(self.__numbers)

    def streamCreateWithFlags(self, flags: int) -> int:
        return next(self.__numbers)

    def streamCreateWithPriority(self, flags: int, priority: int) -> int:
        return next(self.__numbers)

    def streamDestroy(self, stream: int) -> None:
        pass

    def streamQuery(self, stream: int) -> None:
        pass

    def streamIsCapturing(self, stream: int) -> int:
        return 0

    def streamWaitEvent(self, stream: int, event: int, flags: int = 0) -> None:
        pass

    def eventCreate(self) -> int:
        return next(self.__numbers)

    def eventCreateWithFlags(self, flags: int) -> int:
        return next(self.__numbers)

    def eventDestroy(self, event: int) -> None:
        self.__recorded.pop(event, None)

    def eventQuery(self, event: int) -> None:
        pass

    def eventRecord(self, event: int, stream: int) -> None:
        self.__recorded[event] = time.perf_counter()

    def eventElapsedTime(self, start: int, end: int) -> float:
        return 1e3 * (self.__recorded[end] - self.__recorded[start])
