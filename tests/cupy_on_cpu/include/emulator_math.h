// CUDA's mathematics and bit functions that <math.h> lacks, and the vector types.
#pragma once

// CUDA's min and max skip a NaN, as fmin and fmax do; half and complex types bring their own overloads.
template <class T, class U>
using EmulatorCommon =
    std::enable_if_t<std::is_arithmetic<T>::value && std::is_arithmetic<U>::value, std::common_type_t<T, U>>;
template <class T, class U>
inline EmulatorCommon<T, U> min(T a, U b) {
  using C = EmulatorCommon<T, U>;
  if constexpr (std::is_floating_point<C>::value) return fmin(C(a), C(b));
  else return C(b) < C(a) ? C(b) : C(a);
}
template <class T, class U>
inline EmulatorCommon<T, U> max(T a, U b) {
  using C = EmulatorCommon<T, U>;
  if constexpr (std::is_floating_point<C>::value) return fmax(C(a), C(b));
  else return C(a) < C(b) ? C(b) : C(a);
}

// ---- bits ----
template <class To, class From>
inline To emulator_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}
inline float __int_as_float(int v) { return emulator_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return emulator_bits<float>(v); }
inline int __float_as_int(float v) { return emulator_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return emulator_bits<unsigned>(v); }
inline double __longlong_as_double(long long v) { return emulator_bits<double>(v); }
inline long long __double_as_longlong(double v) { return emulator_bits<long long>(v); }
inline int __double2hiint(double v) { return int(emulator_bits<unsigned long long>(v) >> 32); }
inline int __double2loint(double v) { return int(emulator_bits<unsigned long long>(v)); }
inline double __hiloint2double(int high, int low) {
  return emulator_bits<double>((unsigned long long)(unsigned)high << 32 | (unsigned)low);
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
// The built-ins are undefined at zero, where CUDA gives the width.
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline unsigned __brev(unsigned v) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= (v >> i & 1u) << (31 - i);
  return result;
}
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __mul24(int a, int b) { return a * b; }
template <class T>
inline T __ldg(const T* address) { return *address; }

// ---- rounding that must not be contracted, and the fast variants (which are exact here) ----
inline float __fmul_rn(float a, float b) { return emulator_fmul(a, b); }
inline float __fadd_rn(float a, float b) { return emulator_fadd(a, b); }
inline float __fsub_rn(float a, float b) { return emulator_fadd(a, -b); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dmul_rn(double a, double b) { return emulator_dmul(a, b); }
inline double __dadd_rn(double a, double b) { return emulator_dadd(a, b); }
inline double __dsub_rn(double a, double b) { return emulator_dadd(a, -b); }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __expf(float a) { return expf(a); }
inline float __exp10f(float a) { return powf(10.0f, a); }
inline float __logf(float a) { return logf(a); }
inline float __log2f(float a) { return log2f(a); }
inline float __log10f(float a) { return log10f(a); }
inline float __powf(float a, float b) { return powf(a, b); }
inline float __sinf(float a) { return sinf(a); }
inline float __cosf(float a) { return cosf(a); }
inline float __tanf(float a) { return tanf(a); }
inline float __fdividef(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }
inline int __float2int_rn(float a) { return int(rintf(a)); }
inline int __float2int_rd(float a) { return int(floorf(a)); }
inline int __float2int_ru(float a) { return int(ceilf(a)); }
inline int __float2int_rz(float a) { return int(a); }
inline float __int2float_rn(int a) { return float(a); }
inline float __double2float_rn(double a) { return float(a); }

inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
inline double rsqrt(double a) { return 1.0 / sqrt(a); }
inline float rsqrt(float a) { return rsqrtf(a); }
inline float rcbrtf(float a) { return 1.0f / cbrtf(a); }
inline double rcbrt(double a) { return 1.0 / cbrt(a); }
// glibc declares exp10 and sincos as extensions in double; CUDA overloads them for float.
inline float exp10(float a) { return float(exp10(double(a))); }
inline void sincos(float a, float* s, float* c) { sincosf(a, s, c); }
inline double sinpi(double a) { return sin(M_PI * fmod(a, 2.0)); }
inline double cospi(double a) { return cos(M_PI * fmod(a, 2.0)); }
inline float sinpif(float a) { return float(sinpi(double(a))); }
inline float cospif(float a) { return float(cospi(double(a))); }
inline double normcdf(double a) { return 0.5 * erfc(-a * M_SQRT1_2); }
inline float normcdff(float a) { return float(normcdf(double(a))); }

// ---- vector types ----
#define EMULATOR_VECTORS(base, type)                                                        \
  struct base##1 { type x; };                                                               \
  struct __attribute__((aligned(2 * sizeof(type)))) base##2 { type x, y; };                 \
  struct base##3 { type x, y, z; };                                                         \
  struct __attribute__((aligned(sizeof(type) < 8 ? 4 * sizeof(type) : 16))) base##4 { type x, y, z, w; }; \
  inline base##1 make_##base##1(type x) { return {x}; }                                     \
  inline base##2 make_##base##2(type x, type y) { return {x, y}; }                          \
  inline base##3 make_##base##3(type x, type y, type z) { return {x, y, z}; }               \
  inline base##4 make_##base##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATOR_VECTORS(float, float)
EMULATOR_VECTORS(double, double)
EMULATOR_VECTORS(int, int)
EMULATOR_VECTORS(char, signed char)
EMULATOR_VECTORS(uchar, unsigned char)
EMULATOR_VECTORS(short, short)
EMULATOR_VECTORS(ushort, unsigned short)
EMULATOR_VECTORS(longlong, long long)
EMULATOR_VECTORS(ulonglong, unsigned long long)
// uint3 is the type of threadIdx and stands in emulator.h.
struct uint1 { unsigned x; };
struct __attribute__((aligned(8))) uint2 { unsigned x, y; };
struct __attribute__((aligned(16))) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
