#pragma once

#include "cells.h"
#include "layout.h"
#include "rows.h"

/// A squaring in 2D and its adjoint; see rows.h. A vector holds kVoxels pairs (y, x), and
/// positions, indices and weights stay pairs.
///
/// Rows are taken in segments. Where nothing moves by a voxel or more, which is so everywhere in
/// the first steps, the cells of a voxel are among its eight neighbours: fixed loads and blends,
/// and no branch to guess wrong. Elsewhere cells are found and fetched one by one.

#if defined(NCR_VECTORS)

namespace ncr::cpu::NCR_VARIANT {

constexpr int64_t kShortSegment = 128;
constexpr int64_t kVoxels = kWide / 2;
using Pairs = Floats<kWide>;
using IntPairs = Ints<kWide>;

NCR_HD IntPairs pairs_of(int64_t y, int64_t x) {
  return blend<0xaaaa & ((1u << kWide) - 1)>(all<kWide>(static_cast<int32_t>(y)),
                                             all<kWide>(static_cast<int32_t>(x)));
}

/// Coordinates of the voxels of a row, from x on.
NCR_HD Pairs coordinates(int64_t row, int64_t x) {
  constexpr int32_t kSteps[16] = {0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7};
  return to_float(pairs_of(row, x) + load<kWide>(kSteps));
}

// One component of every pair, twice, and the components of every pair exchanged.
template <class V>
NCR_HD V both_y(const V& pairs) {
  return quads<0, 0, 2, 2>(pairs);
}
template <class V>
NCR_HD V both_x(const V& pairs) {
  return quads<1, 1, 3, 3>(pairs);
}
template <class V>
NCR_HD V exchanged(const V& pairs) {
  return quads<1, 0, 3, 2>(pairs);
}

NCR_HD Pairs load_voxels(const float* p, int64_t n) {
  return load_some<kWide>(p, 2 * n);
}
NCR_HD void add_voxels(float* to, const Pairs& values, int64_t n) {
  store_some(to, load_voxels(to, n) + values, 2 * n);
}

/// The vectors at the corners of cells and the weights of the upper ends.
struct Corners {
  Pairs near[2], far[2];  ///< row y, row y + 1; at x and x + 1
  Pairs wy, wx;

  NCR_HD Pairs sample() const {
    return lerp(lerp(near[0], far[0], wy), lerp(near[1], far[1], wy), wx);
  }

  /// (dL/dy, dL/dx) for the gradients g of the samples.
  NCR_HD Pairs slopes(const Pairs& g) const {
    const Pairs along[2] = {far[0] - near[0], far[1] - near[1]};
    const Pairs edge[2] = {near[0] + wy * along[0], near[1] + wy * along[1]};
    const Pairs y = lerp(along[0], along[1], wx) * g, x = (edge[1] - edge[0]) * g;
    return quads<0, 5, 2, 7>(y, x) + quads<1, 4, 3, 6>(y, x);
  }
};

/// The vectors of cells at[0], at[2], at[4], ...: both ends of one edge, kVoxels / 2 of them.
template <int L>
NCR_HD Floats<L> load_edges(const float* field, const int32_t* at) {
  if constexpr (L == 4) {
    return load<4>(field + at[0]);
  } else {
    // A cell has two lanes of `at`.
    return join(load_edges<L / 2>(field, at), load_edges<L / 2>(field, at + L / 2));
  }
}

/// Cells of voxels anywhere.
struct FreeCells {
  Pairs position, weight;
  IntPairs index, offset;  ///< offset: in floats, in both lanes of a pair
};

struct PairGrid {
  Pairs last;        ///< n - 1
  IntPairs limit;    ///< largest lower index
  IntPairs strides;  ///< in floats
  int64_t outer;     ///< floats to the next row of a cell, 0 if there is but one

  explicit NCR_HD PairGrid(const int64_t* size)
      : last(to_float(pairs_of(size[0] - 1, size[1] - 1))),
        limit(pairs_of(size[0] > 1 ? size[0] - 2 : 0, size[1] - 2)),
        strides(pairs_of(2 * size[1], 2)),
        outer(size[0] > 1 ? 2 * size[1] : 0) {}

  /// The order of operands lets NaN pass into the weight; its index becomes 0.
  NCR_HD FreeCells locate(const Pairs& position) const {
    const auto clamped = min(last, max(all<kWide>(0.0f), position));
    const auto index = max(min(truncate(clamped), limit), all<kWide>(0));
    const auto steps = index * strides;
    return {position, clamped - to_float(index), index, steps + exchanged(steps)};
  }

