#include "ncr/local_ncc.h"

#include <cstring>

#include "box.h"
#include "dispatch.h"
#include "ncr/workspace.h"

namespace ncr::cpu {
namespace {

/// For every plane: its kCount product images by make(n, z, products), summed in the plane.
template <int kCount, typename T, class Make>
void box_products(Cpu cpu, const PlainRows<T>& rows, const Planes& planes, int64_t samples,
                  int64_t radius, const Make& make, T* in_planes) {
  launch(
      cpu,
      [&](int64_t unit) {
        const int64_t n = unit / planes.count, z = unit % planes.count;
        const int64_t room = box_scratch(planes.height, planes.length, radius);
        const Workspace scratch(sizeof(T) * static_cast<size_t>(kCount * planes.size() + room));
        T* products = scratch.as<T>();
        make(n, z, products);
        for (int k = 0; k < kCount; ++k) {
          const T* product = products + k * planes.size();
          const auto fill = [&](int64_t y, T* to) {
            std::memcpy(to, product + y * planes.length,
                        sizeof(T) * static_cast<size_t>(planes.length));
          };
          box_plane(rows, planes.height, planes.length, radius, fill,
                    products + kCount * planes.size(),
                    in_planes + ((n * kCount + k) * planes.count + z) * planes.size());
        }
      },
      samples * planes.count, 1);
}

}  // namespace

template <typename T>
void local_ncc(Cpu cpu, const T* moved, const T* fixed, const T* weight, int64_t samples,
               Shape shape, int64_t radius, T eps, T* map, T* sums) {
  const int64_t count = shape.count();
  constexpr int kCount = LocalProducts<T>::kCount;
  if (const Rows* r = rows()) {
    const auto& row_kernels = plain<T>(*r);
    const Planes planes(shape);
    const Workspace space(sizeof(T) * static_cast<size_t>(samples * kCount * count));
    const auto first_half = [&](int64_t n, int64_t z, T* products) {
      const int64_t at = n * count + z * planes.size();
      row_kernels.local_products(moved + at, fixed + at, weight + at, products, planes.size(),
                                 planes.size());
    };
    box_products<kCount>(cpu, row_kernels, planes, samples, radius, first_half, space.as<T>());
    launch(
        cpu,
        [&](int64_t unit) {
          const int64_t n = unit / planes.count, z = unit % planes.count;
          for (int64_t y = 0; y < planes.height; ++y) {
            const int64_t at = z * planes.size() + y * planes.length;
            T* here = sums + n * kCount * count + at;
            for (int k = 0; k < kCount; ++k) {
              sum_along_z(row_kernels, planes, radius, space.as<T>() + (n * kCount + k) * count, z,
                          y, here + k * count);
            }
            row_kernels.local_ncc(here, count, eps, map + n * count + at, planes.length);
          }
        },
        samples * planes.count, 1);
    return;
  }
  const Workspace space(sizeof(T) * static_cast<size_t>(samples * kCount * count));
  T* products = space.as<T>();
  launch(cpu, LocalProducts<T>{moved, fixed, weight, products, count}, samples * count);
  box_sum<T>(cpu, products, samples * kCount, shape, radius, sums);
  launch(cpu, LocalNcc<T>{sums, map, count, eps}, samples * count);
}

template <typename T>
void local_ncc_adjoint(Cpu cpu, const T* moved, const T* fixed, const T* weight, const T* sums,
                       const T* grad_map, int64_t samples, Shape shape, int64_t radius, T eps,
                       T* grad_moved) {
  const int64_t count = shape.count();
  if (const Rows* r = rows()) {
    const auto& row_kernels = plain<T>(*r);
    const Planes planes(shape);
    const Workspace space(sizeof(T) * static_cast<size_t>(samples * 3 * count));
    const auto first_half = [&](int64_t n, int64_t z, T* slopes) {
      const int64_t at = z * planes.size();
      row_kernels.local_ncc_slopes(sums + n * 6 * count + at, count, grad_map + n * count + at, eps,
                                   slopes, planes.size(), planes.size());
    };
    box_products<3>(cpu, row_kernels, planes, samples, radius, first_half, space.as<T>());
    launch(
        cpu,
        [&](int64_t unit) {
          const int64_t n = unit / planes.count, z = unit % planes.count;
          const Workspace scratch(sizeof(T) * static_cast<size_t>(3 * planes.length));
          T* here = scratch.as<T>();
          for (int64_t y = 0; y < planes.height; ++y) {
            for (int k = 0; k < 3; ++k) {
              sum_along_z(row_kernels, planes, radius, space.as<T>() + (n * 3 + k) * count, z, y,
                          here + k * planes.length);
            }
            const int64_t at = n * count + z * planes.size() + y * planes.length;
            row_kernels.local_ncc_adjoint(moved + at, fixed + at, weight + at, here, planes.length,
                                          grad_moved + at, planes.length);
          }
        },
        samples * planes.count, 1);
    return;
  }
  const Workspace space(sizeof(T) * static_cast<size_t>(2 * samples * 3 * count));
  T* slopes = space.as<T>();
  T* slope_sums = slopes + samples * 3 * count;
  launch(cpu, LocalNccSlopes<T>{sums, grad_map, slopes, count, eps}, samples * count);
  box_sum<T>(cpu, slopes, samples * 3, shape, radius, slope_sums);
  launch(cpu, LocalNccAdjoint<T>{moved, fixed, weight, slope_sums, grad_moved, count},
         samples * count);
}

#define NCR_INSTANTIATE(T)                                                                        \
  template void local_ncc(Cpu, const T*, const T*, const T*, int64_t, Shape, int64_t, T, T*, T*); \
  template void local_ncc_adjoint(Cpu, const T*, const T*, const T*, const T*, const T*, int64_t, \
                                  Shape, int64_t, T, T*)
NCR_INSTANTIATE(float);
NCR_INSTANTIATE(double);
#undef NCR_INSTANTIATE

}  // namespace ncr::cpu
