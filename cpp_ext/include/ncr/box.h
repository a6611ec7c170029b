#pragma once

#include "ncr/platform.h"

namespace ncr {

/// Sums over 2r + 1 voxels along one axis, cut off at both ends; its own adjoint. Direct sums, not
/// running ones: nothing is subtracted, so that a window of zeros sums to exactly zero.
template <typename T>
struct BoxSumAlong {
  const T* image;  ///< (outer, size, inner)
  T* sums;         ///< (outer, size, inner)
  int64_t size, inner, radius;

  NCR_HD void operator()(int64_t i) const {
    const int64_t at = i / inner % size;
    const int64_t first = at > radius ? at - radius : 0;
    const int64_t last = at + radius < size - 1 ? at + radius : size - 1;
    T sum = T(0);
    for (int64_t j = first; j <= last; ++j) sum += image[i + (j - at) * inner];
    sums[i] = sum;
  }
};

}  // namespace ncr