  NCR_HD IntPairs inside(const Pairs& position) const {
    return (position > all<kWide>(0.0f)) & (position < last);
  }

  /// `at` holds the offsets of the cells, each twice.
  NCR_HD Corners corners(const float* field, const int32_t* at, const Pairs& weight) const {
    Corners c;
    const auto ends = [&](const float* from, Pairs(&found)[2]) NCR_LAMBDA {
      const auto even = load_edges<kWide>(from, at), odd = load_edges<kWide>(from, at + 2);
      found[0] = quads<0, 1, 4, 5>(even, odd);
      found[1] = quads<2, 3, 6, 7>(even, odd);
    };
    ends(field, c.near);
    ends(field + outer, c.far);
    c.wy = both_y(weight);
    c.wx = both_x(weight);
    return c;
  }
};

/// Walks along a segment of a row in which every vector is shorter than a voxel along both axes.
class Near {
 public:
  NCR_HD Near(const float* here, int64_t row, int64_t start, const int64_t* size, const Pairs& last)
      : coordinates_(coordinates(row, start)), last_(last), left_(size[1] - start) {
    rows_[0] = row == 0 ? here : here - 2 * size[1];
    rows_[1] = here;
    rows_[2] = row == size[0] - 1 ? here : here + 2 * size[1];
    for (int r = 0; r < 3; ++r) {
      next_[r] = load<kWide>(rows_[r]);
      // There is nothing before the start of a row, and it does not count.
      here_[r] = start > 0 ? load<kWide>(rows_[r] - kWide) : next_[r];
    }
  }

  /// Whether the n vectors from `here` on are that short; NaN is not.
  static NCR_HD bool applies(const float* here, int64_t n) {
    const auto magnitude = all<kWide>(int32_t{0x7fffffff});
    auto longest = all<kWide>(int32_t{0});
    for (int64_t i = 0; i < n; i += kVoxels) {
      longest = max(longest, bits<int32_t>(load_voxels(here + 2 * i, n - i)) & magnitude);
    }
    // Bits of positive floats are ordered as the floats are, and those of NaN lie above.
    constexpr int32_t kBelowOne = 0x3f7fffff;
    return !any(longest > all<kWide>(kBelowOne));
  }

  /// On to the voxels from i on of the segment, the ones behind those of the last call.
  NCR_HD void advance(int64_t i) {
    for (int r = 0; r < 3; ++r) {
      before_[r] = here_[r];
      here_[r] = next_[r];
      next_[r] = load<kWide>(rows_[r] + 2 * i + kWide);
    }
    // What follows the end of a row may be NaN, and its weight of 0 would not hide it.
    at_end_ = left_ <= i + kVoxels;
    // Rounded as the position is: every path finds the same weights.
    moved_ = (here_[1] + coordinates_) - coordinates_;
    low_ = all<kWide>(0.0f) - coordinates_;
    high_ = last_ - coordinates_;
    coordinates_ = coordinates_ + to_float(pairs_of(0, kVoxels));
  }

  NCR_HD const Pairs& vectors() const { return here_[1]; }

  /// From the voxels to their positions, up to the border.
  NCR_HD Pairs bounded() const { return min(high_, max(low_, moved_)); }

  /// Where the border does not repeat.
  NCR_HD IntPairs inside() const { return (moved_ > low_) & (moved_ < high_); }

  NCR_HD Corners corners() const {
    const auto zero = all<kWide>(0.0f), one = all<kWide>(1.0f);
    const auto u = bounded(), y = both_y(u), x = both_x(u);
    const auto above = y < zero, before = x < zero;
    Pairs ends[3][2];
    for (int r = 0; r < 3; ++r) {
      const auto left = window<kWide - 2>(before_[r], here_[r]);
      auto right = window<2>(here_[r], next_[r]);
      if (at_end_) right = select(both_x(high_) > zero, right, here_[r]);
      ends[r][0] = select(before, left, here_[r]);
      ends[r][1] = select(before, here_[r], right);
    }
    Corners c;
    c.wy = select(above, y + one, y);
    c.wx = select(before, x + one, x);
    for (int end = 0; end < 2; ++end) {
      c.near[end] = select(above, ends[0][end], ends[1][end]);
      c.far[end] = select(above, ends[1][end], ends[2][end]);
    }
    return c;
  }

