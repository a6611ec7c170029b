#include "ncr/warp.h"

#include <cstring>
#include <limits>
#include <type_traits>

#include "dispatch.h"
#include "ncr/workspace.h"
#include "owned.h"
#include "simd/rows.h"

namespace ncr::cpu {
namespace {

/// Whether the vector rows can do it: floats, 32-bit offsets, rows of at least eight voxels. They
/// repeat borders.
template <typename T>
const Rows* rows_for(Shape in, Shape out) {
  if (!std::is_same_v<T, float>) return nullptr;
  const int last = in.dimension - 1;
  const bool fits = in.count() < (int64_t{1} << 30) && in.size[last] >= kShortestRow &&
                    out.size[last] >= kShortestRow;
  return fits && rows().warp[0] != nullptr ? &rows() : nullptr;
}

template <class Task>
Task task_for(Shape in, Shape out, int64_t channels) {
  Task task{};
  for (int axis = 0; axis < in.dimension; ++axis) {
    task.size_in[axis] = in.size[axis];
    task.size_out[axis] = out.size[axis];
  }
  task.channels = channels;
  return task;
}

/// Behind rows->warp, which repeats the border: `value` where rows [begin, end) look outside.
template <int D>
void fill_outside(const WarpRows& task, float value, int64_t begin, int64_t end) {
  Grid<D> in, out;
  std::copy_n(task.size_in, D, in.size);
  std::copy_n(task.size_out, D, out.size);
  const int64_t width = out.size[D - 1], count = out.count();
  for (int64_t row = begin; row < end; ++row) {
    int64_t at[D];
    out.coordinates(row * width, at);
    for (int64_t x = 0; x < width; ++x) {
      const int64_t voxel = row * width + x;
      at[D - 1] = x;
      float position[D];
      for (int axis = 0; axis < D; ++axis) {
        position[axis] = static_cast<float>(at[axis]) + task.displacement[axis * count + voxel];
      }
      if (!outside(position, in)) continue;
      for (int64_t c = 0; c < task.channels; ++c) {
        const int64_t i = c * count + voxel;
        task.moved[i] = task.addend == nullptr ? value : value + task.addend[i];
      }
    }
  }
}

/// The gradient to one sample's image by vector rows. Of several owners each adds into memory of
/// its own, then writes its planes.
template <int D>
void scatter_rows(Cpu cpu, const Rows& rows, const float* displacement, Shape in, Shape out,
                  const float* grad_moved, int64_t channels, float* grad_image) {
  const int64_t count_in = in.count(), plane = count_in / in.size[0];
  const int64_t rows_per_plane = out.count() / out.size[0] / out.size[D - 1];
  auto task = task_for<WarpRowsScatter>(in, out, channels);
  task.displacement = displacement;
  task.grad_moved = grad_moved;
  if (slabs_for(cpu, in.size[0]) == 1) {
    std::fill_n(grad_image, channels * count_in, 0.0f);
    task.grad = grad_image;
    task.stride = count_in;
    task.first = 0;
    task.end = in.size[0];
    rows.warp_scatter[D - 2](task, 0, out.size[0] * rows_per_plane);
    return;
  }
  const auto reach = reaches(cpu, displacement, grid_of<D>(in), grid_of<D>(out));
  for_each_slab(cpu, in.size[0], [&](int64_t first, int64_t end) {
    auto own_task = task;
    const int64_t own = (end - first) * plane, room = own + plane;
    const size_t bytes = sizeof(float) * static_cast<size_t>(channels * room + in.size[D - 1] + 16);
    const Workspace space(bytes);
    std::memset(space.as<float>(), 0, bytes);
    own_task.grad = space.as<float>();
    own_task.stride = room;
    own_task.first = first;
    own_task.end = end;
    for (int64_t p = 0; p < out.size[0]; ++p) {
      const auto& r = reach[static_cast<size_t>(p)];
      if (r.last < first || r.first >= end) continue;
      rows.warp_scatter[D - 2](own_task, p * rows_per_plane, (p + 1) * rows_per_plane);
    }
    for (int64_t c = 0; c < channels; ++c) {
      std::copy_n(own_task.grad + c * room, own, grad_image + c * count_in + first * plane);
    }
  });
}

}  // namespace

template <typename T>
void warp(Cpu cpu, const T* image, Shape in, const T* displacement, Shape out, int64_t samples,
          int64_t channels, Padding padding, const T* addend, T* moved) {
  if constexpr (std::is_same_v<T, float>) {
    if (const Rows* rows = rows_for<T>(in, out)) {
      for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
        auto task = task_for<WarpRows>(in, out, channels);
        task.image = image + n * channels * in.count();
        task.displacement = displacement + n * out.dimension * out.count();
        task.addend = addend == nullptr ? nullptr : addend + n * channels * out.count();
        task.moved = moved + n * channels * out.count();
        rows_in_parts(inner, out, [&](int64_t begin, int64_t end) {
          rows->warp[out.dimension - 2](task, begin, end);
          if (!padding.fill) return;
          with_dimension(out, [&](auto dimension) {
            fill_outside<dimension>(task, static_cast<float>(padding.value), begin, end);
          });
        });
      });
      return;
    }
  }
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
  if constexpr (std::is_same_v<T, float>) {
    if (const Rows* rows = padding.fill ? nullptr : rows_for<T>(in, out)) {
      const int D = out.dimension;
      for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
        auto task = task_for<WarpRowsAdjoint>(in, out, channels);
        task.image = image + n * channels * in.count();
        task.displacement = displacement + n * D * out.count();
        task.grad_moved = grad_moved + n * channels * out.count();
        task.identity = identity;
        if (grad_displacement != nullptr) {
          task.grad_displacement = grad_displacement + n * D * out.count();
          rows_in_parts(inner, out, [&](int64_t begin, int64_t end) {
            rows->warp_adjoint[D - 2](task, begin, end);
          });
        }
        if (grad_image == nullptr) return;
        with_dimension(out, [&](auto dimension) {
          scatter_rows<dimension>(inner, *rows, task.displacement, in, out, task.grad_moved,
                                  channels, grad_image + n * channels * in.count());
        });
      });
      return;
    }
  }
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
    for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
      const T* u = displacement + n * D * count_out;
      scatter(inner, u, grid_in, grid_out, grad_image + n * channels * count_in,
              [&](AddOwned<T> add) {
                return WarpNearestAdjoint<T, D, AddOwned<T>>{
                    u,           grad_moved + n * channels * count_out,
                    add,         grid_in,
                    grid_out,    channels,
                    padding.fill};
              });
    });
  });
}

#define NCR_INSTANTIATE(T)                                                                         \
  template void warp(Cpu, const T*, Shape, const T*, Shape, int64_t, int64_t, Padding, const T*,   \
                     T*);                                                                          \
  template void warp_adjoint(Cpu, const T*, Shape, const T*, Shape, const T*, int64_t, int64_t,    \
                             Padding, bool, T*, T*);                                               \
  template void warp_nearest_adjoint(Cpu, const T*, Shape, Shape, const T*, int64_t, int64_t,      \
                                     Padding, T*);                                                 \
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
