#include "ncr/total_variation.h"

#include <cmath>

#include "dispatch.h"
#include "ncr/workspace.h"
#include "simd/rows.h"

namespace ncr::cpu {

template <typename T>
void total_variation_denoise(Cpu cpu, const T* evidence, int64_t images, Shape shape, double weight,
                             int64_t iterations, T* primal, T* dual, T* gap) {
  const int64_t count = shape.count();
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    const auto grid = grid_of<D>(shape);
    const Workspace space(sizeof(T) * static_cast<size_t>(images * D * count));
    T* ahead = space.as<T>();
    std::copy_n(dual, images * D * count, ahead);
    const T step = T(1) / T(4 * D);  // 1 / |div div'|: each axis adds at most 4
    double momentum = 1.0;
    for (int64_t k = 0; k < iterations; ++k) {
      const double following = (1.0 + std::sqrt(1.0 + 4.0 * momentum * momentum)) / 2.0;
      const T forward = static_cast<T>((momentum - 1.0) / following);
      momentum = following;
      const auto& loops = plain<T>(rows());
      for (int64_t n = 0; n < images; ++n) {
        const auto for_each_row = [&](const auto& body) {
          rows_in_parts(cpu, shape, [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) body(row);
          });
        };
        for_each_row([&](int64_t row) {
          loops.primal_row[D - 2](evidence + n * count, ahead + n * D * count, primal + n * count,
                                  shape.size, row);
        });
        for_each_row([&](int64_t row) {
          loops.dual_row[D - 2](primal + n * count, dual + n * D * count, ahead + n * D * count,
                                shape.size, row, static_cast<T>(weight), step, forward);
        });
      }
    }
    launch(cpu, PrimalOfDual<T, D>{evidence, dual, primal, grid}, images * count);
    launch(cpu, DualityGap<T, D>{primal, dual, ahead, grid, static_cast<T>(weight)},
           images * count);
    for (int64_t n = 0; n < images; ++n) {
      double sum = 0;
      for (int64_t i = n * count; i < (n + 1) * count; ++i) sum += static_cast<double>(ahead[i]);
      gap[n] = static_cast<T>(sum);
    }
  });
}

#define NCR_INSTANTIATE(T) \
  template void total_variation_denoise(Cpu, const T*, int64_t, Shape, double, int64_t, T*, T*, T*)
NCR_INSTANTIATE(float);
NCR_INSTANTIATE(double);
#undef NCR_INSTANTIATE

}  // namespace ncr::cpu
