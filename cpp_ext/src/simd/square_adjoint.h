// Included once per instruction set, inside its namespace; see square.h and SquareRowsAdjoint: the
// adjoint of a squaring in 3D, where the vectors of a gradient are an aligned four.
//
// A voxel p with incoming gradient g gives dL/du[p] += (derivative of u at p + u[p])^T g, written
// in place, and adds weight * g to the corners of its cell. The identity part, g itself, is in
// `grad` before.

template <int D>
struct PieceAdjoint {
  Piece<D> cells;
  alignas(64) int32_t lower[kSegment];  ///< where to add, in floats of the gradient: the lower
  alignas(64) int32_t upper[kSegment];  ///< and the upper plane of the cell, or nowhere
  alignas(64) float inside[D][kSegment];
};

NCR_INLINE void add_four(float* to, __m128 values) {
  _mm_store_ps(to, _mm_add_ps(_mm_load_ps(to), values));
}

/// dL/du in place for eight voxels whose cells follow one another.
NCR_INLINE void in_place_together(const float* cell, const CornerStrides<3>& s,
                                  const PieceAdjoint<3>& piece, int64_t i, const float* grad_here,
                                  float* grad) {
  __m256 w[3][3], g[3], slope[3][3];  // slope[axis][j]: derivatives, interleaved
  for (int axis = 0; axis < 3; ++axis) {
    spread<3>(_mm256_load_ps(piece.cells.weight[axis] + i), w[axis]);
  }
  from_fours(grad_here, g);
  for (int j = 0; j < 3; ++j) {
    __m256 along[2][2], edge[2];
    for (int end = 0; end < 2; ++end) {
      const float* at = cell + 8 * j + 3 * end;
      const __m256 a = _mm256_loadu_ps(at), c = _mm256_loadu_ps(at + s.outer);
      const __m256 near_y = _mm256_sub_ps(_mm256_loadu_ps(at + s.inner), a);
      const __m256 far_y = _mm256_sub_ps(_mm256_loadu_ps(at + s.outer + s.inner), c);
      const __m256 near = _mm256_fmadd_ps(w[1][j], near_y, a);
      const __m256 far = _mm256_fmadd_ps(w[1][j], far_y, c);
      along[0][end] = _mm256_sub_ps(far, near);
      along[1][end] = lerp(near_y, far_y, w[0][j]);
      edge[end] = _mm256_fmadd_ps(w[0][j], along[0][end], near);
    }
    for (int axis = 0; axis < 2; ++axis) {
      slope[axis][j] = lerp(along[axis][0], along[axis][1], w[2][j]);
    }
    slope[2][j] = _mm256_sub_ps(edge[1], edge[0]);
  }
  __m256 result[3], out[4];
  for (int axis = 0; axis < 3; ++axis) {
    __m256 by[3];
    deinterleave<3>(slope[axis], by);
    result[axis] = _mm256_mul_ps(by[0], g[0]);
    for (int c = 1; c < 3; ++c) result[axis] = _mm256_fmadd_ps(by[c], g[c], result[axis]);
    result[axis] = _mm256_and_ps(result[axis], _mm256_load_ps(piece.inside[axis] + i));
  }
  to_fours(result, out);
  for (int j = 0; j < 4; ++j) {
    float* to = grad + 8 * j;
    _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), out[j]));
  }
}

