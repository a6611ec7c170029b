// Included once per instruction set, inside its namespace: a squaring in 2D and its adjoint with
// AVX-512, where eight voxels are one vector of pairs (y, x). Positions, indices and weights stay
// pairs; a pair is a lane of 64 bits for offsets.
//
// Rows are taken in segments. Where nothing moves by a voxel or more, which is so everywhere in the
// first steps, the cells of a voxel are among its eight neighbours: fixed loads and blends, and no
// branch to guess wrong. Elsewhere cells are found and fetched one by one.

constexpr int64_t kSegmentWide = 128;

NCR_INLINE __m512i pairs_of(int64_t y, int64_t x) {
  return _mm512_set1_epi64(static_cast<int64_t>((static_cast<uint64_t>(x) << 32) | y));
}

/// The first n pairs.
NCR_INLINE __mmask16 some_pairs(int64_t n) {
  return static_cast<__mmask16>(n >= 8 ? 0xffff : (1 << 2 * n) - 1);
}

/// Coordinates of eight voxels of a row, from x on.
NCR_INLINE __m512 coordinates_wide(int64_t row, int64_t x) {
  const __m512i steps = _mm512_slli_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), 32);
  return _mm512_cvtepi32_ps(_mm512_add_epi32(pairs_of(row, x), steps));
}

/// One component of every pair, twice.
NCR_INLINE __m512 both_y(__m512 pairs) {
  return _mm512_moveldup_ps(pairs);
}
NCR_INLINE __m512 both_x(__m512 pairs) {
  return _mm512_movehdup_ps(pairs);
}

/// The vectors at the corners of eight cells and the weights of the upper ends.
struct CornersWide {
  __m512 near[2], far[2];  ///< row y, row y + 1; at x and x + 1
  __m512 wy, wx;

  NCR_INLINE __m512 sample() const {
    const __m512 left = lerp(near[0], far[0], wy), right = lerp(near[1], far[1], wy);
    return lerp(left, right, wx);
  }

  /// (dL/dy, dL/dx) for the gradients g of the samples.
  NCR_INLINE __m512 slopes(__m512 g) const {
    const __m512 along[2] = {far[0] - near[0], far[1] - near[1]};
    const __m512 edge[2] = {near[0] + wy * along[0], near[1] + wy * along[1]};
    const __m512 y = lerp(along[0], along[1], wx) * g, x = (edge[1] - edge[0]) * g;
    const __m512 own = _mm512_mask_blend_ps(0xaaaa, y, x);
    const __m512 other = _mm512_mask_blend_ps(0xaaaa, x, y);
    return own + _mm512_permute_ps(other, 0xb1);
  }
};

/// Cells of eight voxels anywhere.
struct CellsWide {
  __m512 position, weight;
  __m512i index, offset;  ///< offset: in vectors, 64 bits
};

struct GridWide {
  __m512 last;    ///< n - 1
  __m512i limit;  ///< largest lower index
  __m512i length;
  int64_t outer;  ///< floats to the next row of a cell, 0 if there is but one

  explicit NCR_INLINE GridWide(const int64_t* size) {
    last = _mm512_cvtepi32_ps(pairs_of(size[0] - 1, size[1] - 1));
    limit = pairs_of(size[0] > 1 ? size[0] - 2 : 0, size[1] - 2);
    length = _mm512_set1_epi64(size[1]);
    outer = size[0] > 1 ? 2 * size[1] : 0;
  }

  /// The order of operands lets NaN pass into the weight; its index becomes 0.
  NCR_INLINE CellsWide locate(__m512 position) const {
    CellsWide c;
    c.position = position;
    const __m512 clamped = _mm512_min_ps(last, _mm512_max_ps(_mm512_setzero_ps(), c.position));
    const __m512i below = _mm512_min_epi32(_mm512_cvttps_epi32(clamped), limit);
    c.index = _mm512_max_epi32(below, _mm512_setzero_si512());
    c.weight = clamped - _mm512_cvtepi32_ps(c.index);
    c.offset = _mm512_add_epi64(_mm512_mul_epu32(c.index, length), _mm512_srli_epi64(c.index, 32));
    return c;
  }

