#pragma once

#include "dispatch.h"
#include "ncr/workspace.h"
#include "simd/rows.h"

namespace ncr::cpu {

/// Window sums within one plane: along x, then along y. `fill(row, to)` provides a row.
template <typename T, class Fill>
void box_plane(const PlainRows<T>& rows, int64_t height, int64_t length, int64_t radius,
               const Fill& fill, T* scratch, T* sums) {
  // scratch: one row with margins of zeros, then the plane summed along x.
  T* margin = scratch;
  T* along_x = scratch + length + 2 * radius;
  std::fill_n(margin, length + 2 * radius, T(0));
  for (int64_t y = 0; y < height; ++y) {
    fill(y, margin + radius);
    rows.sum_rows(margin, 1, 2 * radius + 1, along_x + y * length, length);
  }
  for (int64_t y = 0; y < height; ++y) {
    const int64_t first = std::max<int64_t>(0, y - radius);
    const int64_t last = std::min(height - 1, y + radius);
    rows.sum_rows(along_x + first * length, length, last - first + 1, sums + y * length, length);
  }
}

inline int64_t box_scratch(int64_t height, int64_t length, int64_t radius) {
  return height * length + length + 2 * radius;
}

/// Height and length of the planes that box_plane sums; a 2D image is one plane.
struct Planes {
  int64_t count, height, length;

  explicit Planes(const Shape& shape)
      : count(shape.dimension == 3 ? shape.size[0] : 1),
        height(shape.size[shape.dimension - 2]),
        length(shape.size[shape.dimension - 1]) {}

  int64_t size() const { return height * length; }
};

/// One row of the sums along z of planes that are summed already.
template <typename T>
void sum_along_z(const PlainRows<T>& rows, const Planes& planes, int64_t radius, const T* volume,
                 int64_t z, int64_t y, T* out) {
  const int64_t first = std::max<int64_t>(0, z - radius);
  const int64_t last = std::min(planes.count - 1, z + radius);
  rows.sum_rows(volume + first * planes.size() + y * planes.length, planes.size(), last - first + 1,
                out, planes.length);
}

}  // namespace ncr::cpu
