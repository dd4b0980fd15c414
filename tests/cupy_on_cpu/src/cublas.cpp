// Stand-in for the part of cuBLAS behind CuPy's matmul, dot, vdot, outer and tensordot: column-major, plain loops.
// Every entry that CuPy imports and this file lacks is generated as "not supported".
#include <stddef.h>
#include <stdint.h>

#include <vector>

#include "half_bits.h"

namespace {

typedef _Complex float complex64;
typedef _Complex double complex128;
struct half { uint16_t bits; };
struct bfloat { uint16_t bits; };

enum Status { success = 0, not_supported = 15 };
enum Operation { plain, transposed, adjoint };
// cudaDataType
enum DataType { f32 = 0, f64 = 1, f16 = 2, i8 = 3, c64 = 4, c128 = 5, i32 = 10, bf16 = 14 };

void (*note)(const char*) = nullptr;
void launched(const char* name) {
  if (note) note(name);
}

template <class C> C load(C value) { return value; }
template <class C> C load(int8_t value) { return value; }
template <class C> C load(half value) { return half_bits_to_float(value.bits); }
template <class C> C load(bfloat value) { return bfloat_bits_to_float(value.bits); }
template <class T, class C> struct Store { static T from(C value) { return value; } };
template <class C> struct Store<half, C> { static half from(C value) { return {half_bits_from_double(value)}; } };
template <class C> struct Store<bfloat, C> { static bfloat from(C value) { return {bfloat_bits_from_float(value)}; } };

template <class T> T conjugate(T value) { return value; }
complex64 conjugate(complex64 value) { return __builtin_conjf(value); }
complex128 conjugate(complex128 value) { return __builtin_conj(value); }

// Copies op(matrix) so that what one dot product reads lies in one row: rows of length `inner`.
template <class C, class T>
std::vector<C> rows_of(const T* matrix, ptrdiff_t leading, bool inner_is_contiguous, bool conjugated, int rows, int inner) {
  std::vector<C> packed(size_t(rows) * inner);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < inner; ++i) {
      C value = load<C>(inner_is_contiguous ? matrix[i + r * leading] : matrix[r + i * leading]);
      packed[size_t(r) * inner + i] = conjugated ? conjugate(value) : value;
    }
  return packed;
}

// Eight partial sums: the order of no library in particular, and one that compilers turn into vector code.
template <class C>
C dot_product(const C* a, const C* b, int n) {
  C partial[8] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) partial[j] += a[i + j] * b[i + j];
  for (; i < n; ++i) partial[i % 8] += a[i] * b[i];
  return ((partial[0] + partial[4]) + (partial[2] + partial[6])) + ((partial[1] + partial[5]) + (partial[3] + partial[7]));
}

// C computes; T, O are the types in memory. beta == 0 must not read the result, which may hold NaN.
template <class C, class T, class O>
void gemm(int op_a, int op_b, int m, int n, int k, C alpha, const T* a, ptrdiff_t lda, const T* b, ptrdiff_t ldb, C beta,
          O* out, ptrdiff_t ldc) {
  std::vector<C> left = rows_of<C>(a, lda, op_a != plain, op_a == adjoint, m, k);
  std::vector<C> right = rows_of<C>(b, ldb, op_b == plain, op_b == adjoint, n, k);
  for (int col = 0; col < n; ++col)
    for (int row = 0; row < m; ++row) {
      O& target = out[row + col * ldc];
      C sum = alpha * dot_product(&left[size_t(row) * k], &right[size_t(col) * k], k);
      target = Store<O, C>::from(beta == C(0) ? sum : C(sum + beta * load<C>(target)));
    }
}

template <class C>
void gemv(int op, int m, int n, C alpha, const C* a, ptrdiff_t lda, const C* x, ptrdiff_t incx, C beta, C* y,
          ptrdiff_t incy) {
  int rows = op == plain ? m : n, inner = op == plain ? n : m;
  std::vector<C> left = rows_of<C>(a, lda, op != plain, op == adjoint, rows, inner), right(inner);
  for (int i = 0; i < inner; ++i) right[i] = x[i * incx];
  for (int i = 0; i < rows; ++i) {
    C sum = alpha * dot_product(&left[size_t(i) * inner], right.data(), inner);
    y[i * incy] = beta == C(0) ? sum : sum + beta * y[i * incy];
  }
}

template <class C>
C dot(int n, const C* x, ptrdiff_t incx, const C* y, ptrdiff_t incy, bool conjugated) {
  std::vector<C> left(n), right(n);
  for (int i = 0; i < n; ++i) {
    left[i] = conjugated ? conjugate(x[i * incx]) : x[i * incx];
    right[i] = y[i * incy];
  }
  return dot_product(left.data(), right.data(), n);
}

