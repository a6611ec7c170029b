// Stands in for CUDA's header, so that kernels.cu compiles as C++ and runs on the processor: the
// blocks and threads of a launch one after the other, in memory of the processor. No kernel of ours
// waits for the other threads of its block, so plain loops will do.
//
// It finds wrong indices, wrong arguments, and results that depend on the order of the threads
// (set `backwards`). It does not find two threads that write at the same moment.

#pragma once

#include <cstddef>
#include <cstdint>

#define __global__
#define __launch_bounds__(threads)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  explicit dim3(unsigned width) : x(width) {}
};

namespace cuda_shim {
inline bool backwards = false;
inline int64_t launches = 0, largest_grid = 0;
inline int device = 0;
inline int devices = 1;
}  // namespace cuda_shim

inline thread_local dim3 gridDim, blockDim;
inline thread_local struct {
  unsigned x, y, z;
} blockIdx, threadIdx;

enum cudaError_t { cudaSuccess, cudaErrorInvalidDevice, cudaErrorInvalidConfiguration };
using cudaStream_t = struct CUstream_st*;
struct cudaFuncAttributes {};

inline const char* cudaGetErrorString(cudaError_t status) {
  if (status == cudaErrorInvalidDevice) return "invalid device ordinal";
  return status == cudaSuccess ? "no error" : "invalid configuration argument";
}
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = cuda_shim::device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= cuda_shim::devices) return cudaErrorInvalidDevice;
  cuda_shim::device = device;
  return cudaSuccess;
}
template <class Function>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, Function*) {
  return cudaSuccess;
}

template <typename T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}

template <class Kernel>
cudaError_t cudaLaunchKernel(void (*function)(Kernel, int64_t), dim3 grid, dim3 block,
                             void** arguments, size_t, cudaStream_t) {
  if (grid.x == 0 || block.x == 0 || block.x > 1024) return cudaErrorInvalidConfiguration;
  ++cuda_shim::launches;
  if (grid.x > cuda_shim::largest_grid) cuda_shim::largest_grid = grid.x;
  gridDim = grid;
  blockDim = block;
  const uint64_t all = static_cast<uint64_t>(grid.x) * block.x;
  for (uint64_t step = 0; step < all; ++step) {
    const uint64_t thread = cuda_shim::backwards ? all - 1 - step : step;
    blockIdx.x = static_cast<unsigned>(thread / block.x);
    threadIdx.x = static_cast<unsigned>(thread % block.x);
    function(*static_cast<Kernel*>(arguments[0]), *static_cast<int64_t*>(arguments[1]));
  }
  return cudaSuccess;
}
