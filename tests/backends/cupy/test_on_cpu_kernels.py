"""Kernels of one's own on the CPU emulation, and what it finds wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

import cupy_on_cpu

pytestmark = [
    pytest.mark.libraries("cupy"),
    pytest.mark.skipif(not cupy_on_cpu.installed(), reason="CuPy does not run on the CPU emulation in this session"),
]


def rng():
    return np.random.default_rng(20260)


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
