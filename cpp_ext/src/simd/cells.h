#pragma once

#include "vector.h"

/// Which cells of a grid the voxels of a row look at: the first of two passes over a piece of a
/// row. In one loop every voxel would wait for its own address.

#if defined(NCR_VECTORS)

namespace ncr::cpu::NCR_VARIANT {

/// Rows are taken in pieces whose positions fit the first-level cache.
constexpr int64_t kSegment = 256;
/// Voxels whose cells are asked whether they follow one another.
constexpr int64_t kGroup = 8;
/// Voxels of one step of the first pass.
constexpr int kWide = kRegister > 8 ? kRegister : 8;

template <int D>
NCR_HD int64_t voxels(const int64_t* size) {
  int64_t count = 1;
  for (int axis = 0; axis < D; ++axis) count *= size[axis];
  return count;
}

/// Strides of a cell's corners in floats; 0 along axes of one voxel.
template <int D>
struct CornerStrides {
  int64_t outer, inner;  ///< 3D: z and y; 2D: y and none

  NCR_HD CornerStrides(const int64_t* size, int64_t width) {
    outer = size[0] > 1 ? voxels<D - 1>(size + 1) * width : 0;
    inner = D == 3 && size[1] > 1 ? size[D - 1] * width : 0;
  }
};

/// Coordinates of a row: (z, y) or (y).
template <int D>
struct RowAt {
  int64_t at[D - 1];

  NCR_HD RowAt(int64_t row, const int64_t* size) {
    at[0] = D == 3 ? row / size[1] : row;
    if constexpr (D == 3) at[1] = row % size[1];
  }
};

/// The limits of positions on a grid, once per call.
template <int D>
struct Bounds {
  Floats<kWide> last[D];  ///< n - 1
  Ints<kWide> limit[D];   ///< largest lower index, max(n - 2, 0)
  Ints<kWide> size[D];

  explicit NCR_HD Bounds(const int64_t* sizes) {
    for (int axis = 0; axis < D; ++axis) {
      const int32_t n = static_cast<int32_t>(sizes[axis]);
      last[axis] = all<kWide>(static_cast<float>(n - 1));
      limit[axis] = all<kWide>(n > 1 ? n - 2 : 0);
      size[axis] = all<kWide>(n);
    }
  }
};

/// Lower corners of cells, weights of the upper ones.
template <int D>
struct Located {
  Ints<kWide> index[D];
  Ints<kWide> offset;  ///< in voxels
  Floats<kWide> weight[D];
};

/// Operands of min and max are ordered such that NaN passes into the weight; its index becomes 0.
template <int D>
NCR_HD Located<D> locate(const Floats<kWide> (&position)[D], const Bounds<D>& bounds) {
  Located<D> l;
  for (int axis = 0; axis < D; ++axis) {
    const auto clamped = min(bounds.last[axis], max(all<kWide>(0.0f), position[axis]));
    l.index[axis] = max(min(truncate(clamped), bounds.limit[axis]), all<kWide>(0));
    l.weight[axis] = clamped - to_float(l.index[axis]);
    l.offset = axis == 0 ? l.index[0] : l.offset * bounds.size[axis] + l.index[axis];
  }
  return l;
}

/// What the first pass leaves for the second.
template <int D>
struct Cells {
  alignas(64) int32_t offset[kSegment];  ///< in floats
  alignas(64) float weight[D][kSegment];
  alignas(64) int32_t inside[D][kSegment];  ///< masks: 0 < position < n - 1, elsewhere the border
                                            ///< repeats
  bool together[kSegment / kGroup];         ///< the group's cells follow one another
};

/// For each eight of the voxels from i on: whether their cells, `width` floats wide, follow one
/// another and all belong to the n voxels of the piece.
template <int L>
NCR_HD void note_together(int64_t i, int64_t n, const Ints<L>& offset, int32_t width,
                          bool* together) {
  if constexpr (L > kGroup) {
    note_together(i, n, low_half(offset), width, together);
    note_together(i + L / 2, n, high_half(offset), width, together);
  } else {
    const auto expected = all<L>(first(offset)) + counting<L>(width);
    together[i / kGroup] = i + kGroup <= n && !any(offset != expected);
  }
}

/// Fills `cells` for voxels start to start + n of a row; read(i, u) brings the vectors of kWide
/// voxels, and note(i, located) may keep more. Returns the foremost plane.
template <int D, class Read, class Note>
NCR_HD int64_t find_cells(const RowAt<D>& row, int64_t start, int64_t n, int32_t width,
                          const Bounds<D>& bounds, bool with_inside, const Read& read,
                          const Note& note, Cells<D>& cells) {
  auto foremost = all<kWide>(0);
  for (int64_t i = 0; i < n; i += kWide) {
    Floats<kWide> u[D], position[D];
    read(i, u);
    for (int axis = 0; axis < D - 1; ++axis) {
      position[axis] = u[axis] + all<kWide>(static_cast<float>(row.at[axis]));
    }
    position[D - 1] =
        u[D - 1] + to_float(all<kWide>(static_cast<int32_t>(start + i)) + counting<kWide>());
    const auto l = locate<D>(position, bounds);
    foremost = max(foremost, l.index[0]);
    const auto offset = l.offset * all<kWide>(width);
    store(cells.offset + i, offset);
    for (int axis = 0; axis < D; ++axis) {
      store(cells.weight[axis] + i, l.weight[axis]);
      if (!with_inside) continue;
      const auto inside =
          (position[axis] > all<kWide>(0.0f)) & (position[axis] < bounds.last[axis]);
      store(cells.inside[axis] + i, inside);
    }
    note_together(i, n, offset, width, cells.together);
    note(i, l);
  }
  return largest(foremost);
}

template <int D>
NCR_HD void fetch_cell(const float* cell, const CornerStrides<D>& s) {
  fetch(cell);
  fetch(cell + s.outer);
  if constexpr (D == 3) {
    fetch(cell + s.inner);
    fetch(cell + s.outer + s.inner);
  }
}

/// Asks for a piece of the row at which later rows will look: the next planes but one in front of
/// the foremost cell of this piece. The processor foresees runs along a row, not the step to new
/// planes; asking first halved the time of fields that do not fit the second-level cache.
template <int D>
NCR_HD void fetch_ahead(const float* values, int64_t width, const int64_t* size, const RowAt<D>& at,
                        int64_t foremost, int64_t start, int64_t n) {
  const int64_t plane = foremost + 2, length = size[D - 1];
  if (plane >= size[0] || start >= length) return;
  const int64_t row =
      D == 3 ? plane * size[1] + (at.at[D - 2] < size[D - 2] ? at.at[D - 2] : 0) : plane;
  const int64_t end = start + n < length ? start + n : length;
  const float* last = values + width * (row * length + end);
  for (const float* p = values + width * (row * length + start); p < last; p += 16) fetch_far(p);
}

}  // namespace ncr::cpu::NCR_VARIANT

#endif
