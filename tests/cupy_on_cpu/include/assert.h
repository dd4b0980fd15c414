// In the place of the system's header: assert() as kernels have it.
#pragma once
#include "emulator.h"
