#pragma once

#include "ncr/warp.h"

namespace ncr {

/// weight * |image(p + u[p]) - fixed[p]|^2 per voxel, summed over channels, and the gradient of its
/// sum to u: warp, distance and derivative in one pass.
template <typename T, int D>
struct WarpSquaredDistance {
  const T* image;         ///< (N, C, grid_in)
  const T* displacement;  ///< (N, D, grid_out)
  const T* fixed;         ///< (N, C, grid_out)
  const T* weight;        ///< (N, 1, grid_out) or null
  T* distance;            ///< (N, 1, grid_out)
  T* grad_displacement;   ///< (N, D, grid_out) or null; times `scale`
  Grid<D> grid_in, grid_out;
  int64_t channels;
  T scale;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count_in = grid_in.count(), count_out = grid_out.count();
    const int64_t n = i / count_out, voxel = i % count_out;
    T position[D], grad_position[D] = {};
    position_of(displacement, grid_out, n, voxel, position);
    const Cell<T, D> cell(position, grid_in);
    const T factor = weight != nullptr ? weight[i] : T(1);
    T sum = T(0);
    for (int64_t c = n * channels; c < (n + 1) * channels; ++c) {
      const T residual = sample(image + c * count_in, cell) - fixed[c * count_out + voxel];
      sum += residual * residual;
      sample_adjoint(
          image + c * count_in, cell, T(2) * factor * residual, [](int64_t, T) {}, grad_position);
    }
    distance[i] = factor * sum;
    if (grad_displacement == nullptr) return;
    for (int axis = 0; axis < D; ++axis) {
      grad_displacement[(n * D + axis) * count_out + voxel] = scale * grad_position[axis];
    }
  }
};

}  // namespace ncr
