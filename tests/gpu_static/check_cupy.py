"""What a public call hands to CuPy's compiler is CUDA C that NVRTC takes; g++ of the emulation knows more names."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import nvrtc
import pytest

import calls
import cupy_calls
import cupy_on_cpu
import softgrad as sg
from cupy_on_cpu._log import Source
from softgrad.backends.cupy.source import BLOCK, STAGED, THREAD

DTYPES = ("float16", "float32", "float64")
#: Few classes, a thread a row, and many, a block a row: aligned to 16 bytes or not.
CLASSES = (5, 70, 72)
#: Of any kernel of a whole row; 65,536 registers of a multiprocessor then hold 896 threads.
MOST_REGISTERS = 72


@pytest.fixture(scope="session")
def sources():
    """Every source that the calls of all public functions hand to CuPy."""
    cupy = cupy_on_cpu.install()
    for dtype in DTYPES:
        few, many, aligned = (
            {name: cupy.asarray(each) for name, each in cupy_calls.data(dtype, classes).items()} for classes in CLASSES
        )
        for kernels in ("cupy", "generic"):
            with sg.backends.use(kernels):
                for _, call in cupy_calls.calls(few):
                    call()
        for each in (many, aligned):
            sg.softmax(each["x"])
            sg.cross_entropy(each["x"], each["labels"])

        def asarray(host, asked=None, samples=True, dtype=dtype):
            return cupy.asarray(host, asked or (dtype if np.asarray(host).dtype == "float64" else None))

        for name, call in calls.CALLS.items():
            with contextlib.nullcontext() if "bfloat16" not in name else pytest.raises(TypeError):
                call(asarray)
    return list(cupy_on_cpu.log.sources)


@pytest.fixture(scope="session")
def rows(sources):
    """Those that softgrad wrote."""
    return [source for source in sources if "void dense(" in source.text]


def what(source):
    """(kind, whether it reads by 128 bits, the dtype) of a kernel of a whole row."""
    return (
        int(re.search(r"#define KIND (\d)", source.text)[1]),
        "#define WIDE 1" in source.text,
        re.search(r"typedef (\w+) T;", source.text)[1],
    )


def test_every_kernel_of_a_whole_row_is_among_the_sources(sources, rows):
    kinds = ((BLOCK, False), (BLOCK, True), (STAGED, True), (THREAD, False))
    wanted = {(*kind, T) for T in ("__half", "float", "double") for kind in kinds}
    # every row of 70 doubles is aligned
    assert {what(source) for source in rows} >= wanted - {(BLOCK, False, "double")}
    assert len(sources) > 150


@pytest.mark.parametrize(("arch", "cuda"), [(nvrtc.ARCHITECTURES[0], 12), (nvrtc.ARCHITECTURES[-1], 13)])
def test_nvrtc_compiles_what_public_calls_hand_to_it(arch, cuda, sources):
    complaints = nvrtc.refused(sources, arch, cuda)
    assert not complaints, "\n\n".join([f"{len(complaints)} of {len(sources)} sources", *complaints])


@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
def test_kernels_of_whole_rows_compile_and_stay_in_registers(arch, rows, tmp_path):
    # each architecture by one of the compilers, every other by the older
    cuda = 12 + nvrtc.ARCHITECTURES.index(arch) % 2
    log, code = nvrtc.compile_source(nvrtc.joined(rows), arch, cuda)
    assert code, log
    used = nvrtc.usage(code, tmp_path)
    assert len(used) == 3 * len(rows)
    assert max(each["registers"] for each in used.values()) <= MOST_REGISTERS, used
    assert not any(each["stack"] or each["local"] for each in used.values()), used


def test_aligned_rows_are_read_and_written_by_128_bits(rows, tmp_path):
    _, code = nvrtc.compile_source(nvrtc.joined(rows), "sm_90", 12)
    found = nvrtc.wide_accesses(code, tmp_path)
    for i, source in enumerate(rows):
        for kernel in ("dense", "loss"):
            mangled = f"_ZN{len(f'n{i}')}n{i}{len(kernel)}{kernel}E"
            (name,) = (each for each in found if each.startswith(mangled))
            loads, stores = found[name]
            assert (min(loads, stores) > 0) == what(source)[1], (source.text[:400], kernel, loads, stores)


@pytest.mark.parametrize("alone", [True, False])
def test_a_name_that_nvrtc_does_not_know_is_refused(alone, sources):
    generated = next(source for source in sources if "cupy/complex.cuh" in source.text)
    body = 'extern "C" __global__ void wrong(float* x) { x[0] = INFINITY; }'
    mutant = Source("\n".join(nvrtc._INCLUDE.findall(generated.text)) + "\n" + body, generated.options, ())
    (complaint,) = nvrtc.refused([mutant] if alone else [generated, mutant], "sm_90", 12)
    assert 'identifier "INFINITY" is undefined' in complaint
