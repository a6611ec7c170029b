#include "ncr/warp.h"

#include <limits>
#include <type_traits>

#include "dispatch.h"
#include "ncr/warp_mse.h"
#include "owned.h"
#include "workspace.h"

namespace ncr::cpu {

template <typename T>
void warp(Cpu cpu, const T* image, Shape in, const T* displacement, Shape out, int64_t samples,
          int64_t channels, Padding padding, const T* addend, T* moved) {
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const Warp<T, D> kernel{image,    displacement,   addend,
                            moved,    grid_of<D>(in), grid_of<D>(out),
                            channels, padding.fill,   static_cast<T>(padding.value)};
    launch(cpu, kernel, samples * out.count());
  });
}

template <typename T>
void warp_adjoint(Cpu cpu, const T* image, Shape in, const T* displacement, Shape out,
                  const T* grad_moved, int64_t samples, int64_t channels, Padding padding,
                  bool identity, T* grad_displacement, T* grad_image) {
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const auto grid_in = grid_of<D>(in), grid_out = grid_of<D>(out);
    if (grad_displacement != nullptr) {
      const WarpAdjoint<T, D, AddNothing> kernel{
          image,   displacement, grad_moved, grad_displacement, {},
          grid_in, grid_out,     channels,   padding.fill,      identity};
      launch(cpu, kernel, samples * out.count());
    }
    if (grad_image == nullptr) return;
    const int64_t count_in = in.count(), count_out = out.count();
    std::fill_n(grad_image, samples * channels * count_in, T(0));
    for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
      const T* u = displacement + n * D * count_out;
      scatter(inner, u, grid_in, grid_out, grad_image + n * channels * count_in,
              [&](AddOwned<T> add) {
                return WarpAdjoint<T, D, AddOwned<T>>{image + n * channels * count_in,
                                                      u,
                                                      grad_moved + n * channels * count_out,
                                                      nullptr,
                                                      add,
                                                      grid_in,
                                                      grid_out,
                                                      channels,
                                                      padding.fill,
                                                      false};
              });
    });
  });
}

template <typename Pixel, typename T>
void warp_nearest(Cpu cpu, const Pixel* image, Shape in, const T* displacement, Shape out,
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
    launch(cpu, kernel, samples * out.count());
  });
}

template <typename T>
void warp_nearest_adjoint(Cpu cpu, const T* displacement, Shape in, Shape out, const T* grad_moved,
                          int64_t samples, int64_t channels, Padding padding, T* grad_image) {
  const int64_t count_in = in.count(), count_out = out.count();
  std::fill_n(grad_image, samples * channels * count_in, T(0));
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const auto grid_in = grid_of<D>(in), grid_out = grid_of<D>(out);
    // One channel is one thread's: rarely wanted, so simple.
    launch(
        cpu,
        [&](int64_t nc) {
          const int64_t n = nc / channels;
          for (int64_t voxel = 0; voxel < count_out; ++voxel) {
            T position[D];
            position_of(displacement, grid_out, n, voxel, position);
            if (padding.fill && outside(position, grid_in)) continue;
            int64_t offset = 0;
            for (int axis = 0; axis < D; ++axis) {
              offset = offset * grid_in.size[axis] +
                       WarpNearest<T, T, D>::nearest(position[axis], grid_in.size[axis]);
            }
            grad_image[nc * count_in + offset] += grad_moved[nc * count_out + voxel];
          }
        },
        samples * channels, 1);
  });
}

template <typename T>
void warp_mse(Cpu cpu, const T* image, Shape in, const T* displacement, Shape out, const T* fixed,
              const T* weight, int64_t samples, int64_t channels, T* distances,
              T* grad_displacement) {
  const int64_t count = out.count();
  const double share = 1.0 / static_cast<double>(count * channels);
  const Workspace space(sizeof(T) * static_cast<size_t>(samples * count));
  T* per_voxel = space.as<T>();
  with_dimension(out, [&](auto dimension) {
    constexpr int D = dimension;
    const WarpSquaredDistance<T, D> kernel{image,
                                           displacement,
                                           fixed,
                                           weight,
                                           static_cast<T*>(per_voxel),
                                           grad_displacement,
                                           grid_of<D>(in),
                                           grid_of<D>(out),
                                           channels,
                                           static_cast<T>(share)};
    launch(cpu, kernel, samples * count);
  });
  for (int64_t n = 0; n < samples; ++n) {
    double sum = 0;
    for (int64_t i = n * count; i < (n + 1) * count; ++i) sum += static_cast<double>(per_voxel[i]);
    distances[n] = static_cast<T>(sum * share);
  }
}

#define NCR_INSTANTIATE(T)                                                                         \
  template void warp(Cpu, const T*, Shape, const T*, Shape, int64_t, int64_t, Padding, const T*,   \
                     T*);                                                                          \
  template void warp_adjoint(Cpu, const T*, Shape, const T*, Shape, const T*, int64_t, int64_t,    \
                             Padding, bool, T*, T*);                                               \
  template void warp_nearest_adjoint(Cpu, const T*, Shape, Shape, const T*, int64_t, int64_t,      \
                                     Padding, T*);                                                 \
  template void warp_mse(Cpu, const T*, Shape, const T*, Shape, const T*, const T*, int64_t,       \
                         int64_t, T*, T*);                                                         \
  template void warp_nearest(Cpu, const float*, Shape, const T*, Shape, int64_t, int64_t, Padding, \
                             float*);                                                              \
  template void warp_nearest(Cpu, const double*, Shape, const T*, Shape, int64_t, int64_t,         \
                             Padding, double*);                                                    \
  template void warp_nearest(Cpu, const uint8_t*, Shape, const T*, Shape, int64_t, int64_t,        \
                             Padding, uint8_t*);                                                   \
  template void warp_nearest(Cpu, const int16_t*, Shape, const T*, Shape, int64_t, int64_t,        \
                             Padding, int16_t*);                                                   \
  template void warp_nearest(Cpu, const int32_t*, Shape, const T*, Shape, int64_t, int64_t,        \
                             Padding, int32_t*)
NCR_INSTANTIATE(float);
NCR_INSTANTIATE(double);
#undef NCR_INSTANTIATE

}  // namespace ncr::cpu
