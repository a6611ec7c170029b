#pragma once

#include "ncr/platform.h"

namespace ncr {

/// The products whose window sums make a local correlation: w, wf, wm, wff, wmm, wfm.
template <typename T>
struct LocalProducts {
  static constexpr int kCount = 6;
  const T *moved, *fixed, *weight;  ///< (N, 1, grid)
  T* products;                      ///< (N, 6, grid)
  int64_t count;                    ///< voxels of a sample

  NCR_HD void operator()(int64_t i) const {
    T* here = products + i / count * kCount * count + i % count;
    const T w = weight[i], f = fixed[i], m = moved[i];
    here[0] = w;
    here[count] = w * f;
    here[2 * count] = w * m;
    here[3 * count] = w * f * f;
    here[4 * count] = w * m * m;
    here[5 * count] = w * f * m;
  }
};

/// Squared correlation of one window from its six sums, and what its derivative needs.
///
/// cc = s_fm^2 / (s_ff s_mm + eps). A change dm at voxel x inside the window changes cc by
/// w(x) (slope_f f(x) + slope_m m(x) + constant) dm.
template <typename T>
struct LocalCorrelation {
  T value, slope_f, slope_m, constant;
};

template <typename T>
NCR_HD LocalCorrelation<T> local_correlation(const T (&sums)[6], T eps) {
  if (!(sums[0] > T(0))) return {T(0), T(0), T(0), T(0)};
  const T share = T(1) / sums[0];
  const T mean_f = sums[1] * share, mean_m = sums[2] * share;
  const T cross = sums[5] * share - mean_f * mean_m;
  const T raw_f = sums[3] * share - mean_f * mean_f, raw_m = sums[4] * share - mean_m * mean_m;
  // Rounding can make the variance of a flat window negative.
  const T variance_f = raw_f > T(0) ? raw_f : T(0), variance_m = raw_m > T(0) ? raw_m : T(0);
  const T scale = T(1) / (variance_f * variance_m + eps);
  const T value = cross * cross * scale;
  // d(cross)/dm(x) = w (f - mean_f) / n and d(variance_m)/dm(x) = 2 w (m - mean_m) / n.
  const T by_cross = T(2) * cross * scale * share;
  const T by_variance = raw_m > T(0) ? T(-2) * value * variance_f * scale * share : T(0);
  return {value, by_cross, by_variance, -by_cross * mean_f - by_variance * mean_m};
}

/// The map of squared correlations from the window sums.
template <typename T>
struct LocalNcc {
  const T* sums;  ///< (N, 6, grid)
  T* map;         ///< (N, 1, grid)
  int64_t count;
  T eps;

  NCR_HD void operator()(int64_t i) const {
    T here[6];
    for (int k = 0; k < 6; ++k) here[k] = sums[(i / count * 6 + k) * count + i % count];
    map[i] = local_correlation(here, eps).value;
  }
};

/// First half of the adjoint: per window grad_map times (slope_f, slope_m, constant). Their window
/// sums A, B, C then give grad_moved = w (A f + B m + C).
template <typename T>
struct LocalNccSlopes {
  const T* sums;      ///< (N, 6, grid)
  const T* grad_map;  ///< (N, 1, grid)
  T* slopes;          ///< (N, 3, grid)
  int64_t count;
  T eps;

  NCR_HD void operator()(int64_t i) const {
    T here[6];
    for (int k = 0; k < 6; ++k) here[k] = sums[(i / count * 6 + k) * count + i % count];
    const auto cc = local_correlation(here, eps);
    T* out = slopes + i / count * 3 * count + i % count;
    out[0] = grad_map[i] * cc.slope_f;
    out[count] = grad_map[i] * cc.slope_m;
    out[2 * count] = grad_map[i] * cc.constant;
  }
};

/// Second half of the adjoint, after the window sums.
template <typename T>
struct LocalNccAdjoint {
  const T *moved, *fixed, *weight;  ///< (N, 1, grid)
  const T* slope_sums;              ///< (N, 3, grid)
  T* grad_moved;                    ///< (N, 1, grid)
  int64_t count;

  NCR_HD void operator()(int64_t i) const {
    const T* s = slope_sums + i / count * 3 * count + i % count;
    grad_moved[i] = weight[i] * (s[0] * fixed[i] + s[count] * moved[i] + s[2 * count]);
  }
};

}  // namespace ncr
