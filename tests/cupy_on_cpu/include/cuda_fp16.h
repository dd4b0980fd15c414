// Stand-in for CUDA's half type: the part that CuPy's headers and plain raw kernels use.
#pragma once
#include "emulator.h"
#include "half_bits.h"

struct __half_raw { unsigned short x; };

struct __align__(2) __half {
  unsigned short bits;
  __half() = default;
  __half(float v) : bits(half_bits_from_double(v)) {}
  __half(double v) : bits(half_bits_from_double(v)) {}
  template <class T, class = std::enable_if_t<std::is_integral<T>::value>>
  __half(T v) : bits(half_bits_from_double(double(v))) {}
  __half(const __half_raw& raw) : bits(raw.x) {}
  operator float() const { return half_bits_to_float(bits); }
  operator __half_raw() const { return {bits}; }
};
typedef __half half;

inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline short __half_as_short(__half h) { return short(h.bits); }
inline __half __ushort_as_half(unsigned short bits) { return __half(__half_raw{bits}); }
inline float __half2float(__half h) { return float(h); }
inline __half __float2half(float v) { return __half(v); }
inline __half __float2half_rn(float v) { return __half(v); }
inline __half __double2half(double v) { return __half(v); }
inline bool __hisnan(__half h) { return (h.bits & 0x7fffu) > 0x7c00u; }
inline int __hisinf(__half h) { return (h.bits & 0x7fffu) == 0x7c00u ? (h.bits >> 15 ? -1 : 1) : 0; }

// One operation in float, rounded once, is the correctly rounded operation of half.
#define EMULATOR_HALF_OPERATION(name, op)                                               \
  inline __half name(__half a, __half b) { return __half(float(a) op float(b)); }       \
  inline __half operator op(const __half& a, const __half& b) { return name(a, b); }    \
  inline __half& operator op##=(__half& a, const __half& b) { return a = name(a, b); }
EMULATOR_HALF_OPERATION(__hadd, +)
EMULATOR_HALF_OPERATION(__hsub, -)
EMULATOR_HALF_OPERATION(__hmul, *)
EMULATOR_HALF_OPERATION(__hdiv, /)
inline __half operator-(const __half& a) { return __half(__half_raw{(unsigned short)(a.bits ^ 0x8000u)}); }
#define EMULATOR_HALF_COMPARISON(name, op)                                            \
  inline bool name(__half a, __half b) { return float(a) op float(b); }               \
  inline bool operator op(const __half& a, const __half& b) { return name(a, b); }
EMULATOR_HALF_COMPARISON(__heq, ==)
EMULATOR_HALF_COMPARISON(__hne, !=)
EMULATOR_HALF_COMPARISON(__hlt, <)
EMULATOR_HALF_COMPARISON(__hle, <=)
EMULATOR_HALF_COMPARISON(__hgt, >)
EMULATOR_HALF_COMPARISON(__hge, >=)
