// Included once per instruction set, inside its namespace. Eight floats at a time (AVX2 and up).

constexpr int64_t kLanes = 8;
/// Rows are taken in pieces whose positions fit the first-level cache.
constexpr int64_t kSegment = 256;

#define NCR_INLINE inline __attribute__((always_inline))

NCR_INLINE __m256 lerp(__m256 a, __m256 b, __m256 weight) {
  return _mm256_fmadd_ps(weight, _mm256_sub_ps(b, a), a);
}

NCR_INLINE __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/// Eight floats, or the n < 8 first ones and zeros.
NCR_INLINE __m256 load_some(const float* from, int64_t n) {
  return n >= kLanes ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, first_lanes(n));
}

NCR_INLINE void store_some(float* to, __m256 values, int64_t n) {
  if (n >= kLanes) {
    _mm256_storeu_ps(to, values);
  } else {
    _mm256_maskstore_ps(to, first_lanes(n), values);
  }
}

/// v[0..D) = the components of eight interleaved vectors.
template <int D>
NCR_INLINE void deinterleave(const __m256 (&in)[D], __m256 (&v)[D]) {
  if constexpr (D == 2) {
    // in: x0 y0 x1 y1 | x2 y2 x3 y3,  x4 .. y7
    const __m256 x = _mm256_shuffle_ps(in[0], in[1], 0x88);  // x0 x1 x4 x5 | x2 x3 x6 x7
    const __m256 y = _mm256_shuffle_ps(in[0], in[1], 0xdd);
    v[0] = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8));
    v[1] = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(y), 0xd8));
  } else {
    // Every lane of the three inputs holds another component, so blends gather and one permutation
    // orders: lanes 0, 3, 6 | 1, 4, 7 | 2, 5.
    const __m256 x = _mm256_blend_ps(_mm256_blend_ps(in[0], in[1], 0x92), in[2], 0x24);
    const __m256 y = _mm256_blend_ps(_mm256_blend_ps(in[0], in[1], 0x24), in[2], 0x49);
    const __m256 z = _mm256_blend_ps(_mm256_blend_ps(in[0], in[1], 0x49), in[2], 0x92);
    v[0] = _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
    v[1] = _mm256_permutevar8x32_ps(y, _mm256_setr_epi32(1, 4, 7, 2, 5, 0, 3, 6));
    v[2] = _mm256_permutevar8x32_ps(z, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
  }
}

template <int D>
NCR_INLINE void interleave(const __m256 (&v)[D], __m256 (&out)[D]) {
  if constexpr (D == 2) {
    const __m256 low = _mm256_unpacklo_ps(v[0], v[1]);   // x0 y0 x1 y1 | x4 y4 x5 y5
    const __m256 high = _mm256_unpackhi_ps(v[0], v[1]);  // x2 y2 x3 y3 | x6 y6 x7 y7
    out[0] = _mm256_permute2f128_ps(low, high, 0x20);
    out[1] = _mm256_permute2f128_ps(low, high, 0x31);
  } else {
    const __m256 x = _mm256_permutevar8x32_ps(v[0], _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
    const __m256 y = _mm256_permutevar8x32_ps(v[1], _mm256_setr_epi32(5, 0, 3, 6, 1, 4, 7, 2));
    const __m256 z = _mm256_permutevar8x32_ps(v[2], _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
    out[0] = _mm256_blend_ps(_mm256_blend_ps(x, y, 0x92), z, 0x24);
    out[1] = _mm256_blend_ps(_mm256_blend_ps(x, y, 0x24), z, 0x49);
    out[2] = _mm256_blend_ps(_mm256_blend_ps(x, y, 0x49), z, 0x92);
  }
}

/// Eight weights, each repeated for the D components of its vector.
template <int D>
NCR_INLINE void spread(__m256 weight, __m256 (&out)[D]) {
  if constexpr (D == 2) {
    out[0] = _mm256_permutevar8x32_ps(weight, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
    out[1] = _mm256_permutevar8x32_ps(weight, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
  } else {
    out[0] = _mm256_permutevar8x32_ps(weight, _mm256_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2));
    out[1] = _mm256_permutevar8x32_ps(weight, _mm256_setr_epi32(2, 3, 3, 3, 4, 4, 4, 5));
    out[2] = _mm256_permutevar8x32_ps(weight, _mm256_setr_epi32(5, 5, 6, 6, 6, 7, 7, 7));
  }
}

/// Rows of a = (v[0], v[1], ...) become vectors of four: out[j] = vectors 2j and 2j + 1.
template <int D>
NCR_INLINE void to_fours(const __m256 (&v)[D], __m256 (&out)[4]) {
  const __m256 third = D == 3 ? v[D - 1] : _mm256_setzero_ps();
  const __m256 zero = _mm256_setzero_ps();
  const __m256 a = _mm256_unpacklo_ps(v[0], v[1]);  // x0 y0 x1 y1 | x4 y4 x5 y5
  const __m256 b = _mm256_unpackhi_ps(v[0], v[1]);  // x2 y2 x3 y3 | x6 ..
  const __m256 c = _mm256_unpacklo_ps(third, zero);
  const __m256 d = _mm256_unpackhi_ps(third, zero);
  const auto join = [](__m256 l, __m256 h, bool upper) {
    const __m256d ld = _mm256_castps_pd(l), hd = _mm256_castps_pd(h);
    return _mm256_castpd_ps(upper ? _mm256_unpackhi_pd(ld, hd) : _mm256_unpacklo_pd(ld, hd));
  };
  const __m256 e0 = join(a, c, false), e1 = join(a, c, true);  // 0 | 4,  1 | 5
  const __m256 e2 = join(b, d, false), e3 = join(b, d, true);  // 2 | 6,  3 | 7
  out[0] = _mm256_permute2f128_ps(e0, e1, 0x20);
  out[1] = _mm256_permute2f128_ps(e2, e3, 0x20);
  out[2] = _mm256_permute2f128_ps(e0, e1, 0x31);
  out[3] = _mm256_permute2f128_ps(e2, e3, 0x31);
}

/// The first D components of eight vectors of four.
template <int D>
NCR_INLINE void from_fours(const float* fours, __m256 (&v)[D]) {
  const auto pair = [&](int i) {  // vectors i and i + 4
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(fours + 4 * i)),
                                _mm_loadu_ps(fours + 4 * (i + 4)), 1);
  };
  const __m256 p0 = pair(0), p1 = pair(1), p2 = pair(2), p3 = pair(3);
  const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(p0, p1));  // x0 x1 y0 y1
  const __m256d b = _mm256_castps_pd(_mm256_unpacklo_ps(p2, p3));
  v[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
  v[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
  if constexpr (D == 3) {
    const __m256d c = _mm256_castps_pd(_mm256_unpackhi_ps(p0, p1));  // z0 z1 . .
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(p2, p3));
    v[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c, d));
  }
}

