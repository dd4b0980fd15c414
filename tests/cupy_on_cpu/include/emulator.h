// What NVRTC predefines for a kernel, for g++: qualifiers, thread indices, barriers, warp exchange, atomics, device
// mathematics, and the thunk through which a kernel is launched. Blocks run one after another; the threads of a block are
// fibers (threads.cpp) that change only at barriers.
#pragma once
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>
#ifdef CUPY_JIT_MODE
#include <tuple>
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
// One copy serves every block, since blocks run in turn. CUDA aligns shared memory for any type.
#define __shared__ static __attribute__((aligned(16)))
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// CuPy's headers choose the half type of CUDA 9 and later by this.
#define __CUDACC_VER_MAJOR__ 12
#define __CUDACC_VER_MINOR__ 9

// A failed assertion ends the launch with an error, as on a GPU; it must not end the test process.
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition) ((condition) ? (void)0 : emulator_fail("assertion failed in a kernel: " #condition))
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern "C" {
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
extern char* emulator_shared;  // dynamic shared memory of the block
[[noreturn]] void emulator_fail(const char* message);
void emulator_sync_block();
void emulator_sync_warp(unsigned mask);
unsigned emulator_lane();
unsigned emulator_alive();          // lanes of this warp that have not returned
void* emulator_slot(unsigned lane);  // 16 bytes in which a lane shows its value to the others
int emulator_vote(int predicate);   // block-wide count of non-zero predicates
int emulator_run(void (*body)(void*), void* call, const unsigned* dims, unsigned shared_bytes);
// Rounded products and sums live in a library of their own so that the compiler cannot contract them into an FMA.
float emulator_fmul(float, float);
float emulator_fadd(float, float);
double emulator_dmul(double, double);
double emulator_dadd(double, double);
}
static const int warpSize = 32;

// ---- launching: the driver hands over an array of pointers to the arguments ----
template <class... A>
struct EmulatorCall {
  void (*kernel)(A...);
  void** arguments;
  template <size_t... I>
  void apply(std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
  }
  static void body(void* self) { static_cast<EmulatorCall*>(self)->apply(std::index_sequence_for<A...>{}); }
};
template <class... A>
int emulator_launch(void (*kernel)(A...), void** arguments, const unsigned* dims, unsigned shared_bytes) {
  EmulatorCall<A...> call{kernel, arguments};
  return emulator_run(&EmulatorCall<A...>::body, &call, dims, shared_bytes);
}

// ---- barriers ----
inline void __syncthreads() { emulator_sync_block(); }
inline int __syncthreads_count(int p) { return emulator_vote(p); }
inline int __syncthreads_or(int p) { return emulator_vote(p) != 0; }
inline int __syncthreads_and(int p) { return emulator_vote(!p) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator_sync_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline unsigned __activemask() { return emulator_alive(); }
[[noreturn]] inline void __trap() { emulator_fail("__trap() in a kernel"); }
inline long long clock64() { return 0; }
inline int clock() { return 0; }

// ---- exchange between the lanes of a warp ----
template <class T>
inline T emulator_exchange(unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) <= 16, "a warp exchanges values of at most 16 bytes");
  memcpy(emulator_slot(emulator_lane()), &value, sizeof(T));
  emulator_sync_warp(mask);
  T result;
  // The value of a lane that takes no part is undefined on a GPU: all bits set shows up as NaN or -1.
  if ((mask & emulator_alive()) >> source & 1u)
    memcpy(&result, emulator_slot(source), sizeof(T));
  else
    memset(&result, 0xff, sizeof(T));
  emulator_sync_warp(mask);
  return result;
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  unsigned self = emulator_lane();
  return emulator_exchange(mask, value, (self & ~(width - 1u)) | (lane & (width - 1)));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  unsigned self = emulator_lane(), source = self ^ bits;
  // A partner beyond the end of the own group gives the own value back.
  return emulator_exchange(mask, value, source < (self & ~(width - 1u)) + width ? source : self);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  unsigned self = emulator_lane();
  return emulator_exchange(mask, value, (self & (width - 1u)) >= delta ? self - delta : self);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  unsigned self = emulator_lane();
  return emulator_exchange(mask, value, (self & (width - 1u)) + delta < (unsigned)width ? self + delta : self);
}
template <class T, class F>
inline T emulator_warp_fold(unsigned mask, T value, F fold) {
  memcpy(emulator_slot(emulator_lane()), &value, sizeof(T));
  emulator_sync_warp(mask);
  bool first = true;
  T total = value;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!((mask & emulator_alive()) >> lane & 1u)) continue;
    T other;
    memcpy(&other, emulator_slot(lane), sizeof(T));
    total = first ? other : fold(total, other);
    first = false;
  }
  emulator_sync_warp(mask);
  return total;
}
inline unsigned __ballot_sync(unsigned mask, int p) {
  return emulator_warp_fold(mask, p ? 1u << emulator_lane() : 0u, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }
#define EMULATOR_WARP_REDUCE(name, type, expression) \
  inline type name(unsigned mask, type value) {      \
    return emulator_warp_fold(mask, value, [](type a, type b) -> type { return expression; }); \
  }
EMULATOR_WARP_REDUCE(__reduce_add_sync, unsigned, a + b)
EMULATOR_WARP_REDUCE(__reduce_add_sync, int, a + b)
EMULATOR_WARP_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
EMULATOR_WARP_REDUCE(__reduce_min_sync, int, a < b ? a : b)
EMULATOR_WARP_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
EMULATOR_WARP_REDUCE(__reduce_max_sync, int, a > b ? a : b)
EMULATOR_WARP_REDUCE(__reduce_and_sync, unsigned, a & b)
EMULATOR_WARP_REDUCE(__reduce_or_sync, unsigned, a | b)
EMULATOR_WARP_REDUCE(__reduce_xor_sync, unsigned, a ^ b)

// ---- atomics: one thread runs at a time, so plain reads and writes are atomic; CUDA's own list of types ----
#define EMULATOR_ATOMIC(name, type, expression)           \
  inline type name(type* address, type value) {           \
    type old = *address;                                  \
    *address = (expression);                              \
    return old;                                           \
  }
#define EMULATOR_ATOMIC_INTEGERS(name, expression) \
  EMULATOR_ATOMIC(name, int, expression)           \
  EMULATOR_ATOMIC(name, unsigned, expression)      \
  EMULATOR_ATOMIC(name, unsigned long long, expression)
EMULATOR_ATOMIC_INTEGERS(atomicAdd, old + value)
EMULATOR_ATOMIC(atomicAdd, float, old + value)
EMULATOR_ATOMIC(atomicAdd, double, old + value)
EMULATOR_ATOMIC(atomicSub, int, old - value)
EMULATOR_ATOMIC(atomicSub, unsigned, old - value)
EMULATOR_ATOMIC_INTEGERS(atomicExch, value)
EMULATOR_ATOMIC(atomicExch, float, value)
EMULATOR_ATOMIC_INTEGERS(atomicMin, old < value ? old : value)
EMULATOR_ATOMIC(atomicMin, long long, old < value ? old : value)
EMULATOR_ATOMIC_INTEGERS(atomicMax, old > value ? old : value)
EMULATOR_ATOMIC(atomicMax, long long, old > value ? old : value)
EMULATOR_ATOMIC_INTEGERS(atomicAnd, old & value)
EMULATOR_ATOMIC_INTEGERS(atomicOr, old | value)
EMULATOR_ATOMIC_INTEGERS(atomicXor, old ^ value)
EMULATOR_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
EMULATOR_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)
#define EMULATOR_ATOMIC_CAS(type)                                     \
  inline type atomicCAS(type* address, type expected, type value) {   \
    type old = *address;                                              \
    if (old == expected) *address = value;                            \
    return old;                                                       \
  }
EMULATOR_ATOMIC_CAS(int)
EMULATOR_ATOMIC_CAS(unsigned)
EMULATOR_ATOMIC_CAS(unsigned long long)
EMULATOR_ATOMIC_CAS(unsigned short)

#include "emulator_math.h"
