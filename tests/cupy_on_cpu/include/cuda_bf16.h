// Stand-in for CUDA's bfloat16 type: the part that CuPy's headers use.
#pragma once
#include "emulator.h"
#include "half_bits.h"

struct __align__(2) __nv_bfloat16 {
  unsigned short bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float v) : bits(bfloat_bits_from_float(v)) {}
  operator float() const { return bfloat_bits_to_float(bits); }
};

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  __nv_bfloat16 result;
  result.bits = bits;
  return result;
}
inline float __bfloat162float(__nv_bfloat16 v) { return float(v); }
inline __nv_bfloat16 __float2bfloat16(float v) { return __nv_bfloat16(v); }
inline bool __hisnan(__nv_bfloat16 v) { return (v.bits & 0x7fffu) > 0x7f80u; }
inline int __hisinf(__nv_bfloat16 v) { return (v.bits & 0x7fffu) == 0x7f80u ? (v.bits >> 15 ? -1 : 1) : 0; }
