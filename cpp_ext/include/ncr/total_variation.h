#pragma once

#include "ncr/grid.h"

namespace ncr {

/// Divergence of a dual field at a voxel: minus the adjoint of forward differences, whose last
/// difference on every axis is 0 (so the last dual value of an axis never counts).
template <typename T, int D>
NCR_HD T divergence(const T* dual, const Grid<D>& grid, const int64_t (&at)[D], int64_t voxel) {
  const int64_t count = grid.count();
  T sum = T(0);
  for (int axis = 0; axis < D; ++axis) {
    const T* here = dual + axis * count + voxel;
    if (at[axis] < grid.size[axis] - 1) sum += here[0];
    if (at[axis] > 0) sum -= here[-grid.stride(axis)];
  }
  return sum;
}

/// u = g + div p.
template <typename T, int D>
struct PrimalOfDual {
  const T* evidence;  ///< (N, grid)
  const T* dual;      ///< (N, D, grid)
  T* primal;          ///< (N, grid)
  Grid<D> grid;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count = grid.count(), voxel = i % count;
    int64_t at[D];
    grid.coordinates(voxel, at);
    primal[i] = evidence[i] + divergence(dual + i / count * D * count, grid, at, voxel);
  }
};

/// Forward differences at a voxel, 0 at the end of an axis.
template <typename T, int D>
NCR_HD void forward_differences(const T* values, const Grid<D>& grid, const int64_t (&at)[D],
                                int64_t voxel, T (&slope)[D]) {
  for (int axis = 0; axis < D; ++axis) {
    slope[axis] =
        at[axis] < grid.size[axis] - 1 ? values[voxel + grid.stride(axis)] - values[voxel] : T(0);
  }
}

/// One projected-gradient step on the dual and the FISTA extrapolation:
/// p' = P(q + step grad u), q' = p' + momentum (p' - p), P onto [-weight, weight] per axis: the
/// dual of the anisotropic total variation, the one whose level sets are exact minimisers.
template <typename T, int D>
struct DualStep {
  const T* primal;  ///< (N, grid), of q
  T* dual;          ///< (N, D, grid): p, then p'
  T* ahead;         ///< (N, D, grid): q, then q'
  Grid<D> grid;
  T weight, step, momentum;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count = grid.count(), voxel = i % count, n = i / count;
    int64_t at[D];
    grid.coordinates(voxel, at);
    T slope[D];
    forward_differences(primal + n * count, grid, at, voxel, slope);
    for (int axis = 0; axis < D; ++axis) {
      const int64_t own = (n * D + axis) * count + voxel;
      const T moved = ahead[own] + step * slope[axis];
      const T least = moved < -weight ? -weight : moved;
      const T advanced = least > weight ? weight : least;
      ahead[own] = advanced + momentum * (advanced - dual[own]);
      dual[own] = advanced;
    }
  }
};

/// What each voxel adds to the duality gap: weight |grad u|_1 - <grad u, p>, never negative.
template <typename T, int D>
struct DualityGap {
  const T* primal;  ///< (N, grid)
  const T* dual;    ///< (N, D, grid)
  T* gap;           ///< (N, grid)
  Grid<D> grid;
  T weight;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count = grid.count(), voxel = i % count, n = i / count;
    int64_t at[D];
    grid.coordinates(voxel, at);
    T slope[D];
    forward_differences(primal + n * count, grid, at, voxel, slope);
    T rise = T(0), inner = T(0);
    for (int axis = 0; axis < D; ++axis) {
      rise += slope[axis] < T(0) ? -slope[axis] : slope[axis];
      inner += slope[axis] * dual[(n * D + axis) * count + voxel];
    }
    gap[i] = weight * rise - inner;
  }
};

}  // namespace ncr
