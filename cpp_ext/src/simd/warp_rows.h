#pragma once

#include "cells.h"
#include "rows.h"

/// Linear interpolation of planar images and its adjoints; see rows.h. The corners of cells come
/// into the lanes of vectors: by plain loads where cells follow one another, by pairs (x, x + 1)
/// where they do not.

#if defined(NCR_VECTORS)

namespace ncr::cpu::NCR_VARIANT {

/// Both ends of L edges of cells.
template <int L>
NCR_HD void load_ends(const float* image, const int32_t* offset, const bool* together,
                      Floats<L> (&ends)[2]) {
  if constexpr (L > kGroup) {
    Floats<L / 2> low[2], high[2];
    load_ends<L / 2>(image, offset, together, low);
    load_ends<L / 2>(image, offset + L / 2, together + 1, high);
    for (int end = 0; end < 2; ++end) ends[end] = join(low[end], high[end]);
  } else if (*together) {
    for (int end = 0; end < 2; ++end) ends[end] = load<L>(image + offset[0] + end);
  } else {
    const auto even = load_pairs(image, offset[0], offset[1], offset[4], offset[5]);
    const auto odd = load_pairs(image, offset[2], offset[3], offset[6], offset[7]);
    ends[0] = quads<0, 2, 4, 6>(even, odd);
    ends[1] = quads<1, 3, 5, 7>(even, odd);
  }
}

/// The values of one channel at L cells and, if wanted, their derivatives along the axes.
template <int D, bool kDerive, int L = kWide>
NCR_HD Floats<L> sample_cells(const float* image, const CornerStrides<D>& s, const Cells<D>& cells,
                              int64_t i, Floats<L> (&slope)[D]) {
  Floats<L> w[D];
  for (int axis = 0; axis < D; ++axis) w[axis] = load<L>(cells.weight[axis] + i);
  Floats<L> line[2][D - 1], rise[2][D - 1];  // along x, by plane and row
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < D - 1; ++l) {
      Floats<L> ends[2];
      load_ends<L>(image + p * s.outer + l * s.inner, cells.offset + i, cells.together + i / kGroup,
                   ends);
      rise[p][l] = ends[1] - ends[0];
      line[p][l] = ends[0] + w[D - 1] * rise[p][l];
    }
  }
  Floats<L> plane[2], rise_in_plane[2];
  for (int p = 0; p < 2; ++p) {
    plane[p] = line[p][0];
    rise_in_plane[p] = rise[p][0];
    if constexpr (D == 3) {
      plane[p] = lerp(line[p][0], line[p][1], w[1]);
      rise_in_plane[p] = lerp(rise[p][0], rise[p][1], w[1]);
    }
  }
  const auto across = plane[1] - plane[0];
  if constexpr (kDerive) {
    slope[0] = across;
    if constexpr (D == 3) slope[1] = lerp(line[0][1] - line[0][0], line[1][1] - line[1][0], w[0]);
    slope[D - 1] = lerp(rise_in_plane[0], rise_in_plane[1], w[0]);
  }
  return plane[0] + w[0] * across;
}

/// How far ahead displacements are asked for, in voxels: with several planes of them read and
/// written side by side the processor falls behind.
constexpr int64_t kAhead = 256;

/// Runs body(base, n) for every piece of the rows, after its first pass; body(.., z) too: where the
/// cells lie along the slowest axis.
template <int D, class Task, class Note, class Body>
NCR_HD void for_each_piece(const Task& task, const float* image, int64_t begin, int64_t end,
                           bool with_inside, const Note& note, Cells<D>& cells, const Body& body) {
  const Bounds<D> bounds(task.size_in);
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t length = task.size_out[D - 1], count = voxels<D>(task.size_out);
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<D> at(row, task.size_out);
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      const auto read = [&](int64_t i, Floats<kWide>(&u)[D]) NCR_LAMBDA {
        for (int axis = 0; axis < D; ++axis) {
          const float* here = task.displacement + axis * count + base + i;
          u[axis] = load_some<kWide>(here, n - i);
          fetch(here + kAhead);
        }
      };
      const auto note_cells = [&](int64_t i, const Located<D>& l) NCR_LAMBDA {
        note(i, l);
        if (image == nullptr) return;
        for (int64_t k = i; k < i + kWide; k += 4) fetch_cell<D>(image + cells.offset[k], strides);
      };
      const int64_t foremost =
          find_cells<D>(at, start, n, 1, bounds, with_inside, read, note_cells, cells);
      if (image != nullptr) fetch_ahead<D>(image, 1, task.size_in, at, foremost, start, n);
      body(base, n);
    }
  }
}

template <int D>
void warp_rows(const WarpRows& task, int64_t begin, int64_t end) {
  constexpr int L = kWide;
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D> cells;
  const auto nothing = [](int64_t, const Located<D>&) NCR_LAMBDA {};
  const auto body = [&](int64_t base, int64_t n) NCR_LAMBDA {
    for (int64_t c = 0; c < task.channels; ++c) {
      const float* image = task.image + c * count_in;
      const int64_t out = c * count_out + base;
      for (int64_t i = 0; i < n; i += L) {
        Floats<L> unused[D];
        auto value = sample_cells<D, false>(image, strides, cells, i, unused);
        if (task.addend != nullptr) value = value + load_some<L>(task.addend + out + i, n - i);
        store_some(task.moved + out + i, value, n - i);
      }
    }
  };
  for_each_piece<D>(task, task.image, begin, end, false, nothing, cells, body);
}

