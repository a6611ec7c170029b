// The CUDA side: one loop, and which functor runs on what. No torch header, so that it compiles in
// seconds; no <<< >>> either, so that tests/ops/cuda_shim can compile it as plain C++.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "ncr/arrays.h"
#include "ncr/box.h"
#include "ncr/cuda.h"
#include "ncr/integrate.h"
#include "ncr/jacobian.h"
#include "ncr/resize.h"
#include "ncr/total_variation.h"
#include "ncr/warp.h"

// The tests set both lower, so that small volumes need many blocks and many rounds.
#if !defined(NCR_THREADS_PER_BLOCK)
#define NCR_THREADS_PER_BLOCK 256
#endif
#if !defined(NCR_MOST_BLOCKS)
#define NCR_MOST_BLOCKS 65536
#endif

namespace ncr::cuda {
namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorString(status));
}

/// Makes a device the current one of this thread for a while: streams belong to their device.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "asking for the current CUDA device");
    if (device != before_) check(cudaSetDevice(device), "choosing a CUDA device");
  }
  ~OnDevice() { cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

template <class Kernel>
__global__ void __launch_bounds__(NCR_THREADS_PER_BLOCK) run(Kernel kernel, int64_t n) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    kernel(i);
  }
}

}  // namespace

/// Calls kernel(i) for 0 <= i < n: the only loop on the device.
template <class Kernel>
void launch(const Cuda& cuda, Kernel kernel, int64_t n) {
  if (n == 0) return;
  const OnDevice guard(cuda.device);
  const int64_t blocks = (n + NCR_THREADS_PER_BLOCK - 1) / NCR_THREADS_PER_BLOCK;
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>(blocks, NCR_MOST_BLOCKS)));
  void* arguments[] = {&kernel, &n};
  check(cudaLaunchKernel(&run<Kernel>, grid, dim3(NCR_THREADS_PER_BLOCK), arguments, 0,
                         static_cast<cudaStream_t>(cuda.stream)),
        "launching a CUDA kernel");
}

namespace {

template <typename T>
T* allocate(const Cuda& cuda, int64_t values) {
  return static_cast<T*>(cuda.allocate(sizeof(T) * static_cast<size_t>(values)));
}

/// Adds to (N * C, count) from any thread; in which order is the device's affair.
template <typename T>
struct AddAtomic {
  T* values;
  int64_t count;

  NCR_HD void operator()(int64_t channel, int64_t offset, T value) const {
    // nvcc compiles the functors for the host too, where there are no atomics.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH__)
    atomicAdd(values + channel * count + offset, value);
#else
    (void)channel, (void)offset, (void)value;
#endif
  }
};

/// sums[n] = factor * sum of values[n, :], in rounds of 64 summands.
template <typename T>
void sum_samples(const Cuda& cuda, const T* values, int64_t samples, int64_t count, double factor,
                 T* sums) {
  constexpr int64_t kSummands = 64;
  const auto parts_of = [](int64_t n) { return (n + kSummands - 1) / kSummands; };
  int64_t parts = parts_of(count);
  double* from = allocate<double>(cuda, samples * parts);
  double* to = allocate<double>(cuda, samples * parts_of(parts));
  launch(cuda, SumInParts<T, double>{values, from, count, parts, 1.0}, samples * parts);
  while (parts > kSummands) {
    const int64_t fewer = parts_of(parts);
    launch(cuda, SumInParts<double, double>{from, to, parts, fewer, 1.0}, samples * fewer);
    std::swap(from, to);
    parts = fewer;
  }
  launch(cuda, SumInParts<double, T>{from, sums, parts, 1, factor}, samples);
}

}  // namespace

bool usable(int device) {
  try {
    const OnDevice guard(device);
    cudaFuncAttributes attributes;
    const bool found = cudaFuncGetAttributes(&attributes, &run<Fill<float>>) == cudaSuccess;
    // A question that was answered with no shall not be taken for the failure of the next launch.
    cudaGetLastError();
    return found;
  } catch (const std::runtime_error&) {
    cudaGetLastError();
    return false;
  }
}

