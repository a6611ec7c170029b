// Included once per instruction set, inside its namespace. Eight floats at a time (AVX2 and up).

// Vectors of L floats: 8, and with AVX-512 16 where rows are planar. Sums and products are written
// with the operators that GCC and Clang give their vector types.

/// Lanes of interleaved kernels.
constexpr int64_t kLanes = 8;
/// Rows are taken in pieces whose positions fit the first-level cache.
constexpr int64_t kSegment = 256;

#define NCR_INLINE inline __attribute__((always_inline))

template <int L>
struct Vec;

template <>
struct Vec<8> {
  using F = __m256;
  using I = __m256i;
#if defined(__AVX512F__)
  using M = __mmask8;
#else
  using M = __m256;  ///< all bits of a lane, or none
#endif

  static NCR_INLINE F set(float x) { return _mm256_set1_ps(x); }
  static NCR_INLINE I set(int x) { return _mm256_set1_epi32(x); }
  static NCR_INLINE F load(const float* p) { return _mm256_load_ps(p); }
  static NCR_INLINE F load_any(const float* p) { return _mm256_loadu_ps(p); }
  static NCR_INLINE void store(float* p, F v) { _mm256_store_ps(p, v); }
  static NCR_INLINE void store(int32_t* p, I v) { _mm256_store_si256(reinterpret_cast<I*>(p), v); }
  static NCR_INLINE I lanes() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  static NCR_INLINE I first(int64_t n) {
    return _mm256_cmpgt_epi32(set(static_cast<int>(n)), lanes());
  }
  /// The n first floats, and zeros.
  static NCR_INLINE F load_some(const float* p, int64_t n) {
    return n >= 8 ? load_any(p) : _mm256_maskload_ps(p, first(n));
  }
  static NCR_INLINE void store_some(float* p, F v, int64_t n) {
    if (n >= 8) {
      _mm256_storeu_ps(p, v);
    } else {
      _mm256_maskstore_ps(p, first(n), v);
    }
  }
  /// NaN in the second operand passes.
  static NCR_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
  static NCR_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
  static NCR_INLINE I min(I a, I b) { return _mm256_min_epi32(a, b); }
  static NCR_INLINE I max(I a, I b) { return _mm256_max_epi32(a, b); }
  static NCR_INLINE I add(I a, I b) { return _mm256_add_epi32(a, b); }
  static NCR_INLINE I sub(I a, I b) { return _mm256_sub_epi32(a, b); }
  static NCR_INLINE I mul(I a, I b) { return _mm256_mullo_epi32(a, b); }
  static NCR_INLINE I truncate(F v) { return _mm256_cvttps_epi32(v); }
  static NCR_INLINE F to_float(I v) { return _mm256_cvtepi32_ps(v); }
#if defined(__AVX512F__)
  static NCR_INLINE M between(F v, F low, F high) {
    return static_cast<M>(
        _mm256_mask_cmp_ps_mask(_mm256_cmp_ps_mask(v, low, _CMP_GT_OQ), v, high, _CMP_LT_OQ));
  }
  static NCR_INLINE F keep(M mask, F v) { return _mm256_maskz_mov_ps(mask, v); }
#else
  static NCR_INLINE M between(F v, F low, F high) {
    return _mm256_and_ps(_mm256_cmp_ps(v, low, _CMP_GT_OQ), _mm256_cmp_ps(v, high, _CMP_LT_OQ));
  }
  /// v where the mask is set, 0 elsewhere.
  static NCR_INLINE F keep(M mask, F v) { return _mm256_and_ps(mask, v); }
#endif
  static NCR_INLINE F set_bits() { return _mm256_castsi256_ps(_mm256_set1_epi32(-1)); }
  /// a where begin <= index < end, else b.
  static NCR_INLINE I choose_in(I index, int begin, int end, I a, I b) {
    const I outside = _mm256_or_si256(_mm256_cmpgt_epi32(set(begin), index),
                                      _mm256_cmpgt_epi32(index, set(end - 1)));
    return _mm256_blendv_epi8(a, b, outside);
  }
};

#if defined(__AVX512F__)
template <>
struct Vec<16> {
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;