template <class C>
void ger(int m, int n, C alpha, const C* x, ptrdiff_t incx, const C* y, ptrdiff_t incy, C* a, ptrdiff_t lda,
         bool conjugated) {
  for (int col = 0; col < n; ++col)
    for (int row = 0; row < m; ++row)
      a[row + col * lda] += alpha * x[row * incx] * (conjugated ? conjugate(y[col * incy]) : y[col * incy]);
}

// Writes one triangle, as BLAS does; CuPy fills in the other.
template <class C>
void syrk(int upper, int op, int n, int k, C alpha, const C* a, ptrdiff_t lda, C beta, C* c, ptrdiff_t ldc) {
  std::vector<C> rows = rows_of<C>(a, lda, op != plain, false, n, k);
  for (int col = 0; col < n; ++col)
    for (int row = upper ? 0 : col; row < (upper ? col + 1 : n); ++row) {
      C sum = alpha * dot_product(&rows[size_t(row) * k], &rows[size_t(col) * k], k);
      C& target = c[row + col * ldc];
      target = beta == C(0) ? sum : sum + beta * target;
    }
}

template <class C, class T, class O>
Status gemm_as(int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int lda, const void* b, int ldb,
               const void* beta, void* out, int ldc) {
  gemm<C>(op_a, op_b, m, n, k, *static_cast<const C*>(alpha), static_cast<const T*>(a), lda, static_cast<const T*>(b),
          ldb, *static_cast<const C*>(beta), static_cast<O*>(out), ldc);
  return success;
}

// alpha and beta have the type that is computed in: float for 16-bit data.
Status gemm_typed(int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda,
                  const void* b, int type_b, int ldb, const void* beta, void* out, int type_out, int ldc) {
  if (type_a != type_b) return not_supported;
#define CASE(in, result, C, T, O) \
  if (type_a == in && type_out == result) return gemm_as<C, T, O>(op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, out, ldc)
  CASE(f32, f32, float, float, float);
  CASE(f64, f64, double, double, double);
  CASE(c64, c64, complex64, complex64, complex64);
  CASE(c128, c128, complex128, complex128, complex128);
  CASE(f16, f16, float, half, half);
  CASE(f16, f32, float, half, float);
  CASE(bf16, bf16, float, bfloat, bfloat);
  CASE(bf16, f32, float, bfloat, float);
  CASE(i8, i32, int32_t, int8_t, int32_t);
#undef CASE
  return not_supported;
}

int width(int type) {
  switch (type) {
    case i8: return 1;
    case f16: case bf16: return 2;
    case f32: case i32: return 4;
    case c128: return 16;
    default: return 8;
  }
}

// CUBLAS_COMPUTE_16F and its pedantic twin.
bool scalars_are_half(int compute) { return compute == 64 || compute == 65; }

int pointer_mode = 0, math_mode = 0;
void* stream_of_handle = nullptr;

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

typedef void* Handle;

void emulator_set_note(void (*callback)(const char*)) { note = callback; }

int cublasCreate_v2(Handle* handle) { return *handle = &pointer_mode, success; }
int cublasDestroy_v2(Handle) { return success; }
int cublasGetVersion_v2(Handle, int* version) { return *version = 120900, success; }
int cublasSetStream_v2(Handle, void* stream) { return stream_of_handle = stream, success; }
int cublasGetStream_v2(Handle, void** stream) { return *stream = stream_of_handle, success; }
int cublasSetPointerMode_v2(Handle, int mode) { return pointer_mode = mode, success; }
int cublasGetPointerMode_v2(Handle, int* mode) { return *mode = pointer_mode, success; }
int cublasSetMathMode(Handle, int mode) { return math_mode = mode, success; }
int cublasGetMathMode(Handle, int* mode) { return *mode = math_mode, success; }

