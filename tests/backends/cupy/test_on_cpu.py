"""The CPU emulation that the suite runs CuPy on where there is no GPU: it has to be right itself."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import cupy_on_cpu
from cupy_on_cpu import _compile, _entry_points, agreement

TESTS = str(Path(__file__).parents[2])
pytestmark = [
    pytest.mark.libraries("cupy"),
    pytest.mark.skipif(not cupy_on_cpu.installed(), reason="CuPy does not run on the CPU emulation in this session"),
]


def rng():
    return np.random.default_rng(20260)


def run_python(code, cache, **environment):
    """Run a program in a process of its own, with ``cupy_on_cpu`` on its path."""
    where = {"PYTHONPATH": TESTS, "SOFTGRAD_CUPY_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **where, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# ---- agreement with NumPy ----


def test_functions_agree_with_numpy_in_value_and_dtype(cupy):
    # 37 shares no factor with the numbers of functions, dtypes and shapes, so that every one of them is met;
    # "python -m cupy_on_cpu" goes through all cases
    checked, differing = agreement.disagreements(cupy, every=37)
    assert checked > 200
    assert differing == []


MATRICES = {
    "C": lambda a: a,
    "Fortran": lambda a: a.copy(order="F"),
    "transposed": lambda a: a.swapaxes(-1, -2).copy().swapaxes(-1, -2),
    "strided": lambda a: a.repeat(2, axis=-1)[..., ::2],
    "reversed": lambda a: a[..., ::-1, :].copy()[..., ::-1, :],
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128", "int32", "bool"])
def test_matmul_of_all_layouts(dtype, cupy):
    left, right = (agreement.sample(shape, dtype, seed) for seed, shape in enumerate([(2, 9, 5), (2, 5, 7)]))
    for first, second in itertools.product(MATRICES.values(), repeat=2):
        for a, b in [(left, right), (left[0], right[0]), (left[:1], right), (left[0], right[0, :, 0])]:
            if b.ndim == 1:
                expected, ours = first(a) @ b, first(cupy.asarray(a)) @ cupy.asarray(b)
            else:
                expected, ours = first(a) @ second(b), first(cupy.asarray(a)) @ second(cupy.asarray(b))
            assert agreement.same(ours, expected, dtype, size=100.0)


@pytest.mark.parametrize("dtype", ["float32", "complex128", "int64"])
def test_other_products(dtype, cupy):
    a, b = agreement.sample((6, 4), dtype, 1), agreement.sample((4,), dtype, 2)
    x, y = cupy.asarray(a), cupy.asarray(b)
    pairs = {
        "symmetric": (x @ x.T, a @ a.T),
        "vector by matrix": (y @ x.T, b @ a.T),
        "dot": (cupy.dot(y, y), np.dot(b, b)),
        "vdot": (cupy.vdot(y, y), np.vdot(b, b)),
        "outer": (cupy.outer(y, y), np.outer(b, b)),
        "tensordot": (cupy.tensordot(x, x, axes=([0], [0])), np.tensordot(a, a, axes=([0], [0]))),
        "einsum": (cupy.einsum("ij,kj->ik", x, x), np.einsum("ij,kj->ik", a, a)),
        "adjoint": (x.conj().T @ x, a.conj().T @ a),
        "nothing to add": (x[:, :0] @ x[:, :0].T, a[:, :0] @ a[:, :0].T),
        "no rows": (x[:0] @ x.T, a[:0] @ a.T),
    }
    assert {
        name for name, (ours, expected) in pairs.items() if not agreement.same(ours, expected, dtype, 100.0)
    } == set()


def test_matmul_of_bfloat16(cupy):
    dtypes = pytest.importorskip("ml_dtypes")
    a = rng().standard_normal((5, 8)).astype(dtypes.bfloat16)
    x = cupy.asarray(a)
    expected = a.astype("float64") @ a.T.astype("float64")
    np.testing.assert_allclose((x @ x.T).get().astype("float64"), expected, rtol=2**-8, atol=0.05)
    np.testing.assert_allclose(cupy.exp(x).get().astype("float64"), np.exp(a.astype("float64")), rtol=2**-8)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16", "float32", "float64", "complex128"])
def test_indexing_and_assembling(dtype, cupy):
    a = agreement.sample((5, 6), dtype)
    order, rows, mask = rng().permuted(np.tile(np.arange(6), (5, 1)), axis=1), np.array([4, 0, 0]), a.real > 0

    def results(xp, a):
        order_, rows_, mask_ = xp.asarray(order), xp.asarray(rows), xp.asarray(mask)
        written = a.copy()
        written[1:3, ::2] = a[0, 0]
        yield from (
            xp.take(a, rows_, axis=0),
            xp.take_along_axis(a, order_, axis=1),
            xp.where(mask_, a, a[0]),
            xp.concatenate([a, a[:1]]),
            xp.stack([a, a], axis=-1),
            xp.broadcast_to(a[:, :1], (5, 4)) == a[:, :1],
            xp.roll(a, 2, axis=1),
            xp.tril(a),
            xp.flip(a, axis=0),
            a[rows_],
            a[mask_],
            a[rows_, 1],
            written,
            xp.nonzero(mask_)[1],
            xp.sum(a, axis=1, where=mask_) if xp is np else xp.where(mask_, a, a.dtype.type(0)).sum(axis=1),
        )

    pairs = zip(results(cupy, cupy.asarray(a)), results(np, a), strict=True)
    assert [i for i, (ours, expected) in enumerate(pairs) if not agreement.same(ours, expected, dtype, 20.0)] == []


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64"])
def test_sorting(dtype, cupy):
    a = agreement.sample((3, 50), dtype)
    if a.dtype.kind == "f":
        a[1, 7], a[2, 3] = np.nan, -np.inf
    x = cupy.asarray(a)
    pairs = {
        "last axis": (cupy.sort(x), np.sort(a)),
        "first axis": (cupy.sort(x, axis=0), np.sort(a, axis=0)),
        "argsort": (cupy.argsort(x), np.argsort(a, kind="stable")),
        "unique": (cupy.unique(x[0]), np.unique(a[0])),
        "lexsort": (cupy.lexsort(x), np.lexsort(a)),
        "searchsorted": (cupy.searchsorted(cupy.sort(x[0]), x[1]), np.searchsorted(np.sort(a[0]), a[1])),
    }
    assert {name for name, (ours, expected) in pairs.items() if not agreement.same(ours, expected, dtype)} == set()
    np.testing.assert_array_equal(x.get(), a)


@pytest.mark.parametrize("n", [1, 511, 512, 513, 1024, 1025, 5000])
def test_cumulative_sum_beyond_one_block(n, cupy):
    a = rng().integers(-9, 9, (n, 2))
    np.testing.assert_array_equal(cupy.cumsum(cupy.asarray(a), axis=0).get(), np.cumsum(a, axis=0))
    np.testing.assert_array_equal(cupy.cumsum(cupy.asarray(a[:, 0])).get(), np.cumsum(a[:, 0]))


def test_half_to_float_is_exact_for_every_half(cupy):
    halves = np.arange(2**16, dtype="uint16").view("float16")
    for dtype in ("float32", "float64"):
        np.testing.assert_array_equal(cupy.asarray(halves).astype(dtype).get(), halves.astype(dtype))


def test_rounding_to_half_is_to_nearest_even(cupy):
    halves = np.arange(2**16 - 1, dtype="uint16").view("float16").astype("float64")
    with np.errstate(all="ignore"):
        between = (halves + np.append(halves[1:], 0)) / 2
        near = np.concatenate([halves, between, np.nextafter(between, -np.inf), np.nextafter(between, np.inf)])
        values = np.concatenate([near, rng().standard_normal(1000) * 1e5, [65519.999, 65520, 2.0**-25, 5e-324, np.inf]])
        expected = values.astype("float16")
    np.testing.assert_array_equal(cupy.asarray(values).astype("float16").get(), expected)


def test_random_numbers_of_the_classic_generator(cupy):
    one, other = (cupy.random.RandomState(7) for _ in range(2))
    a = one.standard_normal((3, 400)).get()
    np.testing.assert_array_equal(a, other.standard_normal((3, 400)).get())
    assert abs(a.mean()) < 0.15
    assert abs(a.std() - 1) < 0.1
    assert sorted(one.permutation(9).tolist()) == list(range(9))
    uniform = one.random_sample(500, dtype="float32")
    assert 0 <= float(uniform.min()) < 0.1 < 0.9 < float(uniform.max()) < 1
    with pytest.raises(NotImplementedError, match="RandomState, not default_rng"):
        cupy.random.default_rng(0)


# ---- kernels of one's own ----


def test_block_reduction_with_shared_memory_and_warps(cupy):
    # Only the first warp meets the second exchange, which a barrier of the whole block would get wrong
    kernel = cupy.RawKernel(
        r"""
        extern "C" __global__ void row_sums(const float* x, float* sums, int n) {
          extern __shared__ float partial[];
          float sum = 0;
          for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
          for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
          if (threadIdx.x % warpSize == 0) partial[threadIdx.x / warpSize] = sum;
          __syncthreads();
          if (threadIdx.x < 32) {
            sum = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0;
            for (int lane = 16; lane > 0; lane /= 2) sum += __shfl_xor_sync(0xffffffff, sum, lane);
            if (threadIdx.x == 0) sums[blockIdx.x] = sum;
          }
        }""",
        "row_sums",
    )
    x = cupy.asarray(rng().standard_normal((7, 1001)).astype("float32"))
    for threads in (32, 64, 256, 1024):
        sums = cupy.empty(7, "float32")
        kernel((7,), (threads,), (x, sums, np.int32(1001)), shared_mem=4 * 32)
        np.testing.assert_allclose(sums.get(), x.get().sum(axis=1, dtype="float64"), rtol=1e-5, atol=1e-4)


def test_warp_and_block_functions(cupy):
    kernel = cupy.RawKernel(
        r"""
        extern "C" __global__ void votes(int* out) {
          int t = threadIdx.x, lane = t % 32;
          out[t] = __ballot_sync(0xffffffff, lane < 3);
          out[64 + t] = __syncthreads_count(t < 40);
          out[128 + t] = __shfl_up_sync(0xffffffff, t, 1, 16);
          out[192 + t] = __reduce_add_sync(0xffffffff, lane);
          out[256 + t] = __any_sync(0xffffffff, t == 5) * 2 + __all_sync(0xffffffff, t < 64);
          if (lane >= 8) return;
          out[320 + t] = __shfl_sync(0xff, t, 7 - lane);
        }""",
        "votes",
    )
    out = cupy.full((6, 64), -1, "int32")
    kernel((1,), (64,), (out,))
    t = np.arange(64)
    lane = t % 32
    expected = [
        np.full(64, 7),
        np.full(64, 40),
        np.where(t % 16 == 0, t, t - 1),
        np.full(64, 496),
        np.where(t < 32, 3, 1),
        np.where(lane < 8, t - lane + 7 - lane, -1),
    ]
    np.testing.assert_array_equal(out.get(), expected)


def test_atomics(cupy):
    kernel = cupy.RawKernel(
        r"""
        extern "C" __global__ void count(const int* x, int* counts, int* largest, double* total) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          atomicAdd(&counts[x[i]], 1);
          atomicMax(largest, x[i]);
          atomicAdd(total, 0.5);
        }""",
        "count",
    )
    x = rng().integers(0, 5, 600).astype("int32")
    counts, largest, total = cupy.zeros(5, "int32"), cupy.zeros((), "int32"), cupy.zeros(())
    kernel((6,), (100,), (cupy.asarray(x), counts, largest, total))
    np.testing.assert_array_equal(counts.get(), np.bincount(x, minlength=5))
    assert (int(largest), float(total)) == (4, 300.0)


def test_templates_constants_and_half_in_a_module(cupy):
    module = cupy.RawModule(
        code=r"""
        #include <cuda_fp16.h>
        __constant__ float factor[2];
        template <class T, int n> __global__ void scale(T* x) { x[threadIdx.x] = x[threadIdx.x] * T(factor[1]) + T(n); }
        __global__ void halves(__half* x) { x[threadIdx.x] = __hadd(x[threadIdx.x], __float2half(0.5f)); }
        """,
        name_expressions=("scale<double, 3>", "scale<float, 4>", "halves"),
    )
    cupy.ndarray(2, "float32", module.get_global("factor"))[...] = cupy.asarray([0, 2], "float32")
    for name, dtype, expected in [
        ("scale<double, 3>", "float64", [3, 5, 7]),
        ("scale<float, 4>", "float32", [4, 6, 8]),
        ("halves", "float16", [0.5, 1.5, 2.5]),
    ]:
        x = cupy.arange(3, dtype=dtype)
        module.get_function(name)((1,), (3,), (x,))
        assert x.tolist() == expected


@pytest.mark.filterwarnings("ignore:cupyx.jit.rawkernel is experimental:FutureWarning")
def test_other_ways_to_write_a_kernel(cupy):
    from cupyx import jit

    x, a = cupy.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)
    norms = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "norms")
    shifted = cupy.ElementwiseKernel("T x, raw T y", "T z", "z = x * y[1] + i", "shifted")

    @cupy.fuse(kernel_name="fused")
    def fused(x, y):
        return cupy.exp(x) * y + 1

    @jit.rawkernel()
    def doubled(x, y, n):
        i = jit.grid(1)
        if i < n:
            y[i] = x[i] * 2

    out = cupy.empty(6)
    doubled((1,), (8,), (x.ravel(), out, 6))
    np.testing.assert_allclose(norms(x, axis=1).get(), np.sqrt((a * a).sum(axis=1)))
    np.testing.assert_allclose(shifted(x, cupy.asarray([5.0, 7.0])).get(), a * 7 + np.arange(6).reshape(2, 3))
    np.testing.assert_allclose(fused(x, x).get(), np.exp(a) * a + 1)
    np.testing.assert_allclose(out.get(), a.ravel() * 2)


def test_rounded_operations_are_not_contracted(cupy):
    text = 'extern "C" __global__ void f(double* x) { x[3] = %s; }'
    a, b, c = 1 + 2.0**-30, 1 - 2.0**-30, -1.0
    rounded = a * b + c
    assert rounded != -(2.0**-60), "the operands have to tell a product from a fused one"
    for expression, options in [
        ("__dadd_rn(__dmul_rn(x[0], x[1]), x[2])", ()),
        ("x[0] * x[1] + x[2]", ("--fmad=false",)),
    ]:
        x = cupy.asarray([a, b, c, 0])
        cupy.RawKernel(text % expression, "f", options=options)((1,), (1,), (x,))
        assert float(x[3]) == rounded
    x = cupy.asarray([a, b, c, 0])
    cupy.RawKernel(text % "fma(x[0], x[1], x[2])", "f")((1,), (1,), (x,))
    assert float(x[3]) == -(2.0**-60)


# ---- faults ----


def launch(cupy, body, threads=32, n=4):
    x = cupy.zeros(n)
    cupy.RawKernel(f'extern "C" __global__ void faulty(double* x) {{ {body} }}', "faulty")((1,), (threads,), (x,))
    return x


@pytest.mark.parametrize(
    ("body", "threads", "message"),
    [
        ("if (threadIdx.x < 5) __syncthreads(); else __syncwarp();", 32, "barriers that can never open"),
        ("if (threadIdx.x % 2) __shfl_sync(0xffffffff, 1, 0); else __syncthreads();", 64, "can never open"),
        ("assert(x[threadIdx.x] == 0 && threadIdx.x < 2);", 4, r"assertion failed in a kernel: x\[threadIdx"),
        ("if (threadIdx.x == 3) __trap();", 4, "__trap"),
        ("x[0] = 1;", 1025, r"on a grid \(1, 1, 1\) of blocks \(1025, 1, 1\)"),
    ],
)
def test_faulty_kernel_raises_and_the_next_one_runs(body, threads, message, cupy):
    with pytest.raises(cupy_on_cpu.DeviceFaultError, match=message):
        launch(cupy, body, threads)
    assert launch(cupy, "__syncthreads(); x[threadIdx.x] = __shfl_sync(0xf, threadIdx.x, 2);", 4).tolist() == [2.0] * 4


@pytest.mark.parametrize(("index", "side"), [(4, "behind"), (-1, "before")])
def test_write_beyond_an_array_is_found(index, side, cupy):
    x = launch(cupy, f"x[{index}] = 1;", 1)
    del x
    with pytest.raises(cupy_on_cpu.DeviceFaultError, match=f"wrote {side} an array of 32 bytes"):
        cupy.zeros(3) + 1
    assert (cupy.zeros(3) + 1).tolist() == [1.0, 1.0, 1.0]


def test_memory_never_written_holds_nan(cupy):
    for _ in range(3):
        assert np.isnan(cupy.empty((4, 5)).get()).all()


def test_faulty_source_raises_as_cupy_does(cupy):
    with pytest.raises(cupy.cuda.compiler.CompileException, match="nonsense"):
        launch(cupy, "x[0] = nonsense;")
    with pytest.raises(cupy_on_cpu.DeviceFaultError, match="no kernel 'absent'"):
        cupy.RawKernel('extern "C" __global__ void present() {}', "absent")((1,), (1,), ())


# ---- the record ----


def test_record_of_a_computation(cupy):
    x = cupy.arange(6.0)
    cupy.exp(x).sum()
    with cupy_on_cpu.count() as record:
        total = cupy.exp(x).sum()
    assert record.launches == ["cupy_exp__float64_float64", "cupy_sum"]
    assert (record.d2h, record.h2d, record.syncs, record.compiled) == (0, 0, 0, 0)
    assert record.peak_bytes == 6 * 8 + 8
    with cupy_on_cpu.count() as record:
        float(total)
        cupy.asarray(np.ones(3))
        x @ x
        cupy.cuda.Device().synchronize()
    assert (record.d2h, record.h2d) == (1, 1)
    assert record.syncs >= 2
    assert len([name for name in record.launches if name.startswith("cublas")]) <= 1


@pytest.mark.parametrize(
    "transfer",
    [
        lambda cupy, x: x.get(),
        lambda cupy, x: float(x[0]),
        lambda cupy, x: bool(cupy.any(x)),
        lambda cupy, x: x[0].item(),
        lambda cupy, x: cupy.asnumpy(x),
        lambda cupy, x: x[x > 1],
        lambda cupy, x: str(x),
        lambda cupy, x: cupy.cuda.Device().synchronize(),
        lambda cupy, x: cupy.cuda.get_current_stream().synchronize(),
    ],
)
def test_transfers_to_the_host_can_be_forbidden(transfer, cupy):
    x = cupy.arange(4.0)
    with (
        cupy_on_cpu.forbid_host_copies(),
        pytest.raises(cupy_on_cpu.HostTransferError, match="inside forbid_host_copies"),
    ):
        transfer(cupy, x)
    transfer(cupy, x)


def test_computing_is_not_forbidden(cupy):
    x = cupy.arange(4.0)
    with cupy_on_cpu.forbid_host_copies(), cupy_on_cpu.forbid_host_copies():
        y = cupy.where(x > 1, x, 0.5) @ cupy.exp(x)
        z = cupy.asarray([1.0, 2.0]).sum()
    assert float(y) == pytest.approx(0.5 * (1 + np.e) + 2 * np.exp(2) + 3 * np.exp(3))
    assert float(z) == 3.0


# ---- processes and installations ----


def test_process_ends_as_any_other(tmp_path):
    code = "import cupy_on_cpu; cupy = cupy_on_cpu.install(); x = cupy.arange(5.0); y = x.sum(); print(y)"
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10.0\n", "")
    assert run_python(f"{code}; raise SystemExit(3)", tmp_path).returncode == 3
    again = run_python(f"{code}; print(cupy_on_cpu.log.compiled)", tmp_path)
    assert again.stdout == "10.0\n0\n"


def test_processes_share_the_cache_while_it_fills(tmp_path):
    code = "import cupy_on_cpu; cupy = cupy_on_cpu.install(); print(int(cupy.arange(700).sum()))"
    environment = {**os.environ, "PYTHONPATH": TESTS, "SOFTGRAD_CUPY_CACHE": str(tmp_path / "new")}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=300)[0] for process in running] == ["244650\n"] * 3
    assert not list(tmp_path.rglob("building-*"))


def test_threads_without_assembly_give_the_same(tmp_path):
    code = """