/// The limits of positions on a grid, once per call.
template <int D>
struct Bounds {
  __m256 last[D];    ///< n - 1
  __m256i limit[D];  ///< largest lower index, max(n - 2, 0)
  __m256i size[D];

  explicit NCR_INLINE Bounds(const int64_t* sizes) {
    for (int axis = 0; axis < D; ++axis) {
      const int n = static_cast<int>(sizes[axis]);
      last[axis] = _mm256_set1_ps(static_cast<float>(n - 1));
      limit[axis] = _mm256_set1_epi32(n > 1 ? n - 2 : 0);
      size[axis] = _mm256_set1_epi32(n);
    }
  }
};

/// Eight positions: the lower corner of their cells, weights of the upper ones, slopes.
template <int D>
struct Located {
  __m256i index[D];
  __m256i offset;  ///< in voxels
  __m256 weight[D];
  __m256 inside[D];  ///< all bits where 0 < p < n - 1: elsewhere the border repeats
};

/// Operands of min and max are ordered such that NaN passes into the weight; its index becomes 0.
template <int D>
NCR_INLINE Located<D> locate(const __m256 (&position)[D], const Bounds<D>& bounds) {
  Located<D> l;
  const __m256 zero = _mm256_setzero_ps();
  for (int axis = 0; axis < D; ++axis) {
    const __m256 p = position[axis];
    const __m256 clamped = _mm256_min_ps(bounds.last[axis], _mm256_max_ps(zero, p));
    __m256i index = _mm256_min_epi32(_mm256_cvttps_epi32(clamped), bounds.limit[axis]);
    index = _mm256_max_epi32(index, _mm256_setzero_si256());
    l.index[axis] = index;
    l.weight[axis] = _mm256_sub_ps(clamped, _mm256_cvtepi32_ps(index));
    l.inside[axis] = _mm256_and_ps(_mm256_cmp_ps(p, zero, _CMP_GT_OQ),
                                   _mm256_cmp_ps(p, bounds.last[axis], _CMP_LT_OQ));
    l.offset = axis == 0 ? index
                         : _mm256_add_epi32(_mm256_mullo_epi32(l.offset, bounds.size[axis]), index);
  }
  return l;
}

/// Whether eight offsets follow one another, so that plain loads bring their neighbours.
NCR_INLINE bool consecutive(__m256i offset) {
  const __m256i expected = _mm256_add_epi32(_mm256_broadcastd_epi32(_mm256_castsi256_si128(offset)),
                                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_movemask_epi8(_mm256_cmpeq_epi32(offset, expected)) == -1;
}

/// Coordinates of a row: (z, y) or (y).
template <int D>
struct RowAt {
  int64_t at[D - 1];

  NCR_INLINE RowAt(int64_t row, const int64_t* size) {
    if constexpr (D == 3) {
      at[0] = row / size[1];
      at[1] = row % size[1];
    } else {
      at[0] = row;
    }
  }
};

/// Positions of the voxels x .. x + 7 of a row moved by u.
template <int D>
NCR_INLINE void move(const RowAt<D>& row, int64_t x, const __m256 (&u)[D], __m256 (&position)[D]) {
  for (int axis = 0; axis < D - 1; ++axis) {
    position[axis] = _mm256_add_ps(u[axis], _mm256_set1_ps(static_cast<float>(row.at[axis])));
  }
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i at = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(x)), lanes);
  position[D - 1] = _mm256_add_ps(u[D - 1], _mm256_cvtepi32_ps(at));
}
