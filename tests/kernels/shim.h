// Enough of CUDA to run a kernel on the CPU, one thread of the grid after the other.
//
// Stands in front of a translation unit of kernels/; runner.h stands behind it. Kernels with shared
// memory or barriers cannot run so.
#pragma once

#include <cstddef>

struct Dimensions {
  unsigned x, y, z;
};
static thread_local Dimensions blockIdx, threadIdx, blockDim, gridDim;

#define __global__
