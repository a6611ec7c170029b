// Included once per instruction set, inside its namespace. One squaring of an exponential and its
// adjoint on interleaved vectors; see rows.h. Two passes per piece of a row: first all offsets and
// weights, then the interpolation; in one loop every voxel would wait for its own address.

/// What the first pass leaves for the second.
template <int D>
struct Piece {
  alignas(64) int32_t offset[kSegment];  ///< of the cells, in floats of the field
  alignas(64) float weight[D][kSegment];
  bool together[kSegment / kLanes];  ///< the group's offsets follow one another
};

template <int D>
NCR_INLINE void load_vectors(const float* field, __m256 (&out)[D]) {
  for (int j = 0; j < D; ++j) out[j] = _mm256_loadu_ps(field + 8 * j);
}

#if defined(__AVX512F__)
template <int D>
NCR_INLINE void load_vectors(const float* field, __m512 (&out)[D]) {
  for (int j = 0; j < D; ++j) out[j] = _mm512_loadu_ps(field + 16 * j);
}
#endif

/// Strides of the corners in floats of the field; 0 along axes of one voxel.
template <int D>
struct CornerStrides {
  int64_t outer, inner;  ///< 3D: z and y; 2D: y and none

  NCR_INLINE CornerStrides(const int64_t* size, int64_t width) {
    if constexpr (D == 3) {
      outer = size[0] > 1 ? size[1] * size[2] * width : 0;
      inner = size[1] > 1 ? size[2] * width : 0;
    } else {
      outer = size[0] > 1 ? size[1] * width : 0;
      inner = 0;
    }
  }
};

template <int D>
NCR_INLINE void prefetch_cell(const float* cell, const CornerStrides<D>& s) {
  const auto fetch = [](const float* p) {
    _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
  };
  fetch(cell);
  fetch(cell + s.outer);
  if constexpr (D == 3) {
    fetch(cell + s.inner);
    fetch(cell + s.outer + s.inner);
  }
}

/// For each eight of the voxels from i on: whether their cells, D floats wide, follow one another
/// and all belong to the n voxels of the piece.
template <int D>
NCR_INLINE void note_together(int64_t i, int64_t n, __m256i offset, bool* together) {
  together[i / kLanes] = i + kLanes <= n && consecutive<D>(offset);
}

#if defined(__AVX512F__)
template <int D>
NCR_INLINE void note_together(int64_t i, int64_t n, __m512i offset, bool* together) {
  const unsigned found = follow_one_another<D>(offset);
  together[i / kLanes] = i + kLanes <= n && (found & 0xff) == 0xff;
  together[i / kLanes + 1] = i + 2 * kLanes <= n && found >> 8 == 0xff;
}
#endif

/// Interpolated vectors of eight voxels whose cells follow one another; `s` in floats.
template <int D>
NCR_INLINE void sample_together(const float* cell, const CornerStrides<D>& s,
                                const __m256 (&weight)[D], __m256 (&out)[D]) {
  __m256 w[D][D];
  for (int axis = 0; axis < D; ++axis) spread<D>(weight[axis], w[axis]);
  for (int j = 0; j < D; ++j) {
    __m256 ends[2];
    for (int end = 0; end < 2; ++end) {
      const float* at = cell + 8 * j + D * end;
      if constexpr (D == 3) {
        const __m256 near = lerp(_mm256_loadu_ps(at), _mm256_loadu_ps(at + s.inner), w[1][j]);
        const __m256 far =
            lerp(_mm256_loadu_ps(at + s.outer), _mm256_loadu_ps(at + s.outer + s.inner), w[1][j]);
        ends[end] = lerp(near, far, w[0][j]);
      } else {
        ends[end] = lerp(_mm256_loadu_ps(at), _mm256_loadu_ps(at + s.outer), w[0][j]);
      }
    }
    out[j] = lerp(ends[0], ends[1], w[D - 1][j]);
  }
}

/// The interpolated vector of one voxel in the first D lanes.
template <int D>
NCR_INLINE __m128 sample_one(const float* cell, const CornerStrides<D>& s, const Piece<D>& piece,
                             int64_t i) {
  if constexpr (D == 3) {
    const __m256 wz = _mm256_broadcast_ss(&piece.weight[0][i]);
    const __m256 wy = _mm256_broadcast_ss(&piece.weight[1][i]);
    const __m128 wx = _mm_broadcast_ss(&piece.weight[2][i]);
    const __m256 near = lerp(_mm256_loadu_ps(cell), _mm256_loadu_ps(cell + s.inner), wy);
    const __m256 far =
        lerp(_mm256_loadu_ps(cell + s.outer), _mm256_loadu_ps(cell + s.outer + s.inner), wy);
    const __m256 edge = lerp(near, far, wz);
    const __m128 low = _mm256_castps256_ps128(edge);
    const __m128 high = _mm256_castps256_ps128(
        _mm256_permutevar8x32_ps(edge, _mm256_setr_epi32(3, 4, 5, 6, 6, 6, 6, 6)));
    return _mm_fmadd_ps(wx, _mm_sub_ps(high, low), low);
  } else {
    const __m128 wy = _mm_broadcast_ss(&piece.weight[0][i]);
    const __m128 wx = _mm_broadcast_ss(&piece.weight[1][i]);
    const __m128 near = _mm_loadu_ps(cell);
    const __m128 far = _mm_loadu_ps(cell + s.outer);
    const __m128 edge = _mm_fmadd_ps(wy, _mm_sub_ps(far, near), near);
    const __m128 high = _mm_movehl_ps(edge, edge);
    return _mm_fmadd_ps(wx, _mm_sub_ps(high, edge), edge);
  }
}

