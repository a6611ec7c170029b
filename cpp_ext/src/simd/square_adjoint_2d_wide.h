// Included once per instruction set, inside its namespace, after square_2d_wide.h: the adjoint of a
// squaring in 2D with AVX-512. See SquareRowsAdjoint.

NCR_INLINE void add_eight(float* to, __m512 values, int64_t n) {
  if (n >= 8) {
    _mm512_storeu_ps(to, _mm512_loadu_ps(to) + values);
  } else {
    const __mmask16 some = some_pairs(n);
    _mm512_mask_storeu_ps(to, some, _mm512_maskz_loadu_ps(some, to) + values);
  }
}

/// Pairs of a and then of b, moved up by one: what is last in a comes first.
NCR_INLINE __m512 moved_up(__m512 a, __m512 b) {
  return _mm512_castsi512_ps(
      _mm512_alignr_epi64(_mm512_castps_si512(b), _mm512_castps_si512(a), 7));
}
/// Moved down by one: what is first in b comes last.
NCR_INLINE __m512 moved_down(__m512 a, __m512 b) {
  return _mm512_castsi512_ps(
      _mm512_alignr_epi64(_mm512_castps_si512(b), _mm512_castps_si512(a), 1));
}

NCR_INLINE void add_pair(float* to, __m512 pairs, bool last) {
  alignas(64) float values[16];
  _mm512_store_ps(values, pairs);
  add_two(to, values + (last ? 14 : 0));
}

/// What a voxel gives to the three by three voxels around it, row by row. A row's sums wait one
/// group for what comes from its right.
struct AroundWide {
  __m512 waiting[3], left[3], right[3], first_left[3];

  NCR_INLINE AroundWide() {
    for (int r = 0; r < 3; ++r) {
      waiting[r] = left[r] = right[r] = first_left[r] = _mm512_setzero_ps();
    }
  }

  /// `u` within bounds, g the gradients, `own` what stays at the voxels themselves; adds the last
  /// group's sums to `to`, which are the places of this group.
  NCR_INLINE void give(__m512 u, __m512 g, __m512 own, float* const (&to)[3], int64_t i) {
    const __m512 zero = _mm512_setzero_ps();
    const __m512 y = both_y(u), x = both_x(u);
    const __m512 forward = _mm512_max_ps(x, zero), backward = _mm512_max_ps(zero - x, zero);
    const __m512 above = g * _mm512_max_ps(zero - y, zero), below = g * _mm512_max_ps(y, zero);
    const __m512 shares[3] = {above, g - above - below, below};
    for (int r = 0; r < 3; ++r) {
      const __m512 to_right = shares[r] * forward, to_left = shares[r] * backward;
      if (i > 0) {
        float* place = to[r] + 2 * i - 16;
        _mm512_storeu_ps(place,
                         _mm512_loadu_ps(place) + (waiting[r] + moved_down(left[r], to_left)));
      } else {
        first_left[r] = to_left;
      }
      waiting[r] = shares[r] - to_right - to_left + moved_up(right[r], to_right);
      if (r == 1) waiting[r] = waiting[r] + own;
      right[r] = to_right;
      left[r] = to_left;
    }
  }

  /// After the last group of n voxels; whether the row goes on before and behind them.
  NCR_INLINE void finish(float* const (&to)[3], int64_t n, bool before, bool behind) const {
    const int64_t last = (n - 1) / 8 * 8;
    for (int r = 0; r < 3; ++r) {
      add_eight(to[r] + 2 * last, waiting[r] + moved_down(left[r], _mm512_setzero_ps()), n - last);
      if (before) add_pair(to[r] - 2, first_left[r], false);
      if (behind) add_pair(to[r] + 2 * n, right[r], true);
    }
  }
};