 private:
  const float* rows_[3];  ///< the row above, this one and the one below, from the segment on
  Pairs before_[3], here_[3], next_[3];
  Pairs coordinates_, moved_, last_;
  Pairs low_, high_;  ///< bounds that keep positions in the grid
  int64_t left_;      ///< voxels from the segment's start to the end of the row
  bool at_end_ = false;
};

/// The largest y of pairs.
NCR_HD int64_t foremost_row(const IntPairs& index) {
  return largest(both_y(index));
}

inline void square_rows_2d(const SquareRows& task, int64_t begin, int64_t end) {
  const PairGrid grid(task.size);
  const int64_t length = task.size[1], count = voxels<2>(task.size);
  alignas(64) float result[2 * kShortSegment];
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t start = 0; start < length; start += kShortSegment) {
      const int64_t n = length - start < kShortSegment ? length - start : kShortSegment;
      const int64_t base = row * length + start;
      const float* here = task.field + 2 * base;
      float* out = task.squared != nullptr ? task.squared + 2 * base : result;
      int64_t foremost = row;
      if (Near::applies(here, n)) {
        Near near(here, row, start, task.size, grid.last);
        for (int64_t i = 0; i < n; i += kVoxels) {
          near.advance(i);
          store_some(out + 2 * i, near.vectors() + near.corners().sample(), 2 * (n - i));
        }
      } else {
        auto indices = all<kWide>(int32_t{0});
        auto where = coordinates(row, start);
        for (int64_t i = 0; i < n; i += kVoxels) {
          const auto u = load<kWide>(here + 2 * i);
          const auto cells = grid.locate(u + where);
          where = where + to_float(pairs_of(0, kVoxels));
          indices = max(indices, cells.index);
          alignas(64) int32_t at[kWide];
          store(at, cells.offset);
          const auto moved = grid.corners(task.field, at, cells.weight).sample();
          store_some(out + 2 * i, u + moved, 2 * (n - i));
        }
        foremost = foremost_row(indices);
      }
      fetch_ahead<2>(task.field, 2, task.size, RowAt<2>(row, task.size), foremost, start, n);
      if (task.planes != nullptr) write_planes<2>(out, n, task.planes + base, count);
    }
  }
}

/// Adds the first or the last of the pairs.
template <bool kLast>
NCR_HD void add_pair(float* to, const Pairs& pairs) {
  alignas(64) float values[kWide];
  store(values, pairs);
  add_two(to, values + (kLast ? kWide - 2 : 0));
}

/// What a voxel gives to the three by three voxels around it, row by row. A row's sums wait one
/// group for what comes from its right.
struct Around {
  Pairs waiting[3], left[3], right[3], first_left[3];

  NCR_HD Around() {
    for (int r = 0; r < 3; ++r) {
      waiting[r] = left[r] = right[r] = first_left[r] = all<kWide>(0.0f);
    }
  }

  /// `u` within bounds, g the gradients, `own` what stays at the voxels themselves; adds the last
  /// group's sums to `to`, which are the places of this segment.
  NCR_HD void give(const Pairs& u, const Pairs& g, const Pairs& own, float* const (&to)[3],
                   int64_t i) {
    const auto zero = all<kWide>(0.0f);
    const auto y = both_y(u), x = both_x(u);
    const auto forward = max(x, zero), backward = max(zero - x, zero);
    const auto above = g * max(zero - y, zero), below = g * max(y, zero);
    const Pairs shares[3] = {above, g - above - below, below};
    for (int r = 0; r < 3; ++r) {
      const auto to_right = shares[r] * forward, to_left = shares[r] * backward;
      if (i > 0) {
        float* place = to[r] + 2 * i - kWide;
        store(place, load<kWide>(place) + (waiting[r] + window<2>(left[r], to_left)));
      } else {
        first_left[r] = to_left;
      }
      waiting[r] = shares[r] - to_right - to_left + window<kWide - 2>(right[r], to_right);
      if (r == 1) waiting[r] = waiting[r] + own;
      right[r] = to_right;
      left[r] = to_left;
    }
  }

  /// After the last group of n voxels; whether the row goes on before and behind them.
  NCR_HD void finish(float* const (&to)[3], int64_t n, bool before, bool behind) const {
    const int64_t last = (n - 1) / kVoxels * kVoxels;
    for (int r = 0; r < 3; ++r) {
      const auto sums = waiting[r] + window<2>(left[r], all<kWide>(0.0f));
      add_voxels(to[r] + 2 * last, sums, n - last);
      if (before) add_pair<false>(to[r] - 2, first_left[r]);
      if (behind) add_pair<true>(to[r] + 2 * n, right[r]);
    }
  }
};

