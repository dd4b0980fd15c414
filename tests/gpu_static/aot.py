"""Triton's kernels compiled for GPUs that are not there: what of registers and loads each takes."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Compiled(NamedTuple):
    """What a kernel uses, and its accesses of global memory."""

    registers: int
    #: Bytes of a thread's own memory: what is spilled goes there.
    stack: int
    local: int
    #: Bits of each load from global memory and of each store to it.
    loads: list[int]
    stores: list[int]
    #: The layout of each sum over a row's classes, which its order follows.
    sums: list[str]
    #: Additions, multiplications and fused ones.
    operations: Counter[str]


def compile_kernel(
    kernel: Any, arguments: dict[str, str], constants: dict[str, Any], capability: int, folder: Path, **options: Any
) -> Compiled:
    """Compile with every pointer and every size a multiple of 16, which whole rows of 128,256 classes are."""
    signature = {name: "constexpr" if name in constants else arguments[name] for name in kernel.arg_names}
    even = {
        (i,): [["tt.divisibility", 16]]
        for i, kind in enumerate(signature.values())
        if kind.startswith("*") or kind in ("i32", "i64")
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=even)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    path = folder / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    told = subprocess.run([_TOOL, "-res-usage", path], capture_output=True, text=True, check=True)
    used = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told.stdout + told.stderr)
    assert used is not None
    ptx, layouts = compiled.asm["ptx"], compiled.asm["ttgir"]
    accesses = re.findall(r"\b(ld|st)\.global\S*?(?:\.v(\d))?\.[bfsu](\d+)\b", ptx)
    bits = {
        kind: [int(many or 1) * int(size) for each, many, size in accesses if each == kind] for kind in ("ld", "st")
    }
    named = dict(re.findall(r"^(#\w+) = (#ttg.blocked<.*>)$", layouts, re.MULTILINE))
    sums = [named[each] for each in re.findall(r"tensor<\d+x\d+xf32, (#\w+)>\) -> tensor<\d+xf32, #ttg.slice", layouts)]
    operations = Counter(re.findall(r"\b(add|sub|mul|fma)\.(?:rn\.)?(?:ftz\.)?f32\b", ptx))
    return Compiled(*map(int, used.groups()), bits["ld"], bits["st"], sums, operations)
