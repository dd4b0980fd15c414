# ruff: noqa: N802 - every method bears the name of the CUDA function that it stands for
"""What stands in for the functions of CUDA's driver: loading modules and launching kernels."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

from ._log import log
from ._memory import DeviceFaultError, Memory
from ._runtime import ATTRIBUTES, CUDA_VERSION

_Dimensions = ctypes.c_uint * 6
_GRID_LIMITS = (ATTRIBUTES[5], ATTRIBUTES[6], ATTRIBUTES[7])
_BLOCK_LIMITS = (ATTRIBUTES[2], ATTRIBUTES[3], ATTRIBUTES[4])
_MOST_THREADS, _SHARED_BYTES, _MOST_SHARED_BYTES = ATTRIBUTES[1], ATTRIBUTES[8], ATTRIBUTES[97]
# CUfunction_attribute
_LIMIT_OF_SHARED = 8
_FUNCTION_ATTRIBUTES = {0: _MOST_THREADS, 4: 32, 5: 80, 6: 80}


class Driver:
    """CUDA's driver. A module is a shared library, "loaded" from the bytes of its path."""

    def __init__(self, memory: Memory, threads: ctypes.PyDLL) -> None:
        self.__memory = memory
        threads.emulator_error.restype = ctypes.c_char_p
        self.__kernel_error = threads.emulator_error
        self.__numbers = itertools.count(1)
        self.__modules: dict[int, ctypes.PyDLL | None] = {}
        self.__functions: dict[int, tuple[Any, str]] = {}
        self.__limit_of_shared: dict[int, int] = {}

    def moduleLoadData(self, path: bytes) -> int:
        number = next(self.__numbers)
        # PyDLL keeps the GIL: the state of the running block is one per process
        self.__modules[number] = ctypes.PyDLL(path.decode()) if path else None
        return number

    def moduleUnload(self, module: int) -> None:
        pass

    def moduleGetFunction(self, module: int, name: str) -> int:
        number = next(self.__numbers)
        if self.__modules[module] is None:
            self.__functions[number] = (lambda *_: 0, name)
            return number
        try:
            function = getattr(self.__modules[module], f"emulator_entry_{name}")
        except AttributeError:
            raise DeviceFaultError(f"the module has no kernel {name!r}") from None
        function.argtypes = [ctypes.c_void_p, _Dimensions, ctypes.c_uint]
        self.__functions[number] = (function, name)
        return number

    def moduleGetGlobal(self, module: int, name: str) -> int:
        return ctypes.addressof(ctypes.c_char.in_dll(self.__modules[module], name))

    def launchKernel(
        self,
        function: int,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared_bytes: int,
        stream: int,
        arguments: int,
        extra: int,
    ) -> None:
        self.__memory.check()
        launch, name = self.__functions[function]
        grid, block = (grid_x, grid_y, grid_z), (block_x, block_y, block_z)
        inside = all(0 < n <= most for n, most in zip(grid + block, _GRID_LIMITS + _BLOCK_LIMITS, strict=True))
        if not inside or block_x * block_y * block_z > _MOST_THREADS:
            raise DeviceFaultError(f"kernel {name!r} launched on a grid {grid} of blocks {block}")
        if shared_bytes > self.__limit_of_shared.get(function, _SHARED_BYTES):
            raise DeviceFaultError(f"kernel {name!r} asks for {shared_bytes} bytes of shared memory")
        log.launches.append(name)
        if launch(arguments, _Dimensions(*grid, *block), shared_bytes):
            raise DeviceFaultError(f"kernel {name!r}: {self.__kernel_error().decode()}")

    def launchCooperativeKernel(
        self,
        function: int,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared_bytes: int,
        stream: int,
        arguments: int,
    ) -> None:
        raise DeviceFaultError("the emulation runs blocks one after another: no cooperative launch")

    def ctxGetCurrent(self) -> int:
        return 1

    def ctxGetDevice(self) -> int:
        return 0

    def occupancyMaxActiveBlocksPerMultiprocessor(self, function: int, block: int, shared: int) -> int:
        return max(1, ATTRIBUTES[39] // max(1, block))

    def occupancyMaxPotentialBlockSize(self, function: int, shared: int, limit: int) -> tuple[int, int]:
        return ATTRIBUTES[16], min(limit or _MOST_THREADS, _MOST_THREADS)

    def funcGetAttribute(self, attribute: int, function: int) -> int:
        if attribute == _LIMIT_OF_SHARED:
            return self.__limit_of_shared.get(function, _SHARED_BYTES)
        return _FUNCTION_ATTRIBUTES.get(attribute, 0)

    def funcSetAttribute(self, function: int, attribute: int, value: int) -> None:
        if attribute == _LIMIT_OF_SHARED:
            if value > _MOST_SHARED_BYTES:
                raise DeviceFaultError(f"a block cannot have {value} bytes of shared memory")
            self.__limit_of_shared[function] = value

    def get_build_version(self) -> int:
        return CUDA_VERSION
