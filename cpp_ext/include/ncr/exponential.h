#pragma once

#include "ncr/warp.h"

namespace ncr {

/// The first field of scaling and squaring: field = factor * velocity, factor = sign / 2^K.
template <typename T>
struct Scale {
  const T* velocity;
  T* field;
  T factor;

  NCR_HD void operator()(int64_t i) const { field[i] = factor * velocity[i]; }
};

/// One squaring, (id + u) o (id + u) - id: v[p] = u[p] + u(p + u[p]).
template <typename T, int D>
NCR_HD Warp<T, D> squaring(const T* field, T* squared, const Grid<D>& grid) {
  return {field, field, field, squared, grid, grid, D, false, T(0)};
}

/// The part of a squaring's adjoint that stays in place: incoming gradient and coordinates.
template <typename T, int D>
NCR_HD WarpAdjoint<T, D, AddNothing> squaring_adjoint_in_place(const T* field,
                                                               const T* grad_squared, T* grad,
                                                               const Grid<D>& grid) {
  return {field, field, grad_squared, grad, {}, grid, grid, D, false, true};
}

/// The part that goes elsewhere: every voxel adds to the 2^D voxels it had looked at.
template <typename T, int D, class Add>
NCR_HD WarpAdjoint<T, D, Add> squaring_adjoint_elsewhere(const T* field, const T* grad_squared,
                                                         Add add, const Grid<D>& grid) {
  return {field, field, grad_squared, nullptr, add, grid, grid, D, false, false};
}

}  // namespace ncr