  NCR_INLINE __mmask16 inside(__m512 position) const {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(position, _mm512_setzero_ps(), _CMP_GT_OQ),
                                   position, last, _CMP_LT_OQ);
  }

  NCR_INLINE CornersWide corners(const float* field, const int64_t* at, __m512 weight) const {
    const auto ends = [&](const float* from, __m512(&found)[2]) NCR_LAMBDA {
      const auto two = [&](int a, int b) NCR_LAMBDA {
        return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + 2 * at[a])),
                                    _mm_loadu_ps(from + 2 * at[b]), 1);
      };
      const auto four = [&](int a) NCR_LAMBDA {
        return _mm512_castps_pd(
            _mm512_insertf32x8(_mm512_castps256_ps512(two(a, a + 2)), two(a + 4, a + 6), 1));
      };
      const __m512d even = four(0), odd = four(1);
      found[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(even, odd));
      found[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(even, odd));
    };
    CornersWide c;
    c.wy = both_y(weight);
    c.wx = both_x(weight);
    ends(field, c.near);
    ends(field + outer, c.far);
    return c;
  }
};

/// Whether the cells follow one another.
NCR_INLINE bool follow_wide(__m512i offset) {
  const __m512i expected = _mm512_add_epi64(_mm512_broadcastq_epi64(_mm512_castsi512_si128(offset)),
                                            _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm512_cmpneq_epi64_mask(offset, expected) == 0;
}

/// Walks along a segment of a row in which every vector is shorter than a voxel along both axes.
class NearWide {
 public:
  NCR_INLINE NearWide(const float* here, int64_t row, int64_t start, const int64_t* size)
      : coordinates_(coordinates_wide(row, start)), start_(start), last_(size[1] - 1) {
    const float infinity = std::numeric_limits<float>::infinity();
    const bool first_row = row == 0, last_row = row == size[0] - 1;
    rows_[0] = first_row ? here : here - 2 * size[1];
    rows_[1] = here;
    rows_[2] = last_row ? here : here + 2 * size[1];
    low_ =
        _mm512_mask_mov_ps(_mm512_set1_ps(-infinity), first_row ? 0x5555 : 0, _mm512_setzero_ps());
    high_ =
        _mm512_mask_mov_ps(_mm512_set1_ps(infinity), last_row ? 0x5555 : 0, _mm512_setzero_ps());
    for (int r = 0; r < 3; ++r) {
      next_[r] = _mm512_loadu_si512(rows_[r]);
      // There is nothing at the start of a row, and it is not read.
      here_[r] = start > 0 ? _mm512_loadu_si512(rows_[r] - 16) : next_[r];
    }
  }

  /// Whether the n vectors from `here` on are that short; NaN is not.
  static NCR_INLINE bool applies(const float* here, int64_t n) {
    __m512i longest = _mm512_setzero_si512();
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const auto take = [&](__m512 u) NCR_LAMBDA {
      const __m512i bits = _mm512_and_si512(_mm512_castps_si512(u), magnitude);
      longest = _mm512_max_epu32(longest, bits);
    };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) take(_mm512_loadu_ps(here + 2 * i));
    take(_mm512_maskz_loadu_ps(some_pairs(n - i), here + 2 * i));
    return _mm512_cmpge_epu32_mask(longest, _mm512_castps_si512(_mm512_set1_ps(1))) == 0;
  }

  /// On to the voxels i to i + 7 of the segment, the ones behind those of the last call.
  NCR_INLINE void advance(int64_t i) {
    for (int r = 0; r < 3; ++r) {
      before_[r] = here_[r];
      here_[r] = next_[r];
      next_[r] = _mm512_loadu_si512(rows_[r] + 2 * i + 16);
    }
    // Rounded as the position is: every path finds the same weights.
    moved_ = (vectors() + coordinates_) - coordinates_;
    coordinates_ = coordinates_ + _mm512_cvtepi32_ps(pairs_of(0, 8));
    low_here_ = start_ + i == 0 ? _mm512_mask_mov_ps(low_, 2, _mm512_setzero_ps()) : low_;
    const int64_t left = last_ - start_ - i;
    high_here_ = left < 8 ? _mm512_mask_mov_ps(high_, static_cast<__mmask16>(2 << 2 * left),
                                               _mm512_setzero_ps())
                          : high_;
  }

  NCR_INLINE __m512 vectors() const { return _mm512_castsi512_ps(here_[1]); }

  /// From the voxels to their positions, up to the border.
  NCR_INLINE __m512 bounded() const {
    return _mm512_min_ps(high_here_, _mm512_max_ps(low_here_, moved_));
  }

  /// Where the border does not repeat.
  NCR_INLINE __mmask16 inside() const {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(moved_, low_here_, _CMP_GT_OQ), moved_,
                                   high_here_, _CMP_LT_OQ);
  }

  NCR_INLINE CornersWide corners() const {
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1);
    const __m512 u = bounded(), y = both_y(u), x = both_x(u);
    const __mmask16 above = _mm512_cmp_ps_mask(y, zero, _CMP_LT_OQ);
    const __mmask16 before = _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ);
    __m512 ends[3][2];
    for (int r = 0; r < 3; ++r) {
      const __m512 left = _mm512_castsi512_ps(_mm512_alignr_epi64(here_[r], before_[r], 7));
      const __m512 middle = _mm512_castsi512_ps(here_[r]);
      const __m512 right = _mm512_castsi512_ps(_mm512_alignr_epi64(next_[r], here_[r], 1));
      ends[r][0] = _mm512_mask_blend_ps(before, middle, left);
      ends[r][1] = _mm512_mask_blend_ps(before, right, middle);
    }
    CornersWide c;
    c.wy = _mm512_mask_add_ps(y, above, y, one);
    c.wx = _mm512_mask_add_ps(x, before, x, one);
    for (int end = 0; end < 2; ++end) {
      c.near[end] = _mm512_mask_blend_ps(above, ends[1][end], ends[0][end]);
      c.far[end] = _mm512_mask_blend_ps(above, ends[2][end], ends[1][end]);
    }
    return c;
  }

 private:
  const float* rows_[3];  ///< the row above, this one and the one below, from the segment on
  __m512i before_[3], here_[3], next_[3];
  __m512 coordinates_, moved_;
  __m512 low_, high_, low_here_, high_here_;  ///< bounds that keep positions in the grid
  int64_t start_, last_;
};

