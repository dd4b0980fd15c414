"""The CUDA source of the kernels that take a whole row each.

``T`` is the dtype of the logits and their gradient, ``A`` the one computed in, and of weights and losses. ``KIND`` says
who takes a row, whose element c lies at ``start + c * step``:

- BLOCK: a block of threads, which meet in shared memory; a thread has 16 bytes of classes at a time.
- STAGED: a thread, of the rows that its block has brought into shared memory, neighbours by neighbours.
- THREAD: a thread, where neighbouring rows lie next to each other.

``WIDE`` says that memory is read and written by 128 bits, which changes no order of a sum.
"""

from __future__ import annotations

BLOCK, STAGED, THREAD = 0, 1, 2

SOURCE = r"""
typedef long long index_t;
// the macros of <math.h> are unknown to NVRTC
#define INF ((A)__int_as_float(0x7f800000))
#define NOT_A_NUMBER ((A)__int_as_float(0x7fffffff))
#define VEC (16 / (int)sizeof(T))
struct alignas(16) Pack { T v[VEC]; };

// A sum in levels: over a million classes a plain one loses four bits.
struct Sum {
    A all = 0, part = 0;
    int count = 0;
    __device__ inline void add(A v) { part += v; if (++count == 64) { all += part; part = 0; count = 0; } }
    __device__ inline A total() { return all + part; }
};

#if KIND == BLOCK
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
#define ROW ((index_t)blockIdx.x)
#define MEET(v, maximum) meet(v, scratch, maximum)
#define SCRATCH __shared__ A scratch[THREADS];
#define LEADER (threadIdx.x == 0)

__device__ inline void fetch(const T* row, index_t c, index_t k, index_t step, A* v)
{
#if WIDE
    Pack p = *(const Pack*)(row + c);
    for (int j = 0; j < VEC; j++) v[j] = (A)p.v[j];
#else
    for (int j = 0; j < VEC; j++) if (c + j < k) v[j] = (A)row[(c + j) * step];
#endif
}

// f(c, v) of every element of a row that is this thread's.
template <class F> __device__ inline void each(const T* row, index_t k, index_t step, F f)
{
    for (index_t c = (index_t)threadIdx.x * VEC; c < k; c += THREADS * VEC) {
        A v[VEC];
        fetch(row, c, k, step, v);
        for (int j = 0; j < VEC; j++) if (WIDE || c + j < k) f(c + j, v[j]);
    }
}

// The same, with what f gives in the place of the element in ``to``.
template <class F> __device__ inline void map(const T* row, T* to, index_t k, index_t step, F f)
{
    for (index_t c = (index_t)threadIdx.x * VEC; c < k; c += THREADS * VEC) {
        A v[VEC];
        fetch(row, c, k, step, v);
#if WIDE
        Pack p;
        for (int j = 0; j < VEC; j++) p.v[j] = (T)(A)f(c + j, v[j]);
        *(Pack*)(to + c) = p;
#else
        for (int j = 0; j < VEC; j++) if (c + j < k) to[(c + j) * step] = (T)(A)f(c + j, v[j]);
#endif
    }
}
#else
#define ROW ((index_t)blockIdx.x * THREADS + threadIdx.x)
#define MEET(v, maximum) (v)
#define SCRATCH
#define LEADER true

template <class S, class F> __device__ inline void each(const S* row, index_t k, index_t step, F f)
{
    for (index_t c = 0; c < k; c++) f(c, (A)row[c * step]);
}

template <class S, class U, class F> __device__ inline void map(const S* row, U* to, index_t k, index_t step, F f)
{
    for (index_t c = 0; c < k; c++) to[c * step] = (U)(A)f(c, (A)row[c * step]);
}
#endif

#if KIND == STAGED
// Rows of the block between memory, in its order, and the tile, whose odd pitch keeps threads in banks of their own.
__device__ inline void stage(const T* x, A* tile, index_t n, int k)
{
    index_t first = (index_t)blockIdx.x * THREADS;
    int size = (int)(n - first < THREADS ? n - first : THREADS) * k;
    x += first * k;
    for (int i = threadIdx.x * VEC; i < size; i += THREADS * VEC) {
        if (WIDE && i + VEC <= size) {
            Pack p = *(const Pack*)(x + i);
            for (int j = 0; j < VEC; j++) tile[(i + j) / k * PITCH + (i + j) % k] = (A)p.v[j];
        } else {
            for (int j = i; j < i + VEC && j < size; j++) tile[j / k * PITCH + j % k] = (A)x[j];
        }
    }
    __syncthreads();
}

__device__ inline void unstage(const A* tile, T* out, index_t n, int k)
{
    __syncthreads();
    index_t first = (index_t)blockIdx.x * THREADS;
    int size = (int)(n - first < THREADS ? n - first : THREADS) * k;
    out += first * k;
    for (int i = threadIdx.x * VEC; i < size; i += THREADS * VEC) {
        if (WIDE && i + VEC <= size) {
            Pack p;
            for (int j = 0; j < VEC; j++) p.v[j] = (T)tile[(i + j) / k * PITCH + (i + j) % k];
            *(Pack*)(out + i) = p;
        } else {
            for (int j = i; j < i + VEC && j < size; j++) out[j] = (T)tile[j / k * PITCH + j % k];
        }
    }
}
#define OPEN __shared__ A tile[THREADS * PITCH]; stage(x, tile, n, (int)k);
#define IN (tile + threadIdx.x * PITCH)
#define OUT(p) (tile + threadIdx.x * PITCH)
#define STEP 1
#define CLOSE(p) if (p) unstage(tile, p, n, (int)k);
#else
#define OPEN index_t start = (ROW / step) * step * k + ROW % step;
#define IN (x + start)
#define OUT(p) (p + start)
#define STEP step
#define CLOSE(p)
#endif

extern "C" __global__ void dense(const T* x, T* out, index_t n, index_t k, index_t step, int mode)
{
    SCRATCH
    OPEN
    index_t row = ROW;
    if (row < n) {
        A m = -INF;
        each(IN, k, STEP, [&](index_t c, A v) { m = v > m || v != v ? v : m; });
        m = MEET(m, true);
        Sum sum;
        A ties = 0;
        each(IN, k, STEP, [&](index_t c, A v) { A d = v - m; if (d == 0) ties += 1; else sum.add(EXP(d)); });
        A others = MEET(sum.total(), false);
        ties = MEET(ties, false);
        A rest = others + (ties - 1);
        if (mode == 2) {
            if (LEADER) out[row] = (T)(isinf(m) ? m : m + LOG1P(rest));
        } else {
            A normalizer = mode == 0 ? 1 + rest : LOG1P(rest);
            map(IN, OUT(out), k, STEP, [&](index_t c, A v) {
                A d = v - m;
                return mode == 0 ? EXP(d) / normalizer : d - normalizer;
            });
        }
    }
    CLOSE(mode == 2 ? (T*)0 : out)
}

extern "C" __global__ void loss(
    const T* x, const long long* labels, const A* class_weight, const A* sample_weight, const A* divisor,
    A* values, T* grad, index_t n, index_t k, index_t step, A scale, int ignores, long long ignored)
{
    SCRATCH
    OPEN
    index_t row = ROW;
    if (row < n) {
        long long y = labels[row];
        A weight = sample_weight ? sample_weight[row] : (A)1;
        // a mean of nothing is 0, whatever the logits
        if ((ignores && y == ignored) || weight == 0 || (divisor && *divisor == 0)) {
            if (values && LEADER) values[row] = 0;
            if (grad) map(IN, OUT(grad), k, STEP, [&](index_t c, A v) { return (A)0; });
        } else {
            bool valid = y >= 0 && y < k;
            if (class_weight && valid) weight *= class_weight[y];
            if (divisor) weight = weight / *divisor;
            weight *= scale;
            A m = -INF;
            each(IN, k, STEP, [&](index_t c, A v) { m = v > m || v != v ? v : m; });
            m = MEET(m, true);
            Sum sum;
            each(IN, k, STEP, [&](index_t c, A v) { if (c != y) sum.add(EXP(v - m)); });
            A o = MEET(sum.total(), false);
            A d_y = valid ? (A)(IN)[y * STEP] - m : NOT_A_NUMBER;
            A e_y = EXP(d_y);
            A s = o + e_y;
            if (values && LEADER) {
                A each_loss = LOG1P(o + (e_y - 1)) - d_y;
                values[row] = weight == 0 && isinf(each_loss) ? (A)0 : each_loss * weight;
            }
            if (grad) map(IN, OUT(grad), k, STEP, [&](index_t c, A v) {
                return (c == y ? -o : EXP(v - m)) / s * weight;
            });
        }
    }
    CLOSE(grad)
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
    // a label that is no class counts, so that a mean over such labels alone is not one over nothing
    if (class_weight && y >= 0 && y < k) weight *= class_weight[y];
    out[row] = weight;
}
"""
