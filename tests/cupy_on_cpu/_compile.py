"""Compiling CUDA sources for the CPU: what takes the place of CuPy's call of NVRTC."""

from __future__ import annotations

import functools
import inspect
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

from ._build import INCLUDE, cache_directory, digest, identity, processor_flags, run_compiler, write
from ._entry_points import cupy_version, moved
from ._log import Source, log

# -O0 compiles no faster. A GPU does not set errno, wraps on integer overflow, and reads memory as any type.
_FLAGS = [
    "-O1",
    "-w",
    "-pipe",
    "-fPIC",
    "-fpermissive",
    "-fno-exceptions",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fwrapv",
]
# The libraries that a kernel may need, and none of the start-up code that takes a third of the linker's time
_LINK = ["-shared", "-Wl,-Bsymbolic", "-nostdlib", "-lm", "-lc"]

# An "#include <...>" would look like the end of a template's parameters
_NO_CODE = re.compile(r"//[^\n]*|/\*.*?\*/|^[ \t]*#[^\n]*", re.DOTALL | re.MULTILINE)
_BOUNDS = re.compile(r"__launch_bounds__\s*\([^)]*\)")
_KERNEL = re.compile(r"__global__[\s\w]*?\b(\w+)\s*\(")
_EXTERN_SHARED = re.compile(
    r"extern\s+__shared__\s+((?:__align__\s*\([^)]*\)\s*|__attribute__\s*\(\(.*?\)\)\s*)?)"
    r"([\w:<>\s,]+?[\s>])\s*(\w+)\s*\[\s*\]\s*;"
)


def install(compiler: ModuleType) -> None:
    """Replace the compiling function of ``cupy.cuda.compiler``."""
    name = "_compile_module_with_cache"
    original = getattr(compiler, name, None)
    if original is None:
        raise moved(f"cupy.cuda.compiler.{name}", "there is no such function")
    theirs, ours = (list(inspect.signature(f).parameters) for f in (original, compile_module))
    if theirs != ours:
        raise moved(f"cupy.cuda.compiler.{name}", f"its parameters are {', '.join(theirs)}")
    setattr(compiler, name, compile_module)


def compile_module(
    source: str,
    options: tuple[str, ...] = (),
    *,
    arch: str | None = None,
    extra_source: str | None = None,
    backend: str = "nvrtc",
    enable_cooperative_groups: bool = False,
    name_expressions: tuple[str, ...] | None = None,
    log_stream: Any = None,
    jitify: bool = False,
    to_ltoir: bool = False,
) -> Any:
    """Compile a CUDA source and return it as a CuPy module.

    Raises
    ------
    cupy.cuda.compiler.CompileException
        The source is faulty; the message is g++'s.
    """
    from cupy.cuda import compiler, function

    if enable_cooperative_groups or to_ltoir:
        raise NotImplementedError("the CPU emulation has neither cooperative groups nor link-time output")
    log.sources[Source(source, tuple(options), tuple(name_expressions or ()))] = None
    if not log.runs:
        module = function.Module()
        module.load(b"")
        module._set_mapping({name: _entry_name(i, name) for i, name in enumerate(name_expressions or ())})
        return module
    prelude = _prelude_for(source, options)
    text = translate(source, name_expressions or ())
    flags = _flags(options)
    key = digest(identity(), cupy_version(), prelude, text, *flags)
    target = cache_directory() / "kernels" / key[:2] / f"{key}.so"
    if not target.exists():
        try:
            _compile(text, prelude, flags, target)
        except subprocess.CalledProcessError as error:
            raise compiler.CompileException(error.stderr, text, f"{key}.cu", options, "g++") from None
        log.compiled += 1
    module = function.Module()
    module.load(str(target).encode())
    if name_expressions:
        module._set_mapping({name: _entry_name(i, name) for i, name in enumerate(name_expressions)})
    return module


def translate(source: str, name_expressions: tuple[str, ...]) -> str:
    """Return the source as C++, with one launching function for every kernel."""
    entries = {name: name for name in kernel_names(source)}
    entries |= {_entry_name(i, expression): expression for i, expression in enumerate(name_expressions)}
    # The size of dynamic shared memory is known at the launch: the array becomes a name for the block's pointer
    source = _EXTERN_SHARED.sub(r"\2*& \3 = reinterpret_cast<\2*&>(emulator_shared);", source)
    launchers = "".join(
        f'extern "C" int emulator_entry_{entry}(void** arguments, const unsigned* dims, unsigned shared_bytes) '
        f"{{ return emulator_launch({expression}, arguments, dims, shared_bytes); }}\n"
        for entry, expression in entries.items()
    )
    return f"{source}\n{launchers}"


def _entry_name(index: int, expression: str) -> str:
    return re.sub(r"\W+", "_", f"{expression}{index}")


def kernel_names(source: str) -> list[str]:
    """Return the names of the kernels in a source that are no templates, in order."""
    bare = _BOUNDS.sub(" ", _NO_CODE.sub(" ", source))
    names = []
    for found in _KERNEL.finditer(bare):
        before = re.sub(r"((extern\s*\"C\"|static|inline)\s*)+$", "", bare[: found.start()]).rstrip()
        if not before.endswith(">"):
            names.append(found[1])
    return list(dict.fromkeys(names))


def _prelude_for(source: str, options: tuple[str, ...]) -> str:
    # cupyx.jit sets a macro that changes what CuPy's headers hold, so they cannot have been read before it
    generated = "#include <cupy/complex.cuh>" in source and not any(
        "CUPY_JIT_MODE" in text for text in (source, *options)
    )
    return "cupy_prelude.h" if generated else "emulator.h"


def _flags(options: tuple[str, ...]) -> list[str]:
    standard = [o for o in options if re.fullmatch(r"--?std=c\+\+\d\w", o)] or ["-std=c++17"]
    contract = "off" if "--fmad=false" in options or "-fmad=false" in options else "fast"
    folders = [f"-I{Path(o[2:]).absolute()}" for o in options if o.startswith("-I")]
    macros = [o.replace("--define-macro=", "-D") for o in options if o.startswith(("-D", "-U", "--define-macro="))]
    return [
        *_FLAGS,
        *processor_flags(),
        f"-ffp-contract={contract}",
        # Older standards lack what emulator.h is written in
        standard[-1].replace("--", "-") if standard[-1][-2:] in ("17", "20") else "-std=c++17",
        f"-I{INCLUDE}",
        *folders,
        *macros,
    ]


def _compile(text: str, prelude: str, flags: list[str], target: Path) -> None:
    files = {"kernel.cpp": text}
    try:
        folder = _precompiled(prelude, tuple(flag for flag in flags if not flag.startswith(("-D", "-U"))))
        run_compiler(files, [*flags, "-include", str(folder / "prelude.h"), *_LINK], target)
    except subprocess.CalledProcessError as error:
        # Some hardened kernels give g++ no fixed address to load a precompiled header at
        if "PCH" not in error.stderr:
            raise
        run_compiler(files, [*flags, "-include", str(INCLUDE / prelude), *_LINK], target)


@functools.cache
def _precompiled(prelude: str, flags: tuple[str, ...]) -> Path:
    """Return a folder with ``prelude.h`` and its precompiled form, which g++ takes in its place."""
    folder = cache_directory() / f"prelude-{digest(identity(), cupy_version(), prelude, *flags)}"
    if not (folder / "prelude.h.gch").exists():
        text = f"#include <{prelude}>\n"
        run_compiler({"prelude.h": text}, flags, folder / "prelude.h.gch")
        write(folder / "prelude.h", text)
    return folder
