#pragma once

#include <cstdint>
#include <functional>

#include "ncr/shape.h"

/// The kernels on the tensors of a CUDA device: the functors of ncr/*.h, one call per voxel. The
/// arguments are those of ncr/cpu.h, addresses being the device's. This header needs no CUDA.
///
/// Everything is queued on the caller's stream and nothing waits for the device. Failures of a
/// launch throw std::runtime_error.
///
/// Deterministic, the same bits every time: all but three. Where a voxel adds to the voxels it had
/// looked at, the additions are atomic and their order is the device's, so that the last bits of
/// these gradients differ from run to run:
///   exponential_adjoint, warp_adjoint to the image, warp_nearest_adjoint.
namespace ncr::cuda {

/// Where to run. `allocate` gives device memory of so many bytes that stays valid on the stream
/// until the call has returned; it is the framework's, whose pool should know of it.
struct Cuda {
  int device = 0;
  void* stream = nullptr;  ///< cudaStream_t
  std::function<void*(size_t)> allocate;
};

/// Whether the kernels run on a device: a driver that is too old says no, or a device for which no
/// code was built.
bool usable(int device);

template <typename T>
void exponential(const Cuda& cuda, const T* velocity, int64_t samples, Shape shape, Integration how,
                 T* displacement, T* fields);

/// Non-deterministic.
template <typename T>
void exponential_adjoint(const Cuda& cuda, const T* velocity, const T* fields,
                         const T* grad_displacement, int64_t samples, Shape shape, Integration how,
                         T* grad_velocity);

template <typename T>
void warp(const Cuda& cuda, const T* image, Shape in, const T* displacement, Shape out,
          int64_t samples, int64_t channels, Padding padding, const T* addend, T* moved);

/// Non-deterministic where grad_image is wanted; grad_displacement is always the same.
template <typename T>
void warp_adjoint(const Cuda& cuda, const T* image, Shape in, const T* displacement, Shape out,
                  const T* grad_moved, int64_t samples, int64_t channels, Padding padding,
                  bool identity, T* grad_displacement, T* grad_image);

template <typename Pixel, typename T>
void warp_nearest(const Cuda& cuda, const Pixel* image, Shape in, const T* displacement, Shape out,
                  int64_t samples, int64_t channels, Padding padding, Pixel* moved);

/// Non-deterministic.
template <typename T>
void warp_nearest_adjoint(const Cuda& cuda, const T* displacement, Shape in, Shape out,
                          const T* grad_moved, int64_t samples, int64_t channels, Padding padding,
                          T* grad_image);

template <typename T>
void jacobian(const Cuda& cuda, const T* displacement, int64_t samples, Shape shape, T* result);

/// Gathered, hence deterministic.
template <typename T>
void jacobian_adjoint(const Cuda& cuda, const T* displacement, const T* grad_result,
                      int64_t samples, Shape shape, T* grad_displacement);

template <typename T>
void box_sum(const Cuda& cuda, const T* image, int64_t images, Shape shape, int64_t radius,
             T* sums);

template <typename T>
void resize(const Cuda& cuda, const T* image, int64_t images, Shape old_shape, Shape shape,
            T* resized);

/// Gathered, hence deterministic.
template <typename T>
void resize_adjoint(const Cuda& cuda, const T* grad_resized, int64_t images, Shape old_shape,
                    Shape shape, T* grad_image);

template <typename T>
void total_variation_denoise(const Cuda& cuda, const T* evidence, int64_t images, Shape shape,
                             double weight, int64_t iterations, T* primal, T* dual, T* gap);

}  // namespace ncr::cuda
