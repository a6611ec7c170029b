#pragma once

#include "cells.h"
#include "layout.h"
#include "rows.h"

/// One squaring of an exponential in 3D and its adjoint on interleaved vectors; see rows.h. A field
/// has three floats per voxel, so that eight floats bring both ends of a cell's edge; a gradient
/// has an aligned four.

#if defined(NCR_VECTORS)

namespace ncr::cpu::NCR_VARIANT {

/// Eight weights, each three times.
NCR_HD void spread(const float* weight, Float8 (&out)[3]) {
  const auto w = load<8>(weight);
  out[0] = permute<0, 0, 0, 1, 1, 1, 2, 2>(w);
  out[1] = permute<2, 3, 3, 3, 4, 4, 4, 5>(w);
  out[2] = permute<5, 5, 6, 6, 6, 7, 7, 7>(w);
}

/// Eight floats of a field, interpolated along z and y, and their derivatives.
struct Edges {
  Float8 value, along_z, along_y;
};

NCR_HD Edges edges(const float* cell, const CornerStrides<3>& s, const Float8& wz,
                   const Float8& wy) {
  const auto a = load<8>(cell), c = load<8>(cell + s.outer);
  const auto near_y = load<8>(cell + s.inner) - a;
  const auto far_y = load<8>(cell + s.outer + s.inner) - c;
  const auto near = a + wy * near_y, far = c + wy * far_y;
  const auto along_z = far - near;
  return {near + wz * along_z, along_z, lerp(near_y, far_y, wz)};
}

/// Weights of a group of voxels along z, y, x, each three times.
struct GroupWeights {
  Float8 along[3][3];

  NCR_HD GroupWeights(const Cells<3>& cells, int64_t i) {
    for (int axis = 0; axis < 3; ++axis) spread(cells.weight[axis] + i, along[axis]);
  }
};

/// Positions of the cells of a piece of row `at`.
template <class Note>
NCR_HD int64_t find_cells_3d(const float* field, const RowAt<3>& at, int64_t start, int64_t n,
                             const Bounds<3>& bounds, bool with_inside, const Note& note,
                             Cells<3>& cells) {
  const auto read = [&](int64_t i, Floats<kWide>(&u)[3])
                        NCR_LAMBDA { read_vectors<kWide>(field + 3 * i, u); };
  return find_cells<3>(at, start, n, 3, bounds, with_inside, read, note, cells);
}

inline void square_rows_3d(const SquareRows& task, int64_t begin, int64_t end) {
  const Bounds<3> bounds(task.size);
  const CornerStrides<3> strides(task.size, 3);
  const int64_t length = task.size[2], count = voxels<3>(task.size);
  Cells<3> cells;
  alignas(64) float result[3 * kSegment + 8];
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<3> at(row, task.size);
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      const float* here = task.field + 3 * base;
      const auto note = [&](int64_t i, const Located<3>&) NCR_LAMBDA {
        for (int64_t k = i; k < i + kWide; k += 4) {
          fetch_cell<3>(task.field + cells.offset[k], strides);
        }
      };
      const int64_t foremost = find_cells_3d(here, at, start, n, bounds, false, note, cells);
      fetch_ahead<3>(task.field, 3, task.size, at, foremost, start, n);
      float* out = task.squared != nullptr ? task.squared + 3 * base : result;
      for (int64_t i = 0; i < n; i += kGroup) {
        if (cells.together[i / kGroup]) {
          const GroupWeights w(cells, i);
          const float* cell = task.field + cells.offset[i];
          for (int j = 0; j < 3; ++j) {
            const auto near = edges(cell + 8 * j, strides, w.along[0][j], w.along[1][j]);
            const auto far = edges(cell + 8 * j + 3, strides, w.along[0][j], w.along[1][j]);
            const float* u = here + 3 * i + 8 * j;
            store(out + 3 * i + 8 * j, load<8>(u) + lerp(near.value, far.value, w.along[2][j]));
          }
          continue;
        }
        const int64_t stop = i + kGroup < n ? i + kGroup : n;
        for (int64_t k = i; k < stop; ++k) {
          const auto edge = edges(task.field + cells.offset[k], strides, all<8>(cells.weight[0][k]),
                                  all<8>(cells.weight[1][k]));
          const auto moved =
              lerp(low_half(edge.value), four_of<3>(edge.value), all<4>(cells.weight[2][k]));
          const auto sum = load<4>(here + 3 * k) + moved;
          if (k < n - 1) {
            store(out + 3 * k, sum);  // The next voxel overwrites the fourth.
          } else {
            store_some(out + 3 * k, sum, 3);
          }
        }
      }
      if (task.planes != nullptr) write_planes<3>(out, n, task.planes + base, count);
    }
  }
}

