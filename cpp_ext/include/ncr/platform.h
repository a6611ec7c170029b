#pragma once

#include <cstdint>

/// Marks arithmetic that is compiled for the host and, by nvcc, for the device too.
#if defined(__CUDACC__)
#define NCR_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
// Always inlined: the same functions are compiled for several instruction sets, and a shared
// out-of-line copy could be the one that this machine cannot run. The same for lambdas.
#define NCR_HD inline __attribute__((always_inline))
#define NCR_LAMBDA __attribute__((always_inline))
#elif defined(_MSC_VER)
#define NCR_HD __forceinline
#else
#define NCR_HD inline
#endif

#if !defined(NCR_LAMBDA)
#define NCR_LAMBDA
#endif
