"""NVRTC from wheels: CUDA sources are compiled as CuPy has them compiled, with no GPU and no toolkit."""

from __future__ import annotations

import ctypes
import functools
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cupy_on_cpu._log import Source

#: Turing to Blackwell; what CuPy 14 is built for and CUDA 12 and 13 both know.
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
#: Where the wheels of a version have the library, and the headers.
_WHEELS = {
    12: ("cuda_nvrtc/lib/libnvrtc.so.12", "cuda_runtime/include"),
    13: ("cu13/lib/libnvrtc.so.13", "cu13/include"),
}
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.MULTILINE)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)


def _wheel(path: str) -> Path:
    spec = find_spec("nvidia")
    for folder in (spec and spec.submodule_search_locations) or ():
        if Path(folder, path).exists():
            return Path(folder, path)
    raise FileNotFoundError(f"no wheel of NVIDIA's brings {path}: pip install --group gpu_static")


@functools.cache
def _library(cuda: int) -> ctypes.CDLL:
    return ctypes.CDLL(str(_wheel(_WHEELS[cuda][0])))


def compile_source(source: Source, arch: str, cuda: int = 12) -> tuple[str, bytes]:
    """(the compiler's log, the machine code); no code where the source is refused."""
    lib = _library(cuda)
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    lib.nvrtcCreateProgram(ctypes.byref(program), source.text.encode(), b"kernel.cu", 0, None, None)
    for name in source.name_expressions:
        lib.nvrtcAddNameExpression(program, name.encode())
    # CuPy's own additions for a GPU of this architecture, and CUDA's headers in place of the emulation's
    options = [each for each in source.options if "cupy_on_cpu" not in each]
    options += ["-ftz=true", "--device-as-default-execution-space", f"-arch={arch}", f"-I{_wheel(_WHEELS[cuda][1])}"]
    result = lib.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*(each.encode() for each in options))
    )
    lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value + 1)
    lib.nvrtcGetProgramLog(program, log)
    code = b""
    if result == 0:
        lib.nvrtcGetCUBINSize(program, ctypes.byref(size))
        cubin = ctypes.create_string_buffer(size.value)
        lib.nvrtcGetCUBIN(program, cubin)
        code = cubin.raw
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    return (log.value.decode() or ("" if code else f"NVRTC answers {result}")), code


def joined(group: list[Source]) -> Source:
    """Sources with the same headers as one, each in a namespace, ``n0`` and so on."""
    headers = [each.strip() for each in _INCLUDE.findall(group[0].text)]
    bodies = (f"namespace n{i} {{\n{_body(source.text)}\n}}" for i, source in enumerate(group))
    return Source("\n".join([*headers, *bodies]), group[0].options, ())


def refused(sources: Iterable[Source], arch: str, cuda: int) -> list[str]:
    """The compiler's words on each source that it refuses.

    Reading CUDA's and CuPy's headers takes nine tenths of a compilation: sources with the same ones go together, each
    in a namespace. What is refused together is compiled alone to be named.
    """
    together = defaultdict(list)
    for source in sources:
        together[tuple(each.strip() for each in _INCLUDE.findall(source.text)), source.options].append(source)
    complaints = []
    for group in together.values():
        if compile_source(joined(group) if len(group) > 1 else group[0], arch, cuda)[1]:
            continue
        for source in group:
            log, code = compile_source(source, arch, cuda)
            if not code:
                complaints.append(f"{log}\n{source.text}")
    return complaints


def _body(text: str) -> str:
    """A source without its headers, and without what would meet its neighbour's of the same name."""
    bare = _INCLUDE.sub("", text).replace('extern "C" __global__', "__global__")
    return bare + "".join(f"\n#undef {name}" for name in dict.fromkeys(_DEFINE.findall(bare)))


def _told(tool: str, *args: Any) -> str:
    """What a tool of CUDA's says, as the wheel of Triton has it."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "backends/nvidia/bin" / tool
    run = subprocess.run([program, *args], capture_output=True, text=True, check=True)
    return run.stdout + run.stderr


def wide_accesses(code: bytes, folder: Path) -> dict[str, tuple[int, int]]:
    """The 128-bit loads from global memory and stores to it of every kernel of a compiled source."""
    (folder / "kernel.cubin").write_bytes(code)
    parts = re.split(r"^\.text\.(\w+):", _told("nvdisasm", "-c", folder / "kernel.cubin"), flags=re.MULTILINE)
    return {
        name: (len(re.findall(r"\bLDG\.\S*128", text)), len(re.findall(r"\bSTG\.\S*128", text)))
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def usage(code: bytes, folder: Path) -> dict[str, dict[str, int]]:
    """Registers, stack (what is spilled goes there), shared and local memory of every kernel of a compiled source."""
    (folder / "kernel.cubin").write_bytes(code)
    told = _told("cuobjdump", "-res-usage", folder / "kernel.cubin")
    lines = re.findall(r"Function (\w+):\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", told)
    return {
        name: dict(zip(("registers", "stack", "shared", "local"), map(int, each), strict=True)) for name, *each in lines
    }