/// Where a piece of a row gives to, where that is anywhere.
struct FreePiece {
  alignas(64) float bounded[2 * kShortSegment];
  alignas(64) float found[2 * kShortSegment];
  alignas(64) float weight[2 * kShortSegment];
  alignas(64) int32_t lower[2 * kShortSegment];  ///< in floats of the gradient, twice per voxel
  alignas(64) int32_t upper[2 * kShortSegment];
  /// Per plane: both ends of the even voxels of a group, then of the odd ones.
  alignas(64) float shares[2][4 * kShortSegment];
  alignas(
      64) float ends[2][4 * (kShortSegment / kVoxels)];  ///< per plane: the last two ends of runs
  int64_t runs[kShortSegment / kVoxels + 1];             ///< groups whose cells follow one another
  int64_t apart[kShortSegment / kVoxels + 1];            ///< the other groups
  int64_t run_count, apart_count;
};

/// Shares of gradients: [plane][end].
NCR_HD void shares_of(const Pairs& g, const Pairs& weight, Pairs (&share)[2][2]) {
  const auto wx = both_x(weight), upper = g * both_y(weight);
  const Pairs by_plane[2] = {g - upper, upper};
  for (int p = 0; p < 2; ++p) {
    share[p][1] = by_plane[p] * wx;
    share[p][0] = by_plane[p] - share[p][1];
  }
}

/// The last four lanes.
template <int L>
NCR_HD Float4 last_four(const Floats<L>& v) {
  if constexpr (L == 4) {
    return v;
  } else {
    return last_four(high_half(v));
  }
}

NCR_HD void add_pieces(FreePiece& piece, const float* grad_here, float* grad, int64_t n) {
  for (int64_t k = 0; k < piece.run_count; ++k) {
    const int64_t i = piece.runs[k];
    Pairs share[2][2];
    shares_of(load<kWide>(grad_here + 2 * i), load<kWide>(piece.weight + 2 * i), share);
    float* const to[2] = {grad + piece.lower[2 * i], grad + piece.upper[2 * i]};
    for (int p = 0; p < 2; ++p) {
      const auto met = share[p][0] + window<kWide - 2>(all<kWide>(0.0f), share[p][1]);
      store(to[p], load<kWide>(to[p]) + met);
      store(piece.ends[p] + 4 * k, last_four(share[p][1]));
    }
  }
  for (int64_t k = 0; k < piece.apart_count; ++k) {
    const int64_t i = piece.apart[k];
    Pairs share[2][2];
    shares_of(load_voxels(grad_here + 2 * i, n - i), load<kWide>(piece.weight + 2 * i), share);
    for (int p = 0; p < 2; ++p) {
      store(piece.shares[p] + 4 * i, quads<0, 1, 4, 5>(share[p][0], share[p][1]));
      store(piece.shares[p] + 4 * i + kWide, quads<2, 3, 6, 7>(share[p][0], share[p][1]));
    }
  }
  for (int64_t k = 0; k < piece.run_count; ++k) {
    add_two(grad + piece.lower[2 * piece.runs[k]] + kWide, piece.ends[0] + 4 * k + 2);
    add_two(grad + piece.upper[2 * piece.runs[k]] + kWide, piece.ends[1] + 4 * k + 2);
  }
  // Every fourth voxel, then the next ones: a load that spans two recent stores waits until both
  // are in the cache, and neighbours share an end.
  for (int64_t phase = 0; phase < 4; ++phase) {
    for (int64_t k = 0; k < piece.apart_count; ++k) {
      const int64_t i = piece.apart[k];
      for (int64_t j = phase; j < kVoxels && i + j < n; j += 4) {
        float* const to[2] = {grad + piece.lower[2 * (i + j)], grad + piece.upper[2 * (i + j)]};
        for (int p = 0; p < 2; ++p) {
          const float* share = piece.shares[p] + 4 * i + j % 2 * kWide + j / 2 * 4;
          store(to[p], load<4>(to[p]) + load<4>(share));
        }
      }
    }
  }
}

