#pragma once

#include "ncr/grid.h"

namespace ncr {

/// The two grid points around a coordinate on one axis, and their weights.
template <typename T>
struct Neighbours {
  int64_t lower, upper;
  T weight_lower, weight_upper;
  T slope;  ///< d(weight_upper)/d(coordinate): 1 inside, 0 where the border repeats.
};

/// Coordinates beyond the first and the last voxel repeat the border; NaN gets NaN weights.
template <typename T>
NCR_HD Neighbours<T> neighbours(T coordinate, int64_t size) {
  const T last = static_cast<T>(size - 1);
  // Compared such that NaN ends at index 0.
  const T repeated = coordinate > T(0) ? (coordinate < last ? coordinate : last) : T(0);
  Neighbours<T> n;
  n.lower = static_cast<int64_t>(repeated);
  if (n.lower > size - 2) n.lower = size > 1 ? size - 2 : 0;
  n.upper = size > 1 ? n.lower + 1 : 0;
  n.weight_upper = coordinate == coordinate ? repeated - static_cast<T>(n.lower) : coordinate;
  n.weight_lower = T(1) - n.weight_upper;
  n.slope = coordinate > T(0) && coordinate < last ? T(1) : T(0);
  return n;
}

/// The 2^D grid points around a position. Bit `axis` of a corner's number says upper or lower.
template <typename T, int D>
struct Cell {
  Neighbours<T> axes[D];
  Grid<D> grid;

  NCR_HD Cell(const T (&position)[D], const Grid<D>& image_grid) : grid(image_grid) {
    for (int axis = 0; axis < D; ++axis) axes[axis] = neighbours(position[axis], grid.size[axis]);
  }

  NCR_HD int64_t offset(int corner) const {
    int64_t index = 0;
    for (int axis = 0; axis < D; ++axis) {
      index = index * grid.size[axis] +
              ((corner >> axis & 1) != 0 ? axes[axis].upper : axes[axis].lower);
    }
    return index;
  }

  /// Weight of a corner; with `skipped` an axis is left out, as its derivative needs it.
  NCR_HD T weight(int corner, int skipped = -1) const {
    T product = T(1);
    for (int axis = 0; axis < D; ++axis) {
      if (axis == skipped) continue;
      product *= (corner >> axis & 1) != 0 ? axes[axis].weight_upper : axes[axis].weight_lower;
    }
    return product;
  }
};

/// y = image(position); position in voxel.
template <typename T, int D>
NCR_HD T sample(const T* image, const Cell<T, D>& cell) {
  T sum = T(0);
  for (int corner = 0; corner < 1 << D; ++corner) {
    sum += cell.weight(corner) * image[cell.offset(corner)];
  }
  return sum;
}

/// Adjoint of sample: given dL/dy, adds dL/dimage and adds dL/dposition to grad_position.
template <typename T, int D, class Add>
NCR_HD void sample_adjoint(const T* image, const Cell<T, D>& cell, T grad_y, const Add& add,
                           T (&grad_position)[D]) {
  for (int corner = 0; corner < 1 << D; ++corner) {
    const int64_t offset = cell.offset(corner);
    add(offset, cell.weight(corner) * grad_y);
    for (int axis = 0; axis < D; ++axis) {
      const T sign = (corner >> axis & 1) != 0 ? cell.axes[axis].slope : -cell.axes[axis].slope;
      grad_position[axis] += sign * cell.weight(corner, axis) * image[offset] * grad_y;
    }
  }
}

/// ITK's rule: a position belongs to the image from half a voxel before its first centre to half a
/// voxel behind its last one. NaN is not outside: it has to show in the result.
template <typename T, int D>
NCR_HD bool outside(const T (&position)[D], const Grid<D>& grid) {
  for (int axis = 0; axis < D; ++axis) {
    if (position[axis] < T(-0.5) || position[axis] >= static_cast<T>(grid.size[axis]) - T(0.5)) {
      return true;
    }
  }
  return false;
}

}  // namespace ncr
