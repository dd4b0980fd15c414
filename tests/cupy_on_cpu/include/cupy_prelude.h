// The headers that CuPy puts before every kernel that it generates, for compiling once, ahead.
#pragma once
#include "emulator.h"
#include <cuda_fp16.h>
// Without CUDA's qualifiers, CuPy's device functions would be ordinary external ones, and g++ would emit all of them with
// every kernel: 40 of 90 ms. As __device__ stands next to `inline` in places, and twice is an error, one gives way.
#undef __device__
#define __device__ __inline
#define inline
#include <cupy/carray.cuh>
#include <cupy/atomics.cuh>
#include <cupy/math_constants.h>
#include <cupy/float16.cuh>
#undef inline
#undef __device__
#define __device__
#include <cupy/complex.cuh>
