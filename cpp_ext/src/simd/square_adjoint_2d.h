// Included once per instruction set, inside its namespace, after square_adjoint.h: the adjoint of a
// squaring in 2D, where gradients are interleaved as the fields are. One offset then serves both,
// and four voxels share a vector.

/// A vector of two floats per voxel, four voxels; kPair 0: voxels 0 and 2, each lane pair twice; 1:
/// voxels 1 and 3.
template <int kPair>
NCR_INLINE __m256 doubled(__m256 vectors) {
  return _mm256_castpd_ps(_mm256_permute_pd(_mm256_castps_pd(vectors), kPair == 0 ? 0 : 0xf));
}

/// Of eight weights those of voxels 4 j + kPair and 4 j + kPair + 2, each four times.
template <int kPair>
NCR_INLINE __m256 of_two(__m256 weights, int j) {
  const __m256i first =
      _mm256_setr_epi32(kPair, kPair, kPair, kPair, kPair + 2, kPair + 2, kPair + 2, kPair + 2);
  return _mm256_permutevar8x32_ps(weights, _mm256_add_epi32(first, _mm256_set1_epi32(4 * j)));
}

/// (dL/du_y, dL/du_x) before the last addition, of voxels 4 j + kPair and 4 j + kPair + 2.
template <int kPair>
NCR_INLINE __m256 in_place_two(const float* field, int64_t outer, const int32_t* offset, __m256 wy,
                               __m256 wx, __m256 g, int j) {
  const float* a = field + offset[4 * j + kPair];
  const float* b = field + offset[4 * j + kPair + 2];
  const auto both_cells = [](const float* first, const float* second) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(first)), _mm_loadu_ps(second),
                                1);
  };
  const __m256 signs = _mm256_setr_ps(-1, -1, 1, 1, -1, -1, 1, 1);
  const __m256 near = both_cells(a, b);
  const __m256 along = _mm256_sub_ps(both_cells(a + outer, b + outer), near);
  const __m256 edge = _mm256_fmadd_ps(of_two<kPair>(wy, j), along, near);
  const __m256 mix =
      _mm256_fmadd_ps(of_two<kPair>(wx, j), signs, _mm256_setr_ps(1, 1, 0, 0, 1, 1, 0, 0));
  const __m256 both = doubled<kPair>(g);
  const __m256 y = _mm256_mul_ps(_mm256_mul_ps(along, both), mix);
  const __m256 x = _mm256_mul_ps(_mm256_mul_ps(edge, both), signs);
  return _mm256_add_ps(_mm256_unpacklo_ps(y, x), _mm256_unpackhi_ps(y, x));
}

/// dL/du of four voxels whose cells follow one another; `cell` is that of the first.
NCR_INLINE __m256 in_place_four(const float* cell, int64_t outer, __m256 wy, __m256 wx, __m256 g) {
  __m256 along[2], edge[2];
  for (int end = 0; end < 2; ++end) {
    const __m256 near = _mm256_loadu_ps(cell + 2 * end);
    along[end] = _mm256_sub_ps(_mm256_loadu_ps(cell + outer + 2 * end), near);
    edge[end] = _mm256_fmadd_ps(wy, along[end], near);
  }
  const __m256 y = _mm256_mul_ps(lerp(along[0], along[1], wx), g);
  const __m256 x = _mm256_mul_ps(_mm256_sub_ps(edge[1], edge[0]), g);
  const __m256 sum = _mm256_add_ps(_mm256_shuffle_ps(y, x, 0x88), _mm256_shuffle_ps(y, x, 0xdd));
  return _mm256_permute_ps(sum, 0xd8);
}

/// What a run of cells that follow one another gives to the next cell: it meets that cell's own
/// share in a register.
struct Carry {
  __m256d turned[2];  ///< per plane; the first two floats count
  float* to[2];
  bool open = false;

  NCR_INLINE void flush() {
    if (!open) return;
    open = false;
    for (int p = 0; p < 2; ++p) {
      alignas(32) float values[8];
      _mm256_store_ps(values, _mm256_castpd_ps(turned[p]));
      add_two(to[p], values);
    }
  }
};