template <int D>
void square_rows(const SquareRows& task, int64_t begin, int64_t end) {
  const Bounds<D, kWide> bounds(task.size);
  const CornerStrides<D> strides(task.size, D);
  const int64_t length = task.size[D - 1];
  int64_t count = 1;
  for (int axis = 0; axis < D; ++axis) count *= task.size[axis];
  Piece<D> piece;
  alignas(32) float result[D * kSegment + 8];
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<D> at(row, task.size);
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const float* here = task.field + D * (row * length + start);
      using V = Vec<kWide>;
      auto foremost = V::set(0);
      for (int64_t i = 0; i < n; i += kWide) {
        typename V::F raw[D], u[D], position[D];
        load_vectors<D>(here + D * i, raw);
        deinterleave<D>(raw, u);
        move<D, kWide>(at, start + i, u, position);
        const auto l = locate<D, kWide>(position, bounds);
        foremost = V::max(foremost, l.index[0]);
        const auto offset = V::mul(l.offset, V::set(D));
        V::store(piece.offset + i, offset);
        for (int axis = 0; axis < D; ++axis) V::store(piece.weight[axis] + i, l.weight[axis]);
        note_together<D>(i, n, offset, piece.together);
        // In 2D the processor foresees it.
        for (int64_t k = 0; D == 3 && k < kWide; k += 4) {
          prefetch_cell<D>(task.field + piece.offset[i + k], strides);
        }
      }
      prefetch_ahead<D>(task.field, D, task.size, at, largest<kWide>(foremost), start, n);
      float* out = task.squared != nullptr ? task.squared + D * (row * length + start) : result;
      for (int64_t i = 0; i < n; i += kLanes) {
        if (piece.together[i / kLanes]) {
          __m256 weight[D], moved[D], raw[D];
          for (int axis = 0; axis < D; ++axis)
            weight[axis] = _mm256_load_ps(piece.weight[axis] + i);
          sample_together<D>(task.field + piece.offset[i], strides, weight, moved);
          load_vectors<D>(here + D * i, raw);
          for (int j = 0; j < D; ++j) {
            _mm256_storeu_ps(out + D * i + 8 * j, _mm256_add_ps(raw[j], moved[j]));
          }
          continue;
        }
        const int64_t stop = i + kLanes < n ? i + kLanes : n;
        for (int64_t k = i; k < stop; ++k) {
          const __m128 moved = sample_one<D>(task.field + piece.offset[k], strides, piece, k);
          const __m128 sum = _mm_add_ps(_mm_loadu_ps(here + D * k), moved);
          if constexpr (D == 2) {
            _mm_storel_pi(reinterpret_cast<__m64*>(out + 2 * k), sum);
          } else if (k < n - 1) {
            _mm_storeu_ps(out + 3 * k, sum);  // The next voxel overwrites the fourth.
          } else {
            _mm_storel_pi(reinterpret_cast<__m64*>(out + 3 * k), sum);
            _mm_store_ss(out + 3 * k + 2, _mm_movehl_ps(sum, sum));
          }
        }
      }
      if (task.planes == nullptr) continue;
      const float* from = task.squared != nullptr ? out : result;
      for (int64_t i = 0; i < n; i += kLanes) {
        __m256 raw[D], v[D];
        load_vectors<D>(from + D * i, raw);
        deinterleave<D>(raw, v);
        for (int c = 0; c < D; ++c) {
          store_some(task.planes + c * count + row * length + start + i, v[c], n - i);
        }
      }
    }
  }
}

/// Voxels [begin, end) of planes (D, count), times factor, as interleaved vectors.
template <int D>
void pack(const float* planes, int64_t count, float factor, float* field, int64_t begin,
          int64_t end) {
  const __m256 f = _mm256_set1_ps(factor);
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    __m256 v[D], out[D];
    for (int c = 0; c < D; ++c) v[c] = _mm256_mul_ps(f, _mm256_loadu_ps(planes + c * count + i));
    interleave<D>(v, out);
    for (int j = 0; j < D; ++j) _mm256_storeu_ps(field + D * i + 8 * j, out[j]);
  }
  for (; i < end; ++i) {
    for (int c = 0; c < D; ++c) field[D * i + c] = factor * planes[c * count + i];
  }
}

/// The same as vectors of a gradient.
template <int D>
void pack_gradient(const float* planes, int64_t count, float* grad, int64_t begin, int64_t end) {
  if constexpr (D == 2) {
    pack<D>(planes, count, 1.0f, grad, begin, end);
  } else {
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      __m256 v[D], out[4];
      for (int c = 0; c < D; ++c) v[c] = _mm256_loadu_ps(planes + c * count + i);
      to_fours(v, out);
      for (int j = 0; j < 4; ++j) _mm256_storeu_ps(grad + 4 * i + 8 * j, out[j]);
    }
    for (; i < end; ++i) {
      for (int c = 0; c < 4; ++c) grad[4 * i + c] = c < D ? planes[c * count + i] : 0.0f;
    }
  }
}

template <int D>
void unpack_gradient(const float* grad, int64_t count, float factor, float* planes, int64_t begin,
                     int64_t end) {
  constexpr int kWidth = gradient_width(D);
  const __m256 f = _mm256_set1_ps(factor);
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    __m256 v[D];
    if constexpr (D == 2) {
      __m256 raw[D];
      load_vectors<D>(grad + D * i, raw);
      deinterleave<D>(raw, v);
    } else {
      from_fours(grad + 4 * i, v);
    }
    for (int c = 0; c < D; ++c) _mm256_storeu_ps(planes + c * count + i, _mm256_mul_ps(f, v[c]));
  }
  for (; i < end; ++i) {
    for (int c = 0; c < D; ++c) planes[c * count + i] = factor * grad[kWidth * i + c];
  }
}
