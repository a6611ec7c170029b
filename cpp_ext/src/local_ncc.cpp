#include "ncr/local_ncc.h"

#include "dispatch.h"
#include "ncr/workspace.h"

namespace ncr::cpu {

template <typename T>
void local_ncc(Cpu cpu, const T* moved, const T* fixed, const T* weight, int64_t samples,
               Shape shape, int64_t radius, T eps, T* map, T* sums) {
  const int64_t count = shape.count();
  constexpr int kCount = LocalProducts<T>::kCount;
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