#define ENTRIES(L, T)                                                                                                    \
  int cublas##L##gemm_v2(Handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* a, int lda,           \
                         const T* b, int ldb, const T* beta, T* c, int ldc) {                                            \
    launched("cublas" #L "gemm");                                                                                        \
    gemm<T>(op_a, op_b, m, n, k, *alpha, a, lda, b, ldb, *beta, c, ldc);                                                 \
    return success;                                                                                                      \
  }                                                                                                                      \
  int cublas##L##gemmStridedBatched(Handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T* a,         \
                                    int lda, long long stride_a, const T* b, int ldb, long long stride_b, const T* beta, \
                                    T* c, int ldc, long long stride_c, int batch) {                                      \
    launched("cublas" #L "gemmStridedBatched");                                                                          \
    for (int i = 0; i < batch; ++i)                                                                                      \
      gemm<T>(op_a, op_b, m, n, k, *alpha, a + i * stride_a, lda, b + i * stride_b, ldb, *beta, c + i * stride_c, ldc);  \
    return success;                                                                                                      \
  }                                                                                                                      \
  int cublas##L##gemmBatched(Handle, int op_a, int op_b, int m, int n, int k, const T* alpha, const T** a, int lda,      \
                             const T** b, int ldb, const T* beta, T** c, int ldc, int batch) {                           \
    launched("cublas" #L "gemmBatched");                                                                                 \
    for (int i = 0; i < batch; ++i) gemm<T>(op_a, op_b, m, n, k, *alpha, a[i], lda, b[i], ldb, *beta, c[i], ldc);        \
    return success;                                                                                                      \
  }                                                                                                                      \
  int cublas##L##gemv_v2(Handle, int op, int m, int n, const T* alpha, const T* a, int lda, const T* x, int incx,        \
                         const T* beta, T* y, int incy) {                                                                \
    launched("cublas" #L "gemv");                                                                                        \
    gemv<T>(op, m, n, *alpha, a, lda, x, incx, *beta, y, incy);                                                          \
    return success;                                                                                                      \
  }                                                                                                                      \
  int cublas##L##syrk_v2(Handle, int upper, int op, int n, int k, const T* alpha, const T* a, int lda, const T* beta,    \
                         T* c, int ldc) {                                                                                \
    launched("cublas" #L "syrk");                                                                                        \
    syrk<T>(upper, op, n, k, *alpha, a, lda, *beta, c, ldc);                                                             \
    return success;                                                                                                      \
  }
ENTRIES(S, float)
ENTRIES(D, double)
ENTRIES(C, complex64)
ENTRIES(Z, complex128)

#define DOT(name, T, conjugated)                                                                       \
  int cublas##name##_v2(Handle, int n, const T* x, int incx, const T* y, int incy, T* result) {        \
    launched("cublas" #name);                                                                          \
    *result = dot<T>(n, x, incx, y, incy, conjugated);                                                 \
    return success;                                                                                    \
  }
DOT(Sdot, float, false)
DOT(Ddot, double, false)
DOT(Cdotu, complex64, false)
DOT(Cdotc, complex64, true)
DOT(Zdotu, complex128, false)
DOT(Zdotc, complex128, true)

#define GER(name, T, conjugated)                                                                                        \
  int cublas##name##_v2(Handle, int m, int n, const T* alpha, const T* x, int incx, const T* y, int incy, T* a, int lda) { \
    launched("cublas" #name);                                                                                           \
    ger<T>(m, n, *alpha, x, incx, y, incy, a, lda, conjugated);                                                         \
    return success;                                                                                                     \
  }
GER(Sger, float, false)
GER(Dger, double, false)
GER(Cgeru, complex64, false)
GER(Cgerc, complex64, true)
GER(Zgeru, complex128, false)
GER(Zgerc, complex128, true)

int cublasSgemmEx(Handle, int op_a, int op_b, int m, int n, int k, const float* alpha, const void* a, int type_a, int lda,
                  const void* b, int type_b, int ldb, const float* beta, void* c, int type_c, int ldc) {
  launched("cublasSgemmEx");
  return gemm_typed(op_a, op_b, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc);
}

int cublasGemmEx(Handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda,
                 const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute, int) {
  if (scalars_are_half(compute)) return not_supported;
  launched("cublasGemmEx");
  return gemm_typed(op_a, op_b, m, n, k, alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc);
}

int cublasGemmStridedBatchedEx(Handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                               int type_a, int lda, long long stride_a, const void* b, int type_b, int ldb,
                               long long stride_b, const void* beta, void* c, int type_c, int ldc, long long stride_c,
                               int batch, int compute, int) {
  if (scalars_are_half(compute)) return not_supported;
  launched("cublasGemmStridedBatchedEx");
  const char *from_a = static_cast<const char*>(a), *from_b = static_cast<const char*>(b);
  char* to = static_cast<char*>(c);
  for (int i = 0; i < batch; ++i) {
    int status = gemm_typed(op_a, op_b, m, n, k, alpha, from_a + i * stride_a * width(type_a), type_a, lda,
                            from_b + i * stride_b * width(type_b), type_b, ldb, beta, to + i * stride_c * width(type_c),
                            type_c, ldc);
    if (status) return status;
  }
  return success;
}
}