/// dL/du in place for one voxel.
NCR_INLINE __m128 in_place_one(const float* cell, const CornerStrides<3>& s,
                               const PieceAdjoint<3>& piece, int64_t i, __m128 g) {
  const __m256 wz = _mm256_broadcast_ss(&piece.cells.weight[0][i]);
  const __m256 wy = _mm256_broadcast_ss(&piece.cells.weight[1][i]);
  const __m256 wx = _mm256_broadcast_ss(&piece.cells.weight[2][i]);
  // Lanes 0-2 are the vector at x, 3-5 the one at x + 1; 6 and 7 must not count.
  const __m256 both = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(g),
                                               _mm256_setr_epi32(0, 1, 2, 0, 1, 2, 3, 3));
  const __m256 signs = _mm256_setr_ps(-1, -1, -1, 1, 1, 1, 0, 0);
  const __m256 ones = _mm256_setr_ps(1, 1, 1, 0, 0, 0, 0, 0);
  const __m256 g_edge = _mm256_mul_ps(both, signs);
  const __m256 g_mix = _mm256_mul_ps(both, _mm256_fmadd_ps(wx, signs, ones));
  const __m256 a = _mm256_loadu_ps(cell), c = _mm256_loadu_ps(cell + s.outer);
  const __m256 near_y = _mm256_sub_ps(_mm256_loadu_ps(cell + s.inner), a);
  const __m256 far_y = _mm256_sub_ps(_mm256_loadu_ps(cell + s.outer + s.inner), c);
  const __m256 near = _mm256_fmadd_ps(wy, near_y, a);
  const __m256 far = _mm256_fmadd_ps(wy, far_y, c);
  const __m256 along_z = _mm256_sub_ps(far, near);
  const __m256 along_y = lerp(near_y, far_y, wz);
  const __m256 edge = _mm256_fmadd_ps(wz, along_z, near);
  const auto fold = [](__m256 v) {
    return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  };
  const __m128 z = fold(_mm256_mul_ps(along_z, g_mix));
  const __m128 y = fold(_mm256_mul_ps(along_y, g_mix));
  const __m128 x = fold(_mm256_mul_ps(edge, g_edge));
  const __m128 zy = _mm_add_ps(_mm_unpacklo_ps(z, y), _mm_unpackhi_ps(z, y));
  const __m128 xx = _mm_add_ps(x, _mm_movehl_ps(x, x));
  // zy = (z02, y02, z13, y13), xx = (x02, x13, ..)
  const __m128 first = _mm_shuffle_ps(zy, xx, _MM_SHUFFLE(0, 0, 1, 0));
  const __m128 second = _mm_shuffle_ps(zy, xx, _MM_SHUFFLE(1, 1, 3, 2));
  return _mm_add_ps(first, second);
}

/// The parts of g for the corners of a cell: [plane][inner row][end].
NCR_INLINE void shares(const PieceAdjoint<3>& piece, int64_t i, __m128 g, __m128 (&part)[2][2][2]) {
  const __m128 outer = _mm_broadcast_ss(&piece.cells.weight[0][i]);
  const __m128 last = _mm_broadcast_ss(&piece.cells.weight[2][i]);
  __m128 plane[2];
  plane[1] = _mm_mul_ps(g, outer);
  plane[0] = _mm_sub_ps(g, plane[1]);
  for (int p = 0; p < 2; ++p) {
    __m128 line[2];
    line[1] = _mm_mul_ps(plane[p], _mm_broadcast_ss(&piece.cells.weight[1][i]));
    line[0] = _mm_sub_ps(plane[p], line[1]);
    for (int l = 0; l < 2; ++l) {
      part[p][l][1] = _mm_mul_ps(line[l], last);
      part[p][l][0] = _mm_sub_ps(line[l], part[p][l][1]);
    }
  }
}

