#pragma once

#include "ncr/platform.h"

namespace ncr {

/// Sizes of the spatial axes, slowest first: (z, y, x) or (y, x).
template <int D>
struct Grid {
  int64_t size[D];

  NCR_HD int64_t count() const {
    int64_t product = 1;
    for (int axis = 0; axis < D; ++axis) product *= size[axis];
    return product;
  }

  /// Distance in memory between neighbours along an axis.
  NCR_HD int64_t stride(int axis) const {
    int64_t product = 1;
    for (int a = axis + 1; a < D; ++a) product *= size[a];
    return product;
  }

  NCR_HD void coordinates(int64_t index, int64_t (&at)[D]) const {
    for (int axis = D - 1; axis >= 0; --axis) {
      at[axis] = index % size[axis];
      index /= size[axis];
    }
  }
};

}  // namespace ncr
