#pragma once

#include "ncr/grid.h"

namespace ncr {

/// The difference along one axis: central inside, one-sided at the rim, 0 on an axis of one voxel.
template <typename T>
struct Difference {
  int64_t behind, ahead;  ///< steps along the axis, <= 0 and >= 0
  T factor;
};

template <typename T>
NCR_HD Difference<T> difference(int64_t at, int64_t size) {
  const int64_t behind = at > 0 ? -1 : 0, ahead = at < size - 1 ? 1 : 0;
  const int64_t span = ahead - behind;
  return {behind, ahead, span == 2 ? T(0.5) : span == 1 ? T(1) : T(0)};
}

/// Derivative of x + u(x) at one voxel, matrix[component][axis].
template <typename T, int D>
NCR_HD void derivative(const T* displacement, const Grid<D>& grid, const int64_t (&at)[D],
                       T (&matrix)[D][D]) {
  const int64_t count = grid.count();
  int64_t voxel = 0;
  for (int axis = 0; axis < D; ++axis) voxel = voxel * grid.size[axis] + at[axis];
  for (int axis = 0; axis < D; ++axis) {
    const auto d = difference<T>(at[axis], grid.size[axis]);
    const int64_t stride = grid.stride(axis);
    for (int c = 0; c < D; ++c) {
      const T* here = displacement + c * count + voxel;
      matrix[c][axis] = d.factor * (here[d.ahead * stride] - here[d.behind * stride]);
      if (c == axis) matrix[c][axis] += T(1);
    }
  }
}

/// d(det)/d(matrix[row][column]).
template <typename T>
NCR_HD T cofactor(const T (&m)[2][2], int row, int column) {
  const T other = m[1 - row][1 - column];
  return row == column ? other : -other;
}

template <typename T>
NCR_HD T cofactor(const T (&m)[3][3], int row, int column) {
  const int a = (row + 1) % 3, b = (row + 2) % 3, c = (column + 1) % 3, d = (column + 2) % 3;
  return m[a][c] * m[b][d] - m[a][d] * m[b][c];
}

template <typename T, int D>
NCR_HD T determinant(const T (&m)[D][D]) {
  T sum = T(0);
  for (int column = 0; column < D; ++column) sum += m[0][column] * cofactor(m, 0, column);
  return sum;
}

/// det D(id + u), one value per voxel of the batch.
template <typename T, int D>
struct Jacobian {
  const T* displacement;  ///< (N, D, grid)
  T* result;              ///< (N, 1, grid)
  Grid<D> grid;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count = grid.count();
    int64_t at[D];
    grid.coordinates(i % count, at);
    T matrix[D][D];
    derivative(displacement + i / count * D * count, grid, at, matrix);
    result[i] = determinant(matrix);
  }
};

/// Adjoint of Jacobian, gathered: every voxel asks the neighbours whose differences it is in.
template <typename T, int D>
struct JacobianAdjoint {
  const T* displacement;  ///< (N, D, grid)
  const T* grad_result;   ///< (N, 1, grid)
  T* grad_displacement;   ///< (N, D, grid)
  Grid<D> grid;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count = grid.count(), n = i / count, voxel = i % count;
    int64_t at[D];
    grid.coordinates(voxel, at);
    T sum[D] = {};
    for (int axis = 0; axis < D; ++axis) {
      for (int64_t step = -1; step <= 1; ++step) {
        const int64_t there = at[axis] + step;
        if (there < 0 || there >= grid.size[axis]) continue;
        const auto d = difference<T>(there, grid.size[axis]);
        // How this voxel enters the difference of that neighbour.
        const T part =
            d.factor * (T(there + d.ahead == at[axis]) - T(there + d.behind == at[axis]));
        if (part == T(0)) continue;
        int64_t neighbour[D];
        for (int a = 0; a < D; ++a) neighbour[a] = a == axis ? there : at[a];
        T matrix[D][D];
        derivative(displacement + n * D * count, grid, neighbour, matrix);
        const T incoming = part * grad_result[n * count + voxel + step * grid.stride(axis)];
        for (int c = 0; c < D; ++c) sum[c] += incoming * cofactor(matrix, c, axis);
      }
    }
    for (int c = 0; c < D; ++c) grad_displacement[(n * D + c) * count + voxel] = sum[c];
  }
};

}  // namespace ncr