/// grad = the adjoint of one squaring of `field`.
template <typename T, int D>
void squaring_adjoint(const Cuda& cuda, const T* field, const T* grad_squared, T* grad,
                      const Grid<D>& grid) {
  const int64_t count = grid.count();
  launch(cuda, squaring_adjoint_in_place<T, D>(field, grad_squared, grad, grid), count);
  const AddAtomic<T> add{grad, count};
  launch(cuda, squaring_adjoint_elsewhere<T, D>(field, grad_squared, add, grid), count);
}

template <typename T>
void exponential(const Cuda& cuda, const T* velocity, int64_t samples, Shape shape, Integration how,
                 T* displacement, T* fields) {
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    const PlainSteps<Cuda, T, D> steps{cuda, grid_of<D>(shape)};
    const int64_t values = steps.grad_size(), stride = field_size(shape);
    T* spare = allocate<T>(cuda, 2 * values);
    // What no field covers is 0, not whatever the memory held: outputs are functions of inputs.
    if (how.keep_every > 0) launch(cuda, Fill<T>{fields, T(0)}, samples * how.kept * stride);
    for (int64_t n = 0; n < samples; ++n) {
      T* kept = how.keep_every > 0 ? fields + n * how.kept * stride : nullptr;
      integrate(steps, velocity + n * values, first_factor<T>(how, n), how.squarings[n],
                how.keep_every, stride, kept, {spare, spare + values}, displacement + n * values);
    }
  });
}

template <typename T>
void exponential_adjoint(const Cuda& cuda, const T* velocity, const T* fields,
                         const T* grad_displacement, int64_t samples, Shape shape, Integration how,
                         T* grad_velocity) {
  int64_t most = 1;
  for (int64_t n = 0; n < samples; ++n) most = std::max(most, how.squarings[n]);
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    const PlainSteps<Cuda, T, D> steps{cuda, grid_of<D>(shape)};
    const int64_t values = steps.grad_size(), stride = field_size(shape);
    // Fields between two kept ones are computed again; where none is kept, that is all of them.
    const int64_t every = how.keep_every > 0 ? how.keep_every : most;
    T* again = allocate<T>(cuda, std::max<int64_t>(1, fields_again(most, every)) * stride);
    T* blocks = allocate<T>(cuda, 3 * values);
    for (int64_t n = 0; n < samples; ++n) {
      // The steps do not ask how long the vectors are.
      integrate_adjoint(steps, velocity + n * values, grad_displacement + n * values,
                        first_factor<T>(how, n), 0.0, how.squarings[n], every, stride,
                        fields + n * how.kept * stride, {blocks, blocks + values},
                        blocks + 2 * values, again, grad_velocity + n * values);
    }
  });
}

template <typename T>
void warp(const Cuda& cuda, const T* image, Shape in, const T* displacement, Shape out,
          int64_t samples, int64_t channels, Padding padding, const T* addend, T* moved) {
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const Warp<T, D> kernel{image,    displacement,   addend,
                            moved,    grid_of<D>(in), grid_of<D>(out),
                            channels, padding.fill,   static_cast<T>(padding.value)};
    launch(cuda, kernel, samples * out.count());
  });
}

template <typename T>
void warp_adjoint(const Cuda& cuda, const T* image, Shape in, const T* displacement, Shape out,
                  const T* grad_moved, int64_t samples, int64_t channels, Padding padding,
                  bool identity, T* grad_displacement, T* grad_image) {
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const auto run_with = [&](auto add) {
      const WarpAdjoint<T, D, decltype(add)> kernel{
          image,          displacement,    grad_moved, grad_displacement, add,
          grid_of<D>(in), grid_of<D>(out), channels,   padding.fill,      identity};
      launch(cuda, kernel, samples * out.count());
    };
    if (grad_image == nullptr) {
      run_with(AddNothing{});
      return;
    }
    launch(cuda, Fill<T>{grad_image, T(0)}, samples * channels * in.count());
    run_with(AddAtomic<T>{grad_image, in.count()});
  });
}