/// Where a piece of a row gives to, where that is anywhere.
struct PieceWide {
  alignas(64) float bounded[2 * kSegmentWide];
  alignas(64) float found[2 * kSegmentWide];
  alignas(64) float weight[2 * kSegmentWide];
  alignas(64) int64_t lower[kSegmentWide];  ///< in floats of the gradient
  alignas(64) int64_t upper[kSegmentWide];
  alignas(64) float shares[2][4 * kSegmentWide];  ///< per plane: both ends of every voxel
  alignas(16) float ends[2][kSegmentWide / 4];    ///< per plane: the last ends of runs
  int64_t runs[kSegmentWide / 8 + 1];             ///< groups whose cells follow one another
  int64_t apart[kSegmentWide / 8 + 1];            ///< the other groups
  int64_t run_count, apart_count;
};

/// Shares of eight gradients: [plane][end].
NCR_INLINE void shares_wide(__m512 g, __m512 weight, __m512 (&share)[2][2]) {
  const __m512 wx = both_x(weight);
  const __m512 upper = g * both_y(weight);
  const __m512 by_plane[2] = {g - upper, upper};
  for (int p = 0; p < 2; ++p) {
    share[p][1] = by_plane[p] * wx;
    share[p][0] = by_plane[p] - share[p][1];
  }
}

NCR_INLINE void add_pieces(PieceWide& piece, const float* grad_here, float* grad, int64_t n) {
  const __m512 zero = _mm512_setzero_ps();
  const __m512i low_half = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i high_half = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  for (int64_t k = 0; k < piece.run_count; ++k) {
    const int64_t i = piece.runs[k];
    __m512 share[2][2];
    shares_wide(_mm512_loadu_ps(grad_here + 2 * i), _mm512_load_ps(piece.weight + 2 * i), share);
    float* const to[2] = {grad + piece.lower[i], grad + piece.upper[i]};
    for (int p = 0; p < 2; ++p) {
      add_eight(to[p], share[p][0] + moved_up(zero, share[p][1]), 8);
      _mm_storeh_pi(reinterpret_cast<__m64*>(piece.ends[p] + 2 * k),
                    _mm512_extractf32x4_ps(share[p][1], 3));
    }
  }
  for (int64_t k = 0; k < piece.apart_count; ++k) {
    const int64_t i = piece.apart[k];
    __m512 share[2][2];
    shares_wide(_mm512_maskz_loadu_ps(some_pairs(n - i), grad_here + 2 * i),
                _mm512_load_ps(piece.weight + 2 * i), share);
    for (int p = 0; p < 2; ++p) {
      const __m512d low = _mm512_castps_pd(share[p][0]), high = _mm512_castps_pd(share[p][1]);
      float* out = piece.shares[p] + 4 * i;
      _mm512_store_pd(out, _mm512_permutex2var_pd(low, low_half, high));
      _mm512_store_pd(out + 16, _mm512_permutex2var_pd(low, high_half, high));
    }
  }
  for (int64_t k = 0; k < piece.run_count; ++k) {
    add_two(grad + piece.lower[piece.runs[k]] + 16, piece.ends[0] + 2 * k);
    add_two(grad + piece.upper[piece.runs[k]] + 16, piece.ends[1] + 2 * k);
  }
  // Every fourth voxel, then the next ones: a load that spans two recent stores waits until both
  // are in the cache, and neighbours share an end.
  for (int64_t phase = 0; phase < 4; ++phase) {
    for (int64_t k = 0; k < piece.apart_count; ++k) {
      const int64_t i = piece.apart[k] + phase;
      for (int64_t j = i; j < i + 8 && j < n; j += 4) {
        float* const to[2] = {grad + piece.lower[j], grad + piece.upper[j]};
        for (int p = 0; p < 2; ++p) {
          _mm_storeu_ps(to[p], _mm_loadu_ps(to[p]) + _mm_load_ps(piece.shares[p] + 4 * j));
        }
      }
    }
  }
}