template <int D>
void warp_rows_adjoint(const WarpRowsAdjoint& task, int64_t begin, int64_t end) {
  constexpr int L = kWide;
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D> cells;
  const auto nothing = [](int64_t, const Located<D>&) NCR_LAMBDA {};
  const auto body = [&](int64_t base, int64_t n) NCR_LAMBDA {
    for (int64_t i = 0; i < n; i += L) {
      Floats<L> sum[D], slope[D];
      for (int axis = 0; axis < D; ++axis) sum[axis] = all<L>(0.0f);
      for (int64_t c = 0; c < task.channels; ++c) {
        sample_cells<D, true>(task.image + c * count_in, strides, cells, i, slope);
        const auto g = load_some<L>(task.grad_moved + c * count_out + base + i, n - i);
        for (int axis = 0; axis < D; ++axis) sum[axis] = sum[axis] + slope[axis] * g;
      }
      for (int axis = 0; axis < D; ++axis) {
        const int64_t out = axis * count_out + base + i;
        sum[axis] = select(load<L>(cells.inside[axis] + i), sum[axis], all<L>(0.0f));
        if (task.identity) sum[axis] = sum[axis] + load_some<L>(task.grad_moved + out, n - i);
        store_some(task.grad_displacement + out, sum[axis], n - i);
      }
    }
  };
  for_each_piece<D>(task, task.image, begin, end, true, nothing, cells, body);
}

/// What a group of voxels gives to both ends of their edges; where cells follow one another all but
/// the last far end is added here, and the rest is left in `pairs` for add_pairs.
NCR_HD void give_to_ends(Float8 line, Float8 weight, bool together, float* to, float* pairs) {
  const auto far = line * weight;
  auto near = line - far;
  if (together) {
    const auto zero = all<8>(0.0f);
    store(to, load<8>(to) + (near + window<7>(zero, far)));
    near = zero;
  }
  const auto low = quads<0, 4, 1, 5>(near, far), high = quads<2, 6, 3, 7>(near, far);
  store(pairs, join(low_half(low), low_half(high)));
  store(pairs + 8, join(high_half(low), high_half(high)));
}

template <int D>
void warp_rows_scatter(const WarpRowsScatter& task, int64_t begin, int64_t end) {
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_out = voxels<D>(task.size_out);
  const auto plane = all<kWide>(static_cast<int32_t>(voxels<D>(task.size_in) / task.size_in[0]));
  const auto above = all<kWide>(task.size_in[0] > 1 ? 1 : 0);
  const auto first = all<kWide>(static_cast<int32_t>(task.first));
  const auto planes = all<kWide>(static_cast<int32_t>(task.end - task.first));
  constexpr int kLines = 2 * (D - 1);
  Cells<D> cells;
  alignas(64) int32_t to[2][kSegment];
  alignas(64) float ends[kLines][2 * kSegment];  // what a voxel gives to both ends of an edge
  const auto note = [&](int64_t i, const Located<D>& l) NCR_LAMBDA {
    const auto in_plane = l.offset - l.index[0] * plane;
    auto z = l.index[0] - first;
    for (int p = 0; p < 2; ++p) {
      // Planes of other owners are replaced by the unused plane behind the own ones.
      const auto owned = (z > all<kWide>(-1)) & (z < planes);
      store(to[p] + i, select(owned, z, planes) * plane + in_plane);
      z = z + above;
    }
  };
  const auto body = [&](int64_t base, int64_t n) NCR_LAMBDA {
    for (int64_t c = 0; c < task.channels; ++c) {
      float* grad = task.grad + c * task.stride;
      for (int64_t i = 0; i < n; i += kGroup) {
        const bool together = cells.together[i / kGroup];
        const auto last = load<8>(cells.weight[D - 1] + i);
        const auto g = load_some<8>(task.grad_moved + c * count_out + base + i, n - i);
        const auto upper = g * load<8>(cells.weight[0] + i);
        const Float8 by_plane[2] = {g - upper, upper};
        for (int p = 0; p < 2; ++p) {
          float* cell = grad + to[p][i];
          float* pairs = ends[(D - 1) * p] + 2 * i;
          if constexpr (D == 3) {
            const auto far = by_plane[p] * load<8>(cells.weight[1] + i);
            give_to_ends(by_plane[p] - far, last, together, cell, pairs);
            give_to_ends(far, last, together, cell + strides.inner, pairs + 2 * kSegment);
          } else {
            give_to_ends(by_plane[p], last, together, cell, pairs);
          }
        }
      }
      // Every fourth voxel, then the next ones: a load that spans two recent stores waits until
      // both are in the cache, and neighbours share an end.
      for (int64_t phase = 0; phase < 4; ++phase) {
        for (int64_t k = phase; k < n; k += 4) {
          if (cells.together[k / kGroup] && k % kGroup != kGroup - 1) continue;
          for (int line = 0; line < kLines; ++line) {
            float* cell = grad + to[line / (D - 1)][k] + line % (D - 1) * strides.inner;
            add_two(cell, ends[line] + 2 * k);
          }
        }
      }
    }
  };
  for_each_piece<D>(task, nullptr, begin, end, false, note, cells, body);
}

}  // namespace ncr::cpu::NCR_VARIANT

#endif