/// What the first pass leaves for the adjoint.
struct CellsAdjoint {
  Cells<3> cells;
  alignas(64) int32_t lower[kSegment];  ///< where to add, in floats of the gradient: the lower
  alignas(64) int32_t upper[kSegment];  ///< and the upper plane of the cell, or nowhere
};

NCR_HD void add_four(float* to, const Float4& values) {
  store(to, load<4>(to) + values);
}

/// dL/du in place for eight voxels whose cells follow one another; `cell` is that of the first.
NCR_HD void in_place_together(const float* cell, const CornerStrides<3>& s, const Cells<3>& cells,
                              int64_t i, const float* grad_here, float* grad) {
  const GroupWeights w(cells, i);
  Float8 g[3], slope[3][3];  // slope[axis][j]: derivatives, interleaved
  from_fours(grad_here, g);
  for (int j = 0; j < 3; ++j) {
    const auto near = edges(cell + 8 * j, s, w.along[0][j], w.along[1][j]);
    const auto far = edges(cell + 8 * j + 3, s, w.along[0][j], w.along[1][j]);
    slope[0][j] = lerp(near.along_z, far.along_z, w.along[2][j]);
    slope[1][j] = lerp(near.along_y, far.along_y, w.along[2][j]);
    slope[2][j] = far.value - near.value;
  }
  Float8 result[3], out[4];
  for (int axis = 0; axis < 3; ++axis) {
    Float8 by[3];
    deinterleave(slope[axis], by);
    result[axis] = by[0] * g[0];
    for (int c = 1; c < 3; ++c) result[axis] = result[axis] + by[c] * g[c];
    result[axis] = select(load<8>(cells.inside[axis] + i), result[axis], all<8>(0.0f));
  }
  to_fours(result, out);
  for (int j = 0; j < 4; ++j) store(grad + 8 * j, load<8>(grad + 8 * j) + out[j]);
}

/// dL/du in place for one voxel.
NCR_HD Float4 in_place_one(const float* cell, const CornerStrides<3>& s, const Cells<3>& cells,
                           int64_t i, const Float4& g) {
  // Lanes 0-2 are the vector at x, 3-5 the one at x + 1; 6 and 7 must not count.
  constexpr float kSigns[8] = {-1, -1, -1, 1, 1, 1, 0, 0}, kNear[8] = {1, 1, 1};
  const auto both = permute<0, 1, 2, 0, 1, 2, 3, 3>(g), signs = load<8>(kSigns);
  const auto g_edge = both * signs;
  const auto g_mix = both * (load<8>(kNear) + all<8>(cells.weight[2][i]) * signs);
  const auto e = edges(cell, s, all<8>(cells.weight[0][i]), all<8>(cells.weight[1][i]));
  const auto fold = [](const Float8& v) NCR_LAMBDA { return low_half(v) + high_half(v); };
  const auto z = fold(e.along_z * g_mix), y = fold(e.along_y * g_mix), x = fold(e.value * g_edge);
  const auto zy = quads<0, 4, 1, 5>(z, y) + quads<2, 6, 3, 7>(z, y);  // z02 y02 z13 y13
  const auto xx = x + quads<2, 3, 2, 3>(x);                           // x02 x13 . .
  const auto found = quads<0, 1, 4, 4>(zy, xx) + quads<2, 3, 5, 5>(zy, xx);
  const Ints<4> inside = {{cells.inside[0][i], cells.inside[1][i], cells.inside[2][i], 0}};
  return select(inside, found, all<4>(0.0f));
}

/// The parts of g for the corners of a cell: [plane][inner row][end].
NCR_HD void shares(const Cells<3>& cells, int64_t i, const Float4& g, Float4 (&part)[2][2][2]) {
  const auto w = [&](int axis) NCR_LAMBDA { return all<4>(cells.weight[axis][i]); };
  const auto upper = g * w(0);
  const Float4 plane[2] = {g - upper, upper};
  for (int p = 0; p < 2; ++p) {
    const auto far = plane[p] * w(1);
    const Float4 line[2] = {plane[p] - far, far};
    for (int l = 0; l < 2; ++l) {
      part[p][l][1] = line[l] * w(2);
      part[p][l][0] = line[l] - part[p][l][1];
    }
  }
}