/// The adjoint where no vector of the segment is longer than a voxel.
NCR_HD void near_segment(const SquareRowsAdjoint& task, const PairGrid& grid, int64_t row,
                         int64_t start, int64_t n, FreePiece& piece) {
  const int64_t length = task.size[1], base = row * length + start;
  const float* grad_here = task.grad_squared + 2 * base;
  // What belongs to other owners is added to an unused place.
  float* to[3];
  for (int r = 0; r < 3; ++r) {
    const int64_t plane = row + r - 1;
    const bool owned = plane >= task.first && plane < task.end;
    to[r] = task.grad + (owned ? 2 * (base + (r - 1) * length) : task.nowhere + 2 * start + 2);
  }
  Near near(task.field + 2 * base, row, start, task.size, grid.last);
  for (int64_t i = 0; i < n; i += kVoxels) {
    near.advance(i);
    const auto slopes = near.corners().slopes(load_voxels(grad_here + 2 * i, n - i));
    store(piece.bounded + 2 * i, near.bounded());
    store(piece.found + 2 * i, select(near.inside(), slopes, all<kWide>(0.0f)));
  }
  Around around;
  for (int64_t i = 0; i < n; i += kVoxels) {
    around.give(load<kWide>(piece.bounded + 2 * i), load_voxels(grad_here + 2 * i, n - i),
                load<kWide>(piece.found + 2 * i), to, i);
  }
  around.finish(to, n, start > 0, start + n < length);
}

/// The adjoint of any segment; returns the foremost row.
NCR_HD int64_t free_segment(const SquareRowsAdjoint& task, const PairGrid& grid, int64_t row,
                            int64_t start, int64_t n, FreePiece& piece) {
  const int64_t base = row * task.size[1] + start;
  const float* here = task.field + 2 * base;
  const float* grad_here = task.grad_squared + 2 * base;
  const bool own = row >= task.first && row < task.end;
  const auto first_row = all<kWide>(static_cast<int32_t>(task.first));
  const auto last_row = all<kWide>(static_cast<int32_t>(task.end - 1));
  const auto away = all<kWide>(static_cast<int32_t>(task.nowhere));
  const auto one_row = all<kWide>(task.size[0] > 1 ? 1 : 0);
  const auto outer = all<kWide>(static_cast<int32_t>(grid.outer));
  const auto steps = both_y(counting<kWide>());
  auto indices = all<kWide>(int32_t{0});
  auto where = coordinates(row, start);
  piece.run_count = piece.apart_count = 0;
  for (int64_t i = 0; i < n; i += kVoxels) {
    const auto cells = grid.locate(load<kWide>(here + 2 * i) + where);
    where = where + to_float(pairs_of(0, kVoxels));
    indices = max(indices, cells.index);
    store(piece.weight + 2 * i, cells.weight);
    const auto if_owned = [&](const IntPairs& plane, const IntPairs& place) NCR_LAMBDA {
      return select((plane < first_row) | (plane > last_row), away, place);
    };
    const auto y = both_y(cells.index);
    store(piece.lower + 2 * i, if_owned(y, cells.offset));
    store(piece.upper + 2 * i, if_owned(y + one_row, cells.offset + outer));
    const auto expected = all<kWide>(first(cells.offset)) + steps;
    const bool together = i + kVoxels <= n && !any(cells.offset != expected);
    piece.runs[piece.run_count] = piece.apart[piece.apart_count] = i;
    piece.run_count += together;
    piece.apart_count += !together;
    if (!own) continue;
    alignas(64) int32_t at[kWide];
    store(at, cells.offset);
    const auto g = load_voxels(grad_here + 2 * i, n - i);
    const auto slopes = grid.corners(task.field, at, cells.weight).slopes(g);
    add_voxels(task.grad + 2 * (base + i),
               select(grid.inside(cells.position), slopes, all<kWide>(0.0f)), n - i);
  }
  add_pieces(piece, grad_here, task.grad, n);
  return foremost_row(indices);
}

inline void square_rows_adjoint_2d(const SquareRowsAdjoint& task, int64_t begin, int64_t end) {
  const PairGrid grid(task.size);
  const int64_t length = task.size[1];
  FreePiece piece;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t start = 0; start < length; start += kShortSegment) {
      const int64_t n = length - start < kShortSegment ? length - start : kShortSegment;
      int64_t foremost = row;
      if (Near::applies(task.field + 2 * (row * length + start), n)) {
        near_segment(task, grid, row, start, n, piece);
      } else {
        foremost = free_segment(task, grid, row, start, n, piece);
      }
      if (row >= task.first && row < task.end) {
        fetch_ahead<2>(task.field, 2, task.size, RowAt<2>(row, task.size), foremost, start, n);
      }
    }
  }
}

}  // namespace ncr::cpu::NCR_VARIANT

#endif