void square_rows_adjoint_2d(const SquareRowsAdjoint& task, int64_t begin, int64_t end) {
  const GridWide grid(task.size);
  const int64_t length = task.size[1];
  const __m512i one_row = _mm512_set1_epi64(task.size[0] > 1 ? 1 : 0);
  const __m512i outer = _mm512_set1_epi64(grid.outer), away = _mm512_set1_epi64(task.nowhere);
  const __m512i first_row = _mm512_set1_epi64(task.first), end_row = _mm512_set1_epi64(task.end);
  const __m512 step = _mm512_cvtepi32_ps(pairs_of(0, 8));
  const auto owns = [&](int64_t row) { return row >= task.first && row < task.end; };
  PieceWide piece;
  for (int64_t row = begin; row < end; ++row) {
    const bool own = owns(row);
    for (int64_t start = 0; start < length; start += kSegmentWide) {
      const int64_t n = length - start < kSegmentWide ? length - start : kSegmentWide;
      const int64_t base = row * length + start;
      const float* here = task.field + 2 * base;
      const float* grad_here = task.grad_squared + 2 * base;
      int64_t foremost = row;
      if (NearWide::applies(here, n)) {
        // What belongs to other owners is added to an unused place.
        float* to[3];
        for (int r = 0; r < 3; ++r) {
          to[r] = task.grad + (owns(row + r - 1) ? 2 * (base + (r - 1) * length)
                                                 : task.nowhere + 2 * start + 2);
        }
        NearWide near(here, row, start, task.size);
        for (int64_t i = 0; i < n; i += 8) {
          near.advance(i);
          const __m512 g = _mm512_maskz_loadu_ps(some_pairs(n - i), grad_here + 2 * i);
          _mm512_store_ps(piece.bounded + 2 * i, near.bounded());
          _mm512_store_ps(piece.found + 2 * i,
                          _mm512_maskz_mov_ps(near.inside(), near.corners().slopes(g)));
        }
        AroundWide around;
        for (int64_t i = 0; i < n; i += 8) {
          const __m512 g = _mm512_maskz_loadu_ps(some_pairs(n - i), grad_here + 2 * i);
          around.give(_mm512_load_ps(piece.bounded + 2 * i), g, _mm512_load_ps(piece.found + 2 * i),
                      to, i);
        }
        around.finish(to, n, start > 0, start + n < length);
      } else {
        __m512i indices = _mm512_setzero_si512();
        __m512 coordinates = coordinates_wide(row, start);
        piece.run_count = piece.apart_count = 0;
        for (int64_t i = 0; i < n; i += 8) {
          const CellsWide cells = grid.locate(_mm512_loadu_ps(here + 2 * i) + coordinates);
          coordinates = coordinates + step;
          indices = _mm512_max_epi32(indices, cells.index);
          _mm512_store_ps(piece.weight + 2 * i, cells.weight);
          // Planes of other owners, as above.
          const __m512i y = _mm512_srli_epi64(_mm512_slli_epi64(cells.index, 32), 32);
          const __m512i to = _mm512_slli_epi64(cells.offset, 1);
          const auto if_owned = [&](__m512i plane, __m512i place) NCR_LAMBDA {
            const __mmask8 owned = _mm512_mask_cmplt_epi64_mask(
                _mm512_cmpge_epi64_mask(plane, first_row), plane, end_row);
            return _mm512_mask_mov_epi64(away, owned, place);
          };
          _mm512_store_si512(piece.lower + i, if_owned(y, to));
          _mm512_store_si512(piece.upper + i,
                             if_owned(_mm512_add_epi64(y, one_row), _mm512_add_epi64(to, outer)));
          const bool together = i + 8 <= n && follow_wide(cells.offset);
          piece.runs[piece.run_count] = piece.apart[piece.apart_count] = i;
          piece.run_count += together;
          piece.apart_count += !together;
          if (!own) continue;
          alignas(64) int64_t at[8];
          _mm512_store_si512(at, cells.offset);
          const __mmask16 some = some_pairs(n - i);
          const __m512 g = _mm512_maskz_loadu_ps(some, grad_here + 2 * i);
          const __m512 slopes = grid.corners(task.field, at, cells.weight).slopes(g);
          add_eight(task.grad + 2 * (base + i),
                    _mm512_maskz_mov_ps(grid.inside(cells.position), slopes), n - i);
        }
        add_pieces(piece, grad_here, task.grad, n);
        foremost = foremost_row(indices);
      }
      if (own) {
        prefetch_ahead<2>(task.field, 2, task.size, RowAt<2>(row, task.size), foremost, start, n);
      }
    }
  }
}
