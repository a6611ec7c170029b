#pragma once

#include "ncr/platform.h"

namespace ncr {

/// Where voxel `at` of `size` lies on an axis of `old_size` voxels, when the centres of the first
/// and of the last voxel coincide. In double, whatever the type of the values.
struct Between {
  int64_t lower, upper;
  double weight_upper;
};

NCR_HD Between between(int64_t at, int64_t size, int64_t old_size) {
  const double scale =
      size > 1 ? static_cast<double>(old_size - 1) / static_cast<double>(size - 1) : 0.0;
  const double position = static_cast<double>(at) * scale;
  int64_t lower = static_cast<int64_t>(position);
  if (lower > old_size - 2) lower = old_size > 1 ? old_size - 2 : 0;
  return {lower, old_size > 1 ? lower + 1 : 0, position - static_cast<double>(lower)};
}

/// Linear interpolation along one axis.
template <typename T>
struct ResizeAlong {
  const T* image;  ///< (outer, old_size, inner)
  T* resized;      ///< (outer, size, inner)
  int64_t old_size, size, inner;

  NCR_HD void operator()(int64_t i) const {
    const auto b = between(i / inner % size, size, old_size);
    const T* line = image + i / (inner * size) * old_size * inner + i % inner;
    const T weight = static_cast<T>(b.weight_upper);
    resized[i] = line[b.lower * inner] * (T(1) - weight) + line[b.upper * inner] * weight;
  }
};

/// Adjoint of ResizeAlong, gathered: an old voxel sums what the new ones took from it.
template <typename T>
struct ResizeAlongAdjoint {
  const T* grad_resized;  ///< (outer, size, inner)
  T* grad_image;          ///< (outer, old_size, inner)
  int64_t old_size, size, inner;

  NCR_HD void operator()(int64_t i) const {
    const int64_t at = i / inner % old_size;
    const T* line = grad_resized + i / (inner * old_size) * size * inner + i % inner;
    int64_t first, last;
    takers(at, &first, &last);
    T sum = T(0);
    for (int64_t j = first; j <= last; ++j) {
      const auto b = between(j, size, old_size);
      const T weight = static_cast<T>(b.weight_upper);
      if (b.lower == at) sum += (T(1) - weight) * line[j * inner];
      if (b.upper == at) sum += weight * line[j * inner];
    }
    grad_image[i] = sum;
  }

  /// A range of new voxels that holds all which touch old voxel `at`.
  NCR_HD void takers(int64_t at, int64_t* first, int64_t* last) const {
    *first = 0;
    *last = size - 1;
    if (old_size < 2 || size < 2) return;
    const double stretch = static_cast<double>(size - 1) / static_cast<double>(old_size - 1);
    const int64_t begin = static_cast<int64_t>(static_cast<double>(at - 1) * stretch) - 1;
    const int64_t end = static_cast<int64_t>(static_cast<double>(at + 1) * stretch) + 1;
    if (begin > *first) *first = begin;
    if (end < *last) *last = end;
  }
};

}  // namespace ncr