void square_rows_adjoint_3d(const SquareRowsAdjoint& task, int64_t begin, int64_t end) {
  const Bounds<3, kWide> bounds(task.size);
  const CornerStrides<3> strides(task.size, 3), grad_strides(task.size, 4);
  const int64_t length = task.size[2];
  const int64_t inner = grad_strides.inner;
  using V = Vec<kWide>;
  const auto one = V::set(task.size[0] > 1 ? 1 : 0);
  const auto outer = V::set(static_cast<int>(grad_strides.outer));
  const int first = static_cast<int>(task.first), end_plane = static_cast<int>(task.end);
  PieceAdjoint<3> piece;
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<3> at(row, task.size);
    const bool own = at.at[0] >= task.first && at.at[0] < task.end;
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      const float* here = task.field + 3 * base;
      const float* grad_here = task.grad_squared + 4 * base;
      float* grad_own = task.grad + 4 * base;
      auto foremost = V::set(0);
      for (int64_t i = 0; i < n; i += kWide) {
        typename V::F raw[3], u[3], position[3];
        load_vectors<3>(here + 3 * i, raw);
        deinterleave<3>(raw, u);
        move<3, kWide>(at, start + i, u, position);
        const auto l = locate<3, kWide>(position, bounds);
        foremost = V::max(foremost, l.index[0]);
        const auto in_field = V::mul(l.offset, V::set(3));
        V::store(piece.cells.offset + i, in_field);
        for (int axis = 0; axis < 3; ++axis) {
          V::store(piece.cells.weight[axis] + i, l.weight[axis]);
          V::store(piece.inside[axis] + i, V::keep(l.inside[axis], V::set_bits()));
        }
        note_together<3>(i, n, in_field, piece.cells.together);
        // Planes of other owners are added to an unused place.
        const auto to = V::mul(l.offset, V::set(4));
        const auto away =
            V::add(V::set(static_cast<int>(task.nowhere)), V::mul(l.index[2], V::set(4)));
        V::store(piece.lower + i, V::choose_in(l.index[0], first, end_plane, to, away));
        V::store(piece.upper + i,
                 V::choose_in(V::add(l.index[0], one), first, end_plane, V::add(to, outer), away));
        for (int64_t k = i; k < i + kWide; k += 4) {
          if (own) prefetch_cell<3>(task.field + piece.cells.offset[k], strides);
          const int32_t places[2] = {piece.lower[k], piece.upper[k]};
          for (const int32_t o : places) {
            _mm_prefetch(reinterpret_cast<const char*>(task.grad + o), _MM_HINT_T0);
            _mm_prefetch(reinterpret_cast<const char*>(task.grad + o + inner), _MM_HINT_T0);
          }
        }
      }
      if (own) prefetch_ahead<3>(task.field, 3, task.size, at, largest<kWide>(foremost), start, n);
      for (int64_t i = 0; i < n; i += kLanes) {
        if (piece.cells.together[i / kLanes]) {
          if (own) {
            in_place_together(task.field + piece.cells.offset[i], strides, piece, i,
                              grad_here + 4 * i, grad_own + 4 * i);
          }
          // What one voxel gives to x + 1 and the next to x meets in a register.
          __m128 carry[2][2];
          float* to[2] = {task.grad + piece.lower[i], task.grad + piece.upper[i]};
          for (int p = 0; p < 2; ++p) {
            for (int l = 0; l < 2; ++l) carry[p][l] = _mm_setzero_ps();
          }
          for (int64_t k = 0; k < kLanes; ++k) {
            __m128 part[2][2][2];
            shares(piece, i + k, _mm_load_ps(grad_here + 4 * (i + k)), part);
            for (int p = 0; p < 2; ++p) {
              for (int l = 0; l < 2; ++l) {
                add_four(to[p] + l * inner + 4 * k, _mm_add_ps(carry[p][l], part[p][l][0]));
                carry[p][l] = part[p][l][1];
              }
            }
          }
          for (int p = 0; p < 2; ++p) {
            for (int l = 0; l < 2; ++l) add_four(to[p] + l * inner + 4 * kLanes, carry[p][l]);
          }
          continue;
        }
        const int64_t stop = i + kLanes < n ? i + kLanes : n;

        for (int64_t k = i; k < stop; ++k) {
          const __m128 g = _mm_load_ps(grad_here + 4 * k);
          if (own) {
            __m128 found = in_place_one(task.field + piece.cells.offset[k], strides, piece, k, g);
            // The last lane is not zero.
            const __m128 mask =
                _mm_setr_ps(piece.inside[0][k], piece.inside[1][k], piece.inside[2][k], 0.0f);
            found = _mm_and_ps(found, mask);
            add_four(grad_own + 4 * k, found);
          }
          __m128 part[2][2][2];
          shares(piece, k, g, part);
          float* to[2] = {task.grad + piece.lower[k], task.grad + piece.upper[k]};
          for (int p = 0; p < 2; ++p) {
            for (int l = 0; l < 2; ++l) {
              add_four(to[p] + l * inner, part[p][l][0]);
              add_four(to[p] + l * inner + 4, part[p][l][1]);
            }
          }
        }
      }
    }
  }
}