  static NCR_INLINE F set(float x) { return _mm512_set1_ps(x); }
  static NCR_INLINE I set(int x) { return _mm512_set1_epi32(x); }
  static NCR_INLINE F load(const float* p) { return _mm512_load_ps(p); }
  static NCR_INLINE F load_any(const float* p) { return _mm512_loadu_ps(p); }
  static NCR_INLINE void store(float* p, F v) { _mm512_store_ps(p, v); }
  static NCR_INLINE void store(int32_t* p, I v) { _mm512_store_si512(p, v); }
  static NCR_INLINE I lanes() {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  static NCR_INLINE M first(int64_t n) { return static_cast<M>(n >= 16 ? 0xffff : (1 << n) - 1); }
  static NCR_INLINE F load_some(const float* p, int64_t n) {
    return _mm512_maskz_loadu_ps(first(n), p);
  }
  static NCR_INLINE void store_some(float* p, F v, int64_t n) {
    _mm512_mask_storeu_ps(p, first(n), v);
  }
  static NCR_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
  static NCR_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }
  static NCR_INLINE I min(I a, I b) { return _mm512_min_epi32(a, b); }
  static NCR_INLINE I max(I a, I b) { return _mm512_max_epi32(a, b); }
  static NCR_INLINE I add(I a, I b) { return _mm512_add_epi32(a, b); }
  static NCR_INLINE I sub(I a, I b) { return _mm512_sub_epi32(a, b); }
  static NCR_INLINE I mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static NCR_INLINE I truncate(F v) { return _mm512_cvttps_epi32(v); }
  static NCR_INLINE F to_float(I v) { return _mm512_cvtepi32_ps(v); }
  static NCR_INLINE M between(F v, F low, F high) {
    return static_cast<M>(_mm512_cmp_ps_mask(v, low, _CMP_GT_OQ) &
                          _mm512_cmp_ps_mask(v, high, _CMP_LT_OQ));
  }
  static NCR_INLINE F keep(M mask, F v) { return _mm512_maskz_mov_ps(mask, v); }
  static NCR_INLINE F set_bits() { return _mm512_castsi512_ps(_mm512_set1_epi32(-1)); }
  static NCR_INLINE I choose_in(I index, int begin, int end, I a, I b) {
    const M inside =
        _mm512_mask_cmplt_epi32_mask(_mm512_cmpge_epi32_mask(index, set(begin)), index, set(end));
    return _mm512_mask_blend_epi32(inside, b, a);
  }
};
constexpr int kWide = 16;
#else
constexpr int kWide = 8;
#endif

template <class F>
NCR_INLINE F lerp(F a, F b, F weight) {
  return a + weight * (b - a);
}

NCR_INLINE void store_some(float* to, __m256 values, int64_t n) {
  Vec<8>::store_some(to, values, n);
}

/// Adds two floats. Nothing wider is loaded: what spans two recent stores waits until both are in
/// the cache.
NCR_INLINE void add_two(float* to, const float* values) {
  const auto load = [](const float* p) {
    return _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  };
  _mm_storel_pi(reinterpret_cast<__m64*>(to), _mm_add_ps(load(to), load(values)));
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

#if defined(__AVX512F__)
/// Lanes of the first two inputs, then of the third, that hold one component of 16 vectors.
template <int D>
struct ComponentLanes {
  alignas(64) int32_t first[D][16] = {};
  alignas(64) int32_t second[D][16] = {};

  constexpr ComponentLanes() {
    for (int c = 0; c < D; ++c) {
      for (int k = 0; k < 16; ++k) {
        const int at = D * k + c;
        first[c][k] = at < 32 ? at : 0;
        second[c][k] = at < 32 ? k : at - 16;
      }
    }
  }
};
template <int D>
constexpr ComponentLanes<D> kComponentLanes{};

template <int D>
NCR_INLINE void deinterleave(const __m512 (&in)[D], __m512 (&v)[D]) {
  for (int c = 0; c < D; ++c) {
    v[c] = _mm512_permutex2var_ps(in[0], _mm512_load_si512(kComponentLanes<D>.first[c]), in[1]);
    if constexpr (D == 3) {
      v[c] = _mm512_permutex2var_ps(v[c], _mm512_load_si512(kComponentLanes<D>.second[c]), in[2]);
    }
  }
}
#endif

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

/// Eight vectors of three, by component, as vectors of four: out[j] = vectors 2j and 2j + 1.
NCR_INLINE void to_fours(const __m256 (&v)[3], __m256 (&out)[4]) {
  const __m256 zero = _mm256_setzero_ps();
  const __m256 a = _mm256_unpacklo_ps(v[0], v[1]);  // x0 y0 x1 y1 | x4 y4 x5 y5
  const __m256 b = _mm256_unpackhi_ps(v[0], v[1]);  // x2 y2 x3 y3 | x6 ..
  const __m256 c = _mm256_unpacklo_ps(v[2], zero);
  const __m256 d = _mm256_unpackhi_ps(v[2], zero);
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

/// The first three components of eight vectors of four.
NCR_INLINE void from_fours(const float* fours, __m256 (&v)[3]) {
  const auto pair = [&](int i) {  // vectors i and i + 4
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(fours + 4 * i)),
                                _mm_loadu_ps(fours + 4 * (i + 4)), 1);
  };
  const __m256 p0 = pair(0), p1 = pair(1), p2 = pair(2), p3 = pair(3);
  const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(p0, p1));  // x0 x1 y0 y1
  const __m256d b = _mm256_castps_pd(_mm256_unpacklo_ps(p2, p3));
  v[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
  v[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
  const __m256d c = _mm256_castps_pd(_mm256_unpackhi_ps(p0, p1));  // z0 z1 . .
  const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(p2, p3));
  v[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(c, d));
}

