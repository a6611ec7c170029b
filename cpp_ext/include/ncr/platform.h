#pragma once

#include <cstdint>

/// Marks arithmetic that is compiled for the host and, by nvcc, for the device too.
#if defined(__CUDACC__)
#define NCR_HD __host__ __device__ __forceinline__
#else
#define NCR_HD inline
#endif
