// Conversions of the two 16-bit formats, in integer arithmetic: compilers differ in which 16-bit types they know.
#pragma once
#include <stdint.h>
#include <string.h>

inline float half_bits_to_float(uint16_t half) {
  uint32_t sign = uint32_t(half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu, bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | fraction << 13;
  } else if (exponent) {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  } else {
    // Zero and subnormals: fraction * 2^-24 is exact in float.
    float magnitude = float(fraction) * 0x1p-24f;
    memcpy(&bits, &magnitude, sizeof bits);
    bits |= sign;
  }
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

// Round to nearest, ties to even. Straight from double, since going through float would round twice.
inline uint16_t half_bits_from_double(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint16_t sign = uint16_t(bits >> 48 & 0x8000u);
  uint64_t fraction = bits & 0xfffffffffffffull;
  int exponent = int(bits >> 52 & 0x7ffu) - 1023;
  if (exponent == 1024) return sign | 0x7c00u | (fraction ? 0x200u : 0u);
  if (exponent < -25) return sign;
  if (exponent > 15) return sign | 0x7c00u;
  uint64_t significand = fraction | 1ull << 52;
  int drop = exponent >= -14 ? 42 : 42 - 14 - exponent;
  uint64_t kept = significand >> drop, rest = significand & ((1ull << drop) - 1), half = 1ull << (drop - 1);
  kept += rest > half || (rest == half && (kept & 1));
  // A carry out of the fraction moves into the exponent field by itself, up to infinity.
  return exponent >= -14 ? uint16_t(sign | ((uint32_t(exponent + 14) << 10) + kept)) : uint16_t(sign | kept);
}

inline float bfloat_bits_to_float(uint16_t bits16) {
  uint32_t bits = uint32_t(bits16) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

inline uint16_t bfloat_bits_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t(bits >> 16 | 0x40u);
  return uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
