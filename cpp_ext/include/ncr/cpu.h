#pragma once

#include <cstdint>
#include <string>

#include "ncr/launch.h"
#include "ncr/shape.h"

/// The kernels on whole tensors: contiguous arrays (N, C, *spatial), float or double. Shapes are
/// trusted; itk_ncr/ops checks them. Every function gives the same bits for any number of threads.
namespace ncr::cpu {

// exponential.cpp

/// Smallest K per sample such that max|v| / 2^K <= longest_step; non-finite vectors do not count.
template <typename T>
void required_squarings(Cpu cpu, const T* velocity, int64_t samples, Shape shape,
                        double longest_step, int64_t most, int64_t* squarings);

template <typename T>
void exponential(Cpu cpu, const T* velocity, int64_t samples, Shape shape, Integration how,
                 T* displacement, T* fields);

/// Of a single sample, grad_velocity must have room for field_size(shape) values: it serves as
/// scratch memory before it is written.
template <typename T>
void exponential_adjoint(Cpu cpu, const T* velocity, const T* fields, const T* grad_displacement,
                         int64_t samples, Shape shape, Integration how, T* grad_velocity);

// warp.cpp

/// moved = image(p + u[p]) + addend; addend may be null.
template <typename T>
void warp(Cpu cpu, const T* image, Shape in, const T* displacement, Shape out, int64_t samples,
          int64_t channels, Padding padding, const T* addend, T* moved);

/// Gradients to the displacement and to the image; either may be null. `identity` adds grad_moved
/// to grad_displacement (the addend of a composition).
template <typename T>
void warp_adjoint(Cpu cpu, const T* image, Shape in, const T* displacement, Shape out,
                  const T* grad_moved, int64_t samples, int64_t channels, Padding padding,
                  bool identity, T* grad_displacement, T* grad_image);

template <typename Pixel, typename T>
void warp_nearest(Cpu cpu, const Pixel* image, Shape in, const T* displacement, Shape out,
                  int64_t samples, int64_t channels, Padding padding, Pixel* moved);

/// Gradient of warp_nearest to the image.
template <typename T>
void warp_nearest_adjoint(Cpu cpu, const T* displacement, Shape in, Shape out, const T* grad_moved,
                          int64_t samples, int64_t channels, Padding padding, T* grad_image);

// stencils.cpp

template <typename T>
void jacobian(Cpu cpu, const T* displacement, int64_t samples, Shape shape, T* result);

template <typename T>
void jacobian_adjoint(Cpu cpu, const T* displacement, const T* grad_result, int64_t samples,
                      Shape shape, T* grad_displacement);

/// Window sums of `images` images.
template <typename T>
void box_sum(Cpu cpu, const T* image, int64_t images, Shape shape, int64_t radius, T* sums);

template <typename T>
void resize(Cpu cpu, const T* image, int64_t images, Shape old_shape, Shape shape, T* resized);

template <typename T>
void resize_adjoint(Cpu cpu, const T* grad_resized, int64_t images, Shape old_shape, Shape shape,
                    T* grad_image);

// total_variation.cpp

/// Denoises `images` images; dual (images, D, grid) is where to start and is replaced.
template <typename T>
void total_variation_denoise(Cpu cpu, const T* evidence, int64_t images, Shape shape, double weight,
                             int64_t iterations, T* primal, T* dual, T* gap);

// variant.cpp

/// What is in use: "scalar" (warp and exponential by the functors), "baseline" (by the vectors that
/// every processor of the target has), "avx2", "avx512".
std::string variant();

/// Chooses another one, for tests and comparisons; false if this machine does not have it.
bool set_variant(const std::string& name);

}  // namespace ncr::cpu
