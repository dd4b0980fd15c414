// CuPy takes the folder with this header for the CUDA toolkit's, and kernels may include it.
#pragma once
#include "emulator.h"