template <typename Pixel, typename T>
void warp_nearest(const Cuda& cuda, const Pixel* image, Shape in, const T* displacement, Shape out,
                  int64_t samples, int64_t channels, Padding padding, Pixel* moved) {
  using Limits = std::numeric_limits<Pixel>;
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const WarpNearest<Pixel, T, D> kernel{image,
                                          displacement,
                                          moved,
                                          grid_of<D>(in),
                                          grid_of<D>(out),
                                          channels,
                                          padding.fill,
                                          static_cast<Pixel>(padding.value),
                                          Limits::quiet_NaN(),
                                          Limits::has_quiet_NaN};
    launch(cuda, kernel, samples * out.count());
  });
}

template <typename T>
void warp_nearest_adjoint(const Cuda& cuda, const T* displacement, Shape in, Shape out,
                          const T* grad_moved, int64_t samples, int64_t channels, Padding padding,
                          T* grad_image) {
  launch(cuda, Fill<T>{grad_image, T(0)}, samples * channels * in.count());
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const WarpNearestAdjoint<T, D, AddAtomic<T>> kernel{
        displacement, grad_moved,  {grad_image, in.count()}, grid_of<D>(in), grid_of<D>(out),
        channels,     padding.fill};
    launch(cuda, kernel, samples * out.count());
  });
}

template <typename T>
void jacobian(const Cuda& cuda, const T* displacement, int64_t samples, Shape shape, T* result) {
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    launch(cuda, Jacobian<T, D>{displacement, result, grid_of<D>(shape)}, samples * shape.count());
  });
}

template <typename T>
void jacobian_adjoint(const Cuda& cuda, const T* displacement, const T* grad_result,
                      int64_t samples, Shape shape, T* grad_displacement) {
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    const JacobianAdjoint<T, D> kernel{displacement, grad_result, grad_displacement,
                                       grid_of<D>(shape)};
    launch(cuda, kernel, samples * shape.count());
  });
}

template <typename T>
void box_sum(const Cuda& cuda, const T* image, int64_t images, Shape shape, int64_t radius,
             T* sums) {
  const int64_t count = shape.count();
  T* spare = allocate<T>(cuda, images * count);
  const T* from = image;
  int64_t inner = 1;
  for (int axis = shape.dimension - 1; axis >= 0; --axis) {
    // The last axis must end in `sums`.
    T* to = axis % 2 == 0 ? sums : spare;
    launch(cuda, BoxSumAlong<T>{from, to, shape.size[axis], inner, radius}, images * count);
    inner *= shape.size[axis];
    from = to;
  }
}

template <typename T>
void resize(const Cuda& cuda, const T* image, int64_t images, Shape old_shape, Shape shape,
            T* resized) {
  // The fastest axis first; every intermediate has old sizes before the axis, new ones from it on.
  Shape now = old_shape;
  const T* from = image;
  int64_t inner = 1;
  for (int axis = shape.dimension - 1; axis >= 0; --axis) {
    now.size[axis] = shape.size[axis];
    T* to = axis == 0 ? resized : allocate<T>(cuda, images * now.count());
    launch(cuda, ResizeAlong<T>{from, to, old_shape.size[axis], shape.size[axis], inner},
           images * now.count());
    inner *= shape.size[axis];
    from = to;
  }
}

template <typename T>
void resize_adjoint(const Cuda& cuda, const T* grad_resized, int64_t images, Shape old_shape,
                    Shape shape, T* grad_image) {
  // The steps of resize backwards: the slowest axis first.
  Shape now = shape;
  const T* from = grad_resized;
  int64_t inner = shape.count();
  for (int axis = 0; axis < shape.dimension; ++axis) {
    inner /= shape.size[axis];
    now.size[axis] = old_shape.size[axis];
    const bool last = axis == shape.dimension - 1;
    T* to = last ? grad_image : allocate<T>(cuda, images * now.count());
    launch(cuda, ResizeAlongAdjoint<T>{from, to, old_shape.size[axis], shape.size[axis], inner},
           images * now.count());
    from = to;
  }
}

