"""What a public call hands to CuPy's compiler is CUDA C that NVRTC takes; g++ of the emulation knows more names."""

from __future__ import annotations

import contextlib

import numpy as np
import nvrtc
import pytest

import calls
import cupy_calls
import cupy_on_cpu
import softgrad as sg
from cupy_on_cpu._log import Source

DTYPES = ("float16", "float32", "float64")
#: Few classes, a thread a row, and many, a block a row.
CLASSES = (5, 70)
#: Of any kernel of a whole row; 65,536 registers of a multiprocessor then hold 1,024 threads.
MOST_REGISTERS = 64


@pytest.fixture(scope="session")
def sources():
    """Every source that the calls of all public functions hand to CuPy."""
    cupy = cupy_on_cpu.install()
    for dtype in DTYPES:
        few, many = (
            {name: cupy.asarray(each) for name, each in cupy_calls.data(dtype, classes).items()} for classes in CLASSES
        )
        for kernels in ("cupy", "generic"):
            with sg.backends.use(kernels):
                for _, call in cupy_calls.calls(few):
                    call()
        sg.softmax(many["x"])
        sg.cross_entropy(many["x"], many["labels"])

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


def test_every_kernel_of_a_whole_row_is_among_the_sources(sources, rows):
    wanted = {(f"typedef {T} T;", f"#define SHARED {n}") for T in ("__half", "float", "double") for n in (0, 1)}
    found = {kind for kind in wanted if any(all(part in source.text for part in kind) for source in rows)}
    assert found == wanted
    assert len(sources) > 150


@pytest.mark.parametrize(("arch", "cuda"), [(nvrtc.ARCHITECTURES[0], 12), (nvrtc.ARCHITECTURES[-1], 13)])
def test_nvrtc_compiles_what_public_calls_hand_to_it(arch, cuda, sources):
    complaints = nvrtc.refused(sources, arch, cuda)
    assert not complaints, "\n\n".join([f"{len(complaints)} of {len(sources)} sources", *complaints])


@pytest.mark.parametrize("cuda", [12, 13])
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
def test_kernels_of_whole_rows_compile_and_stay_in_registers(arch, cuda, rows, tmp_path):
    for source in rows:
        log, code = nvrtc.compile_source(source, arch, cuda)
        assert code, f"{log}\n{source.text}"
        used = nvrtc.usage(code, tmp_path)
        assert set(used) == {"dense", "loss", "weights"}
        assert max(each["registers"] for each in used.values()) <= MOST_REGISTERS, used
        assert not any(each["stack"] or each["local"] for each in used.values()), used


@pytest.mark.parametrize("alone", [True, False])
def test_a_name_that_nvrtc_does_not_know_is_refused(alone, sources):
    generated = next(source for source in sources if "cupy/complex.cuh" in source.text)
    body = 'extern "C" __global__ void wrong(float* x) { x[0] = INFINITY; }'
    mutant = Source("\n".join(nvrtc._INCLUDE.findall(generated.text)) + "\n" + body, generated.options, ())
    (complaint,) = nvrtc.refused([mutant] if alone else [generated, mutant], "sm_90", 12)
    assert 'identifier "INFINITY" is undefined' in complaint
