"""The CUDA source of the kernels that take a whole row each.

``T`` is the dtype of the logits and their gradient, ``A`` the one computed in, and of weights and losses. A row's
element c lies at ``start + c * step``. With few classes a thread takes a row; with many a block does, its threads
meeting in shared memory.
"""

from __future__ import annotations

#: Threads of a block that shares a row; a power of two.
THREADS = 256

SOURCE = r"""
typedef long long index_t;
// the macros of <math.h> are unknown to NVRTC
#define INF ((A)__int_as_float(0x7f800000))
#define NOT_A_NUMBER ((A)__int_as_float(0x7fffffff))

__device__ inline index_t row_start(index_t row, index_t step, index_t k)
{
    return (row / step) * step * k + row % step;
}

#if SHARED
// Every thread of the block leaves with the combination of all.
__device__ inline A meet(A v, A* scratch, bool maximum)
{
    scratch[threadIdx.x] = v;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            A a = scratch[threadIdx.x], b = scratch[threadIdx.x + half];
            // a NaN is larger than everything, so that its row stays NaN
            scratch[threadIdx.x] = maximum ? (b > a || b != b ? b : a) : a + b;
        }
        __syncthreads();
    }
    v = scratch[0];
    __syncthreads();
    return v;
}
#define FIRST threadIdx.x
#define STRIDE THREADS
#define ROW ((index_t)blockIdx.x)
#define MEET(v, maximum) meet(v, scratch, maximum)
#define SCRATCH __shared__ A scratch[THREADS];
#define LEADER (threadIdx.x == 0)
#else
#define FIRST 0
#define STRIDE 1
#define ROW ((index_t)blockIdx.x * blockDim.x + threadIdx.x)
#define MEET(v, maximum) (v)
#define SCRATCH
#define LEADER true
#endif

#define FOR_ROW(c) for (index_t c = FIRST; c < k; c += STRIDE)
// a sum is taken in levels: over a million classes a plain one loses four bits
#define LEVEL (64 * (index_t)STRIDE)
#define FOR_LEVEL(b) for (index_t b = FIRST; b < k; b += LEVEL)
#define FOR_PART(c, b) for (index_t c = b; c < k && c < b + LEVEL; c += STRIDE)

extern "C" __global__ void dense(const T* x, T* out, index_t n, index_t k, index_t step, int mode)
{
    SCRATCH
    index_t row = ROW;
    if (row >= n) return;
    index_t start = row_start(row, step, k);
    A m = -INF;
    FOR_ROW(c) { A v = (A)x[start + c * step]; m = v > m || v != v ? v : m; }
    m = MEET(m, true);
    A others = 0, ties = 0;
    FOR_LEVEL(b) {
        A part = 0;
        FOR_PART(c, b) {
            A d = (A)x[start + c * step] - m;
            if (d == 0) ties += 1; else part += EXP(d);
        }
        others += part;
    }
    others = MEET(others, false);
    ties = MEET(ties, false);
    A rest = others + (ties - 1);
    if (mode == 2) {
        if (LEADER) out[row] = (T)(isinf(m) ? m : m + LOG1P(rest));
        return;
    }
    A normalizer = mode == 0 ? 1 + rest : LOG1P(rest);
    FOR_ROW(c) {
        A d = (A)x[start + c * step] - m;
        out[start + c * step] = (T)(mode == 0 ? EXP(d) / normalizer : d - normalizer);
    }
}

extern "C" __global__ void loss(
    const T* x, const long long* labels, const A* class_weight, const A* sample_weight, const A* divisor,
    A* values, T* grad, index_t n, index_t k, index_t step, A scale, int ignores, long long ignored)
{
    SCRATCH
    index_t row = ROW;
    if (row >= n) return;
    index_t start = row_start(row, step, k);
    long long y = labels[row];
    A weight = sample_weight ? sample_weight[row] : (A)1;
    // a mean of nothing is 0, whatever stands in the logits
    if ((ignores && y == ignored) || weight == 0 || (divisor && *divisor == 0)) {
        if (values && LEADER) values[row] = 0;
        if (grad) FOR_ROW(c) grad[start + c * step] = (T)(A)0;
        return;
    }
    bool valid = y >= 0 && y < k;
    if (class_weight && valid) weight *= class_weight[y];
    if (divisor) weight = weight / *divisor;
    weight *= scale;
    A m = -INF;
    FOR_ROW(c) { A v = (A)x[start + c * step]; m = v > m || v != v ? v : m; }
    m = MEET(m, true);
    A o = 0;
    FOR_LEVEL(b) {
        A part = 0;
        FOR_PART(c, b) if (c != y) part += EXP((A)x[start + c * step] - m);
        o += part;
    }
    o = MEET(o, false);
    A d_y = valid ? (A)x[start + y * step] - m : NOT_A_NUMBER;
    A e_y = EXP(d_y);
    A s = o + e_y;
    if (values && LEADER) {
        A each = LOG1P(o + (e_y - 1)) - d_y;
        values[row] = weight == 0 && isinf(each) ? (A)0 : each * weight;
    }
    if (grad) FOR_ROW(c) {
        A part = c == y ? -o : EXP((A)x[start + c * step] - m);
        grad[start + c * step] = (T)(part / s * weight);
    }
}

extern "C" __global__ void weights(
    const long long* labels, const A* class_weight, const A* sample_weight, A* out,
    index_t n, index_t k, int ignores, long long ignored)
{
    index_t row = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= n) return;
    long long y = labels[row];
    A weight = sample_weight ? sample_weight[row] : (A)1;
    if (ignores && y == ignored) weight = 0;
    // a label that is no class has no class weight, and its NaN loss decides the mean
    if (class_weight) weight = y >= 0 && y < k ? weight * class_weight[y] : (A)0;
    out[row] = weight;
}
"""