template <typename T>
void total_variation_denoise(const Cuda& cuda, const T* evidence, int64_t images, Shape shape,
                             double weight, int64_t iterations, T* primal, T* dual, T* gap) {
  const int64_t count = shape.count();
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    const auto grid = grid_of<D>(shape);
    T* ahead = allocate<T>(cuda, images * D * count);
    launch(cuda, Scale<T>{dual, ahead, T(1)}, images * D * count);
    const T step = T(1) / T(4 * D);  // 1 / |div div'|: each axis adds at most 4
    const T price = static_cast<T>(weight);
    double momentum = 1.0;
    for (int64_t k = 0; k < iterations; ++k) {
      const double following = (1.0 + std::sqrt(1.0 + 4.0 * momentum * momentum)) / 2.0;
      const T forward = static_cast<T>((momentum - 1.0) / following);
      momentum = following;
      launch(cuda, PrimalOfDual<T, D>{evidence, ahead, primal, grid}, images * count);
      launch(cuda, DualStep<T, D>{primal, dual, ahead, grid, price, step, forward}, images * count);
    }
    launch(cuda, PrimalOfDual<T, D>{evidence, dual, primal, grid}, images * count);
    launch(cuda, DualityGap<T, D>{primal, dual, ahead, grid, price}, images * count);
    sum_samples(cuda, ahead, images, count, 1.0, gap);
  });
}

#define NCR_INSTANTIATE_PIXEL(Pixel, T)                                                           \
  template void warp_nearest(const Cuda&, const Pixel*, Shape, const T*, Shape, int64_t, int64_t, \
                             Padding, Pixel*)
#define NCR_INSTANTIATE(T)                                                                      \
  template void exponential(const Cuda&, const T*, int64_t, Shape, Integration, T*, T*);        \
  template void exponential_adjoint(const Cuda&, const T*, const T*, const T*, int64_t, Shape,  \
                                    Integration, T*);                                           \
  template void warp(const Cuda&, const T*, Shape, const T*, Shape, int64_t, int64_t, Padding,  \
                     const T*, T*);                                                             \
  template void warp_adjoint(const Cuda&, const T*, Shape, const T*, Shape, const T*, int64_t,  \
                             int64_t, Padding, bool, T*, T*);                                   \
  template void warp_nearest_adjoint(const Cuda&, const T*, Shape, Shape, const T*, int64_t,    \
                                     int64_t, Padding, T*);                                     \
  template void jacobian(const Cuda&, const T*, int64_t, Shape, T*);                            \
  template void jacobian_adjoint(const Cuda&, const T*, const T*, int64_t, Shape, T*);          \
  template void box_sum(const Cuda&, const T*, int64_t, Shape, int64_t, T*);                    \
  template void resize(const Cuda&, const T*, int64_t, Shape, Shape, T*);                       \
  template void resize_adjoint(const Cuda&, const T*, int64_t, Shape, Shape, T*);               \
  template void total_variation_denoise(const Cuda&, const T*, int64_t, Shape, double, int64_t, \
                                        T*, T*, T*);                                            \
  NCR_INSTANTIATE_PIXEL(float, T);                                                              \
  NCR_INSTANTIATE_PIXEL(double, T);                                                             \
  NCR_INSTANTIATE_PIXEL(uint8_t, T);                                                            \
  NCR_INSTANTIATE_PIXEL(int16_t, T);                                                            \
  NCR_INSTANTIATE_PIXEL(int32_t, T)
NCR_INSTANTIATE(float);
NCR_INSTANTIATE(double);
#undef NCR_INSTANTIATE
#undef NCR_INSTANTIATE_PIXEL

}  // namespace ncr::cuda
