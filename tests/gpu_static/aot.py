"""Triton's kernels compiled for GPUs that are not there: what of registers and loads each takes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from softgrad.backends.triton import layout

#: A100, H100 and H200, B200.
CAPABILITIES = (80, 90, 100)
_BIN = Path(triton.__file__).parent / "backends/nvidia/bin"
ITEM = {"fp16": 2, "bf16": 2, "fp32": 4}


class Compiled(NamedTuple):
    """What a kernel uses, and its loads of global memory."""

    registers: int
    #: Bytes of a thread's own memory: what is spilled goes there.
    stack: int
    local: int
    #: Bits of each load from global memory and of each store to it, as instructions stand in the code.
    loads: list[int]
    stores: list[int]
    #: Instructions in all.
    size: int


def _bits(operation: str) -> int:
    found = re.search(r"\.(?:U|S)?(8|16|64|128|256)\b", operation)
    return int(found[1]) if found else 32


def compile_kernel(
    kernel: Any, arguments: dict[str, str], constants: dict[str, Any], capability: int, warps: int, folder: Path
) -> Compiled:
    """Compile with every pointer and every size a multiple of 16, which whole rows of 128,256 classes are."""
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else arguments[name] for name in names}
    even = {
        (i,): [["tt.divisibility", 16]]
        for i, kind in enumerate(signature.values())
        if kind.startswith("*") or kind in ("i32", "i64")
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=even)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    path = folder / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    told = subprocess.run([_BIN / "cuobjdump", "-res-usage", path], capture_output=True, text=True, check=True)
    used = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told.stdout + told.stderr)
    assert used is not None
    sass = subprocess.run([_BIN / "nvdisasm", "-c", path], capture_output=True, text=True, check=True).stdout
    loads = [_bits(each) for each in re.findall(r"\bLDG\.[\w.]+", sass)]
    stores = [_bits(each) for each in re.findall(r"\bSTG\.[\w.]+", sass)]
    return Compiled(
        *map(int, used.groups()), loads, stores, len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", sass, re.MULTILINE))
    )


def shape_of(k: int) -> dict[str, Any]:
    """The constants of a launch on many rows of ``k`` classes next to each other."""
    shape = layout.launch(1 << 16, k, True)
    return {"tile": shape.tile, "ROWS": shape.rows, "BLOCK": shape.block, "warps": shape.warps}