import cupy_on_cpu
build = cupy_on_cpu.shared_library
cupy_on_cpu.shared_library = lambda name, source: build(name, source, "-DEMULATOR_UCONTEXT")
cupy = cupy_on_cpu.install()
x = cupy.arange(3000)
print(int(x.sum()), int(cupy.cumsum(x)[-1]), int(cupy.exp(x * 0).sum()))
"""
    assert run_python(code, tmp_path).stdout == "4498500 4498500 3000\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.modules['cupy'] = sys", "has to run before anything imports cupy"),
        ("import os; os.environ['PATH'] = ''", r"there is no g\+\+ on PATH"),
        ("import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]", "there is no CuPy"),
    ],
)
def test_installation_that_cannot_work_says_why_in_one_line(code, message, tmp_path):
    done = run_python(f"import cupy_on_cpu\n{code}\ncupy_on_cpu.install()", tmp_path)
    assert done.returncode == 1
    assert re.search(f"EmulationError: .*{message}", done.stderr.strip().splitlines()[-1]), done.stderr


def capsule(signature):
    """Return what Cython stores for a C function, and keep the name alive."""
    name = ctypes.create_string_buffer(signature.encode())
    made = _entry_points._capsule_new(1, name, None)
    return made, name


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (None, "moved somewhere.malloc: there is no such function"),
        ("intptr_t (size_t, int, int __pyx_skip_dispatch)", "moved somewhere.malloc: expected 1 arguments, found"),
        ("intptr_t (struct Request, int __pyx_skip_dispatch)", "moved somewhere.malloc: its signature is"),
    ],
)
def test_moved_entry_point_fails_with_one_clear_line(signature, message, monkeypatch):
    class Stub:
        def malloc(self, size):
            return 0

    module = types.ModuleType("somewhere")
    kept = capsule(signature) if signature else None
    module.__pyx_capi__ = {"malloc": kept[0]} if kept else {}
    monkeypatch.setitem(sys.modules, "somewhere", module)
    with pytest.raises(ImportError, match=message) as caught:
        _entry_points.replace("somewhere", Stub())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"CuPy {_entry_points.cupy_version()} ")
    assert "the CPU emulation knows CuPy 14.x" in str(caught.value)


def test_moved_compiling_function_fails_with_one_clear_line():
    for compiler in (types.SimpleNamespace(), types.SimpleNamespace(_compile_module_with_cache=lambda source: None)):
        with pytest.raises(ImportError, match=r"CuPy \S+ moved cupy.cuda.compiler._compile_module_with_cache: .*14\.x"):
            _compile.install(compiler)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('#include <cupy/complex.cuh>\nextern "C" __global__ void first(int n) {}', ["first"]),
        ('extern "C" { __global__ void a() {} __global__ void b() {} }', ["a", "b"]),
        ("template <typename T> __global__ void generic(T* x) {}", []),
        ("// __global__ void gone() {}\n/* __global__ void too() {} */ __global__ void kept(int) {}", ["kept"]),
        ("__global__ void __launch_bounds__(128, 2) bounded(float* x) {}", ["bounded"]),
        ("__global__ __launch_bounds__(N) void early(float* x) {}", ["early"]),
    ],
)
def test_kernels_are_found_in_a_source(source, names):
    assert _compile.kernel_names(source) == names
