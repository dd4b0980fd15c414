"""What a public call hands to CuPy's compiler is CUDA C that NVRTC takes; g++ of the emulation knows more names."""

from __future__ import annotations

import contextlib
import os
import re

import numpy as np
import nvrtc
import pytest
from ceilings import within

import calls
import cupy_calls
import cupy_on_cpu
import softgrad as sg
from cupy_on_cpu._log import Source
from softgrad.backends.cupy.source import BLOCK, STAGED, THREAD

DTYPES = ("float16", "float32", "float64")
#: Calls that look at values on the host: these run, and in float32 alone; the others are asked for their sources.
LOOK = ["statistics.coefficient_statistics", "calibration.temperature", "cross_entropy, validate"]
LOOK += [f"SoftmaxRegression.{name}" for name in ("fit", "predict", "predict_proba")]
#: Few classes, a thread a row, and many, a block a row: aligned to 16 bytes or not.
CLASSES = (5, 70, 72)
NAMES = {BLOCK: "block", STAGED: "staged", THREAD: "thread"}
#: Registers of a thread for compute capability 9.0 by (who takes a row, whether by 128 bits, dtype): of softmax, of the
#: loss. 65,536 of a multiprocessor hold 1024 threads of 64.
REGISTERS = {
    ("block", False, "__half"): (61, 64),
    ("block", False, "float"): (48, 44),
    ("block", True, "__half"): (32, 32),
    ("block", True, "double"): (54, 42),
    ("block", True, "float"): (33, 30),
    ("staged", True, "__half"): (32, 32),
    ("staged", True, "double"): (32, 44),
    ("staged", True, "float"): (30, 30),
    ("thread", False, "__half"): (32, 40),
    ("thread", False, "double"): (40, 54),
    ("thread", False, "float"): (32, 40),
}
#: The same in float32, of the kernel with most, for the other architectures.
MOST = {"sm_75": 56, "sm_80": 48, "sm_86": 48, "sm_100": 55, "sm_120": 51}
#: Whether the rest is done too, as before a release.
FULL = "SOFTGRAD_FULL" in os.environ


@pytest.fixture(scope="session")
def sources():
    """Every source that the calls of all public functions hand to CuPy."""
    cupy = cupy_on_cpu.install()

    def arrays(dtype):
        return lambda host, asked=None, samples=True: cupy.asarray(
            host, asked or (dtype if np.asarray(host).dtype == "float64" else None)
        )

    for name in LOOK:
        calls.CALLS[name](arrays("float32"))
    with cupy_on_cpu.sources_alone():
        for dtype in DTYPES:
            few, *others = (
                {name: cupy.asarray(each) for name, each in cupy_calls.data(dtype, classes).items()}
                for classes in CLASSES
            )
            for kernels in ("cupy", "generic"):
                with sg.backends.use(kernels):
                    for _, call in cupy_calls.calls(few):
                        call()
            for each in others:
                sg.softmax(each["x"])
                sg.cross_entropy(each["x"], each["labels"])
            for name in calls.CALLS.keys() - set(LOOK):
                with contextlib.nullcontext() if "bfloat16" not in name else pytest.raises(TypeError):
                    calls.CALLS[name](arrays(dtype))
    return list(cupy_on_cpu.log.sources)


@pytest.fixture(scope="session")
def rows(sources):
    """Those that softgrad wrote, one of each (kind, whether it reads by 128 bits, dtype)."""
    return list({what(source): source for source in sources if "void dense(" in source.text}.values())


def what(source):
    """(kind, whether it reads by 128 bits, the dtype) of a kernel of a whole row."""
    return (
        NAMES[int(re.search(r"#define KIND (\d)", source.text)[1])],
        "#define WIDE 1" in source.text,
        re.search(r"typedef (\w+) T;", source.text)[1],
    )


@pytest.fixture(scope="session")
def compiled(rows):
    """Their machine code for H100 and H200, all dtypes."""
    log, code = nvrtc.compile_source(nvrtc.joined(rows), "sm_90", 12)
    assert code, log
    return code


def kernels_of(found, rows):
    """(what, the kernel's name, what is told of it) of each kernel of the rows."""
    for i, source in enumerate(rows):
        for kernel in ("dense", "loss"):
            mangled = f"_ZN{len(f'n{i}')}n{i}{len(kernel)}{kernel}E"
            (name,) = (each for each in found if each.startswith(mangled))
            yield what(source), kernel, found[name]


def test_every_kernel_of_a_whole_row_is_among_the_sources(sources, rows):
    assert {what(source) for source in rows} == REGISTERS.keys()
    assert len(sources) > 250


@pytest.mark.parametrize(("arch", "cuda"), [(nvrtc.ARCHITECTURES[0], 12), (nvrtc.ARCHITECTURES[-1], 13)])
def test_nvrtc_compiles_what_public_calls_hand_to_it(arch, cuda, sources):
    """Every source by one of the two compilers; before a release by both."""
    chosen = sources if FULL else sources[cuda % 2 :: 2]
    complaints = nvrtc.refused(chosen, arch, cuda)
    assert not complaints, "\n\n".join([f"{len(complaints)} of {len(chosen)} sources", *complaints])


def test_kernels_of_whole_rows_stay_in_registers(rows, compiled, tmp_path):
    used = nvrtc.usage(compiled, tmp_path)
    assert not any(each["stack"] or each["local"] for each in used.values()), used
    figures = {(of, kernel): each["registers"] for of, kernel, each in kernels_of(used, rows)}
    within(
        {
            (of, kernel): most
            for of, pair in REGISTERS.items()
            for kernel, most in zip(("dense", "loss"), pair, strict=True)
        },
        figures,
    )


@pytest.mark.parametrize("arch", MOST if FULL else [nvrtc.ARCHITECTURES[0], nvrtc.ARCHITECTURES[-1]])
def test_kernels_of_whole_rows_compile_for_every_architecture(arch, rows, tmp_path):
    """In float32, and each architecture by one of the compilers: a dtype changes loads, stores and conversions."""
    chosen = [source for source in rows if what(source)[2] == "float"]
    log, code = nvrtc.compile_source(nvrtc.joined(chosen), arch, 12 + nvrtc.ARCHITECTURES.index(arch) % 2)
    assert code, log
    used = nvrtc.usage(code, tmp_path)
    assert len(used) == 3 * len(chosen)
    assert not any(each["stack"] or each["local"] for each in used.values()), used
    within({arch: MOST[arch]}, {arch: max(each["registers"] for each in used.values())})


def test_aligned_rows_are_read_and_written_by_128_bits(rows, compiled, tmp_path):
    for of, kernel, (loads, stores) in kernels_of(nvrtc.wide_accesses(compiled, tmp_path), rows):
        assert (min(loads, stores) > 0) == of[1], (of, kernel, loads, stores)


@pytest.mark.parametrize("alone", [True, False])
def test_a_name_that_nvrtc_does_not_know_is_refused(alone, sources):
    generated = next(source for source in sources if "cupy/complex.cuh" in source.text)
    body = 'extern "C" __global__ void wrong(float* x) { x[0] = INFINITY; }'
    mutant = Source("\n".join(nvrtc._INCLUDE.findall(generated.text)) + "\n" + body, generated.options, ())
    (complaint,) = nvrtc.refused([mutant] if alone else [generated, mutant], "sm_90", 12)
    assert 'identifier "INFINITY" is undefined' in complaint