/// The limits of positions on a grid, once per call.
template <int D, int L>
struct Bounds {
  using V = Vec<L>;
  typename V::F last[D];   ///< n - 1
  typename V::I limit[D];  ///< largest lower index, max(n - 2, 0)
  typename V::I size[D];

  explicit NCR_INLINE Bounds(const int64_t* sizes) {
    for (int axis = 0; axis < D; ++axis) {
      const int n = static_cast<int>(sizes[axis]);
      last[axis] = V::set(static_cast<float>(n - 1));
      limit[axis] = V::set(n > 1 ? n - 2 : 0);
      size[axis] = V::set(n);
    }
  }
};

/// Positions: the lower corners of their cells, weights of the upper ones, slopes.
template <int D, int L>
struct Located {
  using V = Vec<L>;
  typename V::I index[D];
  typename V::I offset;  ///< in voxels
  typename V::F weight[D];
  typename V::M inside[D];  ///< where 0 < p < n - 1: elsewhere the border repeats
};

/// Operands of min and max are ordered such that NaN passes into the weight; its index becomes 0.
template <int D, int L>
NCR_INLINE Located<D, L> locate(const typename Vec<L>::F (&position)[D],
                                const Bounds<D, L>& bounds) {
  using V = Vec<L>;
  Located<D, L> l;
  const auto zero = V::set(0.0f);
  for (int axis = 0; axis < D; ++axis) {
    const auto p = position[axis];
    const auto clamped = V::min(bounds.last[axis], V::max(zero, p));
    const auto index = V::max(V::min(V::truncate(clamped), bounds.limit[axis]), V::set(0));
    l.index[axis] = index;
    l.weight[axis] = clamped - V::to_float(index);
    l.inside[axis] = V::between(p, zero, bounds.last[axis]);
    l.offset = axis == 0 ? index : V::add(V::mul(l.offset, bounds.size[axis]), index);
  }
  return l;
}

/// Whether eight offsets follow one another at a distance, so that plain loads bring all cells.
template <int kDistance>
NCR_INLINE bool consecutive(__m256i offset) {
  constexpr int d = kDistance;
  const __m256i expected =
      _mm256_add_epi32(_mm256_broadcastd_epi32(_mm256_castsi256_si128(offset)),
                       _mm256_setr_epi32(0, d, 2 * d, 3 * d, 4 * d, 5 * d, 6 * d, 7 * d));
  return _mm256_movemask_epi8(_mm256_cmpeq_epi32(offset, expected)) == -1;
}

#if defined(__AVX512F__)
/// The same for two groups of eight; a bit for each offset that is where it should be.
template <int kDistance>
NCR_INLINE unsigned follow_one_another(__m512i offset) {
  constexpr int d = kDistance;
  const __m512i begins = _mm512_permutexvar_epi32(
      _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8), offset);
  const __m512i steps = _mm512_setr_epi32(0, d, 2 * d, 3 * d, 4 * d, 5 * d, 6 * d, 7 * d, 0, d,
                                          2 * d, 3 * d, 4 * d, 5 * d, 6 * d, 7 * d);
  return _mm512_cmpeq_epi32_mask(offset, _mm512_add_epi32(begins, steps));
}
#endif

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

/// Positions of L voxels of a row, from x on, moved by u.
template <int D, int L>
NCR_INLINE void move(const RowAt<D>& row, int64_t x, const typename Vec<L>::F (&u)[D],
                     typename Vec<L>::F (&position)[D]) {
  using V = Vec<L>;
  for (int axis = 0; axis < D - 1; ++axis) {
    position[axis] = u[axis] + V::set(static_cast<float>(row.at[axis]));
  }
  position[D - 1] = u[D - 1] + V::to_float(V::add(V::set(static_cast<int>(x)), V::lanes()));
}

/// Asks for a piece of the row at which later rows will look: the next planes but one in front of
/// the foremost cell of this piece. The processor foresees runs along a row, not the step to new
/// planes; asking first halved the time of fields that do not fit the second-level cache.
template <int D>
NCR_INLINE void prefetch_ahead(const float* values, int width, const int64_t* size,
                               const RowAt<D>& at, int64_t foremost, int64_t start, int64_t n) {
  const int64_t plane = foremost + 2;
  if (plane >= size[0]) return;
  const int64_t row =
      D == 3 ? plane * size[1] + (at.at[D - 2] < size[D - 2] ? at.at[D - 2] : 0) : plane;
  const int64_t length = size[D - 1];
  if (start >= length) return;
  const int64_t end = start + n < length ? start + n : length;
  const char* first = reinterpret_cast<const char*>(values + width * (row * length + start));
  const char* last = reinterpret_cast<const char*>(values + width * (row * length + end));
  for (const char* line = first; line < last; line += 64) _mm_prefetch(line, _MM_HINT_T1);
}

template <int L>
NCR_INLINE int64_t largest(typename Vec<L>::I v) {
  alignas(64) int32_t lanes[L];
  Vec<L>::store(lanes, v);
  int32_t found = lanes[0];
  for (int k = 1; k < L; ++k) found = lanes[k] > found ? lanes[k] : found;
  return found;
}