/// Adds the shares of eight voxels whose cells follow one another. What one gives to x + 1 and the
/// next to x meets in a register.
NCR_HD void give_together(const CellsAdjoint& piece, int64_t i, const float* grad_here, float* grad,
                          int64_t inner) {
  float* to[2] = {grad + piece.lower[i], grad + piece.upper[i]};
  Float4 carry[2][2], part[2][2][2];
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < 2; ++l) carry[p][l] = all<4>(0.0f);
  }
  for (int64_t k = 0; k < kGroup; ++k) {
    shares(piece.cells, i + k, load<4>(grad_here + 4 * (i + k)), part);
    for (int p = 0; p < 2; ++p) {
      for (int l = 0; l < 2; ++l) {
        add_four(to[p] + l * inner + 4 * k, carry[p][l] + part[p][l][0]);
        carry[p][l] = part[p][l][1];
      }
    }
  }
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < 2; ++l) add_four(to[p] + l * inner + 4 * kGroup, carry[p][l]);
  }
}

NCR_HD void give_one(const CellsAdjoint& piece, int64_t k, const Float4& g, float* grad,
                     int64_t inner) {
  Float4 part[2][2][2];
  shares(piece.cells, k, g, part);
  float* to[2] = {grad + piece.lower[k], grad + piece.upper[k]};
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < 2; ++l) {
      add_four(to[p] + l * inner, part[p][l][0]);
      add_four(to[p] + l * inner + 4, part[p][l][1]);
    }
  }
}

/// A voxel p with incoming gradient g gives dL/du[p] += (derivative of u at p + u[p])^T g, written
/// in place, and adds weight * g to the corners of its cell. The identity part, g itself, is in
/// `grad` before.
inline void square_rows_adjoint_3d(const SquareRowsAdjoint& task, int64_t begin, int64_t end) {
  const Bounds<3> bounds(task.size);
  const CornerStrides<3> strides(task.size, 3), grad_strides(task.size, 4);
  const int64_t length = task.size[2], inner = grad_strides.inner;
  const auto first = all<kWide>(static_cast<int32_t>(task.first));
  const auto end_plane = all<kWide>(static_cast<int32_t>(task.end));
  const auto nowhere = all<kWide>(static_cast<int32_t>(task.nowhere));
  const auto above = all<kWide>(task.size[0] > 1 ? 1 : 0);
  const auto outer = all<kWide>(static_cast<int32_t>(grad_strides.outer));
  CellsAdjoint piece;
  Cells<3>& cells = piece.cells;
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<3> at(row, task.size);
    const bool own = at.at[0] >= task.first && at.at[0] < task.end;
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      const float* grad_here = task.grad_squared + 4 * base;
      float* grad_own = task.grad + 4 * base;
      const auto note = [&](int64_t i, const Located<3>& l) NCR_LAMBDA {
        // Planes of other owners are added to an unused place.
        const auto four = all<kWide>(4), to = l.offset * four;
        const auto away = nowhere + l.index[2] * four;
        const auto if_owned = [&](const auto& plane, const auto& place) NCR_LAMBDA {
          return select((plane < first) | (plane > end_plane - all<kWide>(1)), away, place);
        };
        store(piece.lower + i, if_owned(l.index[0], to));
        store(piece.upper + i, if_owned(l.index[0] + above, to + outer));
        for (int64_t k = i; k < i + kWide; k += 4) {
          if (own) fetch_cell<3>(task.field + cells.offset[k], strides);
          for (const int32_t place : {piece.lower[k], piece.upper[k]}) {
            fetch(task.grad + place);
            fetch(task.grad + place + inner);
          }
        }
      };
      const int64_t foremost =
          find_cells_3d(task.field + 3 * base, at, start, n, bounds, true, note, cells);
      if (own) fetch_ahead<3>(task.field, 3, task.size, at, foremost, start, n);
      for (int64_t i = 0; i < n; i += kGroup) {
        if (cells.together[i / kGroup]) {
          if (own) {
            in_place_together(task.field + cells.offset[i], strides, cells, i, grad_here + 4 * i,
                              grad_own + 4 * i);
          }
          give_together(piece, i, grad_here, task.grad, inner);
          continue;
        }
        const int64_t stop = i + kGroup < n ? i + kGroup : n;
        for (int64_t k = i; k < stop; ++k) {
          const auto g = load<4>(grad_here + 4 * k);
          if (own) {
            add_four(grad_own + 4 * k,
                     in_place_one(task.field + cells.offset[k], strides, cells, k, g));
          }
          give_one(piece, k, g, task.grad, inner);
        }
      }
    }
  }
}

}  // namespace ncr::cpu::NCR_VARIANT

#endif