void square_rows_adjoint_2d(const SquareRowsAdjoint& task, int64_t begin, int64_t end) {
  constexpr int D = 2;
  const Bounds<D, kWide> bounds(task.size);
  const CornerStrides<D> strides(task.size, D);
  const int64_t length = task.size[1];
  using V = Vec<kWide>;
  const auto one = V::set(task.size[0] > 1 ? 1 : 0);
  const auto outer = V::set(static_cast<int>(strides.outer));
  const int first = static_cast<int>(task.first), end_plane = static_cast<int>(task.end);
  PieceAdjoint<D> piece;
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<D> at(row, task.size);
    const bool own = row >= task.first && row < task.end;
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      const float* here = task.field + D * base;
      const float* grad_here = task.grad_squared + D * base;
      float* grad_own = task.grad + D * base;
      auto foremost = V::set(0);
      for (int64_t i = 0; i < n; i += kWide) {
        typename V::F raw[D], u[D], position[D];
        load_vectors<D>(here + D * i, raw);
        deinterleave<D>(raw, u);
        move<D, kWide>(at, start + i, u, position);
        const auto l = locate<D, kWide>(position, bounds);
        foremost = V::max(foremost, l.index[0]);
        const auto to = V::mul(l.offset, V::set(D));
        V::store(piece.cells.offset + i, to);
        for (int axis = 0; axis < D; ++axis) {
          V::store(piece.cells.weight[axis] + i, l.weight[axis]);
          V::store(piece.inside[axis] + i, V::keep(l.inside[axis], V::set_bits()));
        }
        note_together<D>(i, n, to, piece.cells.together);
        // Planes of other owners are added to an unused place.
        const auto away =
            V::add(V::set(static_cast<int>(task.nowhere)), V::mul(l.index[1], V::set(D)));
        V::store(piece.lower + i, V::choose_in(l.index[0], first, end_plane, to, away));
        V::store(piece.upper + i,
                 V::choose_in(V::add(l.index[0], one), first, end_plane, V::add(to, outer), away));
      }
      if (own) prefetch_ahead<D>(task.field, D, task.size, at, largest<kWide>(foremost), start, n);
      // A loop of its own, long before the other adds to the same places: see add_two.
      for (int64_t i = 0; own && i < n; i += kLanes) {
        const int32_t* offset = piece.cells.offset + i;
        const __m256 wy = _mm256_load_ps(piece.cells.weight[0] + i);
        const __m256 wx = _mm256_load_ps(piece.cells.weight[1] + i);
        const __m256 inside[2] = {_mm256_load_ps(piece.inside[0] + i),
                                  _mm256_load_ps(piece.inside[1] + i)};
        __m256 g[2], found[2], mask[2];
        load_vectors<D>(grad_here + D * i, g);
        interleave<D>(inside, mask);
        if (piece.cells.together[i / kLanes]) {
          __m256 wys[2], wxs[2];
          spread<D>(wy, wys);
          spread<D>(wx, wxs);
          for (int j = 0; j < 2; ++j) {
            found[j] =
                in_place_four(task.field + offset[0] + 8 * j, strides.outer, wys[j], wxs[j], g[j]);
          }
        } else {
          for (int j = 0; j < 2; ++j) {
            const __m256d even = _mm256_castps_pd(
                in_place_two<0>(task.field, strides.outer, offset, wy, wx, g[j], j));
            const __m256d odd = _mm256_castps_pd(
                in_place_two<1>(task.field, strides.outer, offset, wy, wx, g[j], j));
            found[j] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(even, odd)),
                                     _mm256_castpd_ps(_mm256_unpackhi_pd(even, odd)));
          }
        }
        for (int j = 0; j < 2; ++j) {
          float* to = grad_own + D * i + 8 * j;
          const int64_t left = D * (n - i) - 8 * j;
          const __m256 sum =
              _mm256_add_ps(Vec<8>::load_some(to, left), _mm256_and_ps(found[j], mask[j]));
          Vec<8>::store_some(to, sum, left);
        }
      }
      Carry carry;
      for (int64_t i = 0; i < n; i += kLanes) {
        __m256 g[2], wys[2], wxs[2];
        load_vectors<D>(grad_here + D * i, g);
        spread<D>(_mm256_load_ps(piece.cells.weight[0] + i), wys);
        spread<D>(_mm256_load_ps(piece.cells.weight[1] + i), wxs);
        __m256 low[2][2], high[2][2];  // [plane][four voxels]
        for (int j = 0; j < 2; ++j) {
          const __m256 upper = _mm256_mul_ps(g[j], wys[j]);
          const __m256 by_plane[2] = {_mm256_sub_ps(g[j], upper), upper};
          for (int p = 0; p < 2; ++p) {
            high[p][j] = _mm256_mul_ps(by_plane[p], wxs[j]);
            low[p][j] = _mm256_sub_ps(by_plane[p], high[p][j]);
          }
        }
        float* const to[2] = {task.grad + piece.lower[i], task.grad + piece.upper[i]};
        if (piece.cells.together[i / kLanes]) {
          if (!carry.open || carry.to[0] != to[0] || carry.to[1] != to[1]) {
            carry.flush();
            carry.open = true;
            for (int p = 0; p < 2; ++p) carry.turned[p] = _mm256_setzero_pd();
          }
          for (int p = 0; p < 2; ++p) {
            for (int j = 0; j < 2; ++j) {
              const __m256d turned = _mm256_permute4x64_pd(_mm256_castps_pd(high[p][j]), 0x93);
              const __m256d moved_up = _mm256_blend_pd(turned, carry.turned[p], 1);
              carry.turned[p] = turned;
              float* at_cell = to[p] + 8 * j;
              const __m256 sum = _mm256_add_ps(low[p][j], _mm256_castpd_ps(moved_up));
              _mm256_storeu_ps(at_cell, _mm256_add_ps(_mm256_loadu_ps(at_cell), sum));
            }
            carry.to[p] = to[p] + D * kLanes;
          }
          continue;
        }
        carry.flush();
        alignas(32) float parts[2][2][D * kLanes + 2];  // [plane][end]
        for (int p = 0; p < 2; ++p) {
          for (int j = 0; j < 2; ++j) {
            _mm256_storeu_ps(parts[p][0] + 8 * j, low[p][j]);
            _mm256_storeu_ps(parts[p][1] + 8 * j, high[p][j]);
          }
        }
        const int64_t lanes = n - i < kLanes ? n - i : kLanes;
        for (int64_t k = 0; k < lanes; ++k) {
          float* const cell[2] = {task.grad + piece.lower[i + k], task.grad + piece.upper[i + k]};
          for (int p = 0; p < 2; ++p) {
            add_two(cell[p], parts[p][0] + D * k);
            add_two(cell[p] + D, parts[p][1] + D * k);
          }
        }
      }
      carry.flush();
    }
  }
}