NCR_INLINE int64_t foremost_row(__m512i index) {
  return _mm512_reduce_max_epi64(_mm512_srli_epi64(_mm512_slli_epi64(index, 32), 32));
}

template <bool kPlanes>
NCR_INLINE void square_segment(const SquareRows& task, const GridWide& grid, int64_t row,
                               int64_t start, int64_t n) {
  const int64_t length = task.size[1], base = row * length + start;
  const float* here = task.field + 2 * base;
  const __m512i components =
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  const auto finish = [&](int64_t i, __m512 sum) NCR_LAMBDA {
    if constexpr (kPlanes) {
      const __m512 apart = _mm512_permutexvar_ps(components, sum);
      float* out = task.planes + base + i;
      store_some(out, _mm512_castps512_ps256(apart), n - i);
      store_some(out + task.size[0] * length, _mm512_extractf32x8_ps(apart, 1), n - i);
    } else if (i + 8 <= n) {
      _mm512_storeu_ps(task.squared + 2 * (base + i), sum);
    } else {
      _mm512_mask_storeu_ps(task.squared + 2 * (base + i), some_pairs(n - i), sum);
    }
  };
  int64_t foremost = row;
  if (NearWide::applies(here, n)) {
    NearWide near(here, row, start, task.size);
    for (int64_t i = 0; i < n; i += 8) {
      near.advance(i);
      finish(i, near.vectors() + near.corners().sample());
    }
  } else {
    __m512i indices = _mm512_setzero_si512();
    __m512 coordinates = coordinates_wide(row, start);
    const __m512 step = _mm512_cvtepi32_ps(pairs_of(0, 8));
    for (int64_t i = 0; i < n; i += 8) {
      const __m512 u = _mm512_loadu_ps(here + 2 * i);
      const CellsWide cells = grid.locate(u + coordinates);
      coordinates = coordinates + step;
      indices = _mm512_max_epi32(indices, cells.index);
      alignas(64) int64_t at[8];
      _mm512_store_si512(at, cells.offset);
      finish(i, u + grid.corners(task.field, at, cells.weight).sample());
    }
    foremost = foremost_row(indices);
  }
  prefetch_ahead<2>(task.field, 2, task.size, RowAt<2>(row, task.size), foremost, start, n);
}

void square_rows_2d(const SquareRows& task, int64_t begin, int64_t end) {
  const GridWide grid(task.size);
  const int64_t length = task.size[1];
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t start = 0; start < length; start += kSegmentWide) {
      const int64_t n = length - start < kSegmentWide ? length - start : kSegmentWide;
      if (task.squared != nullptr) square_segment<false>(task, grid, row, start, n);
      if (task.planes != nullptr) square_segment<true>(task, grid, row, start, n);
    }
  }
}
