// Included once per instruction set, inside its namespace. Linear interpolation of planar images;
// see rows.h. The corners of L cells come into the lanes of vectors, eight at a time: by plain
// loads where cells follow one another, by pairs (x, x + 1) where they do not. (One masked load per
// set of lanes with a common base took two to three times as long as pairs.)

/// Values at the 2^D corners of L cells: [plane][inner row][end].
template <int D, int L>
struct Corners {
  typename Vec<L>::F value[2][D - 1][2];
};

/// Where the cells of a piece of a row lie; the first of two passes.
template <int D, int L>
struct Cells {
  alignas(64) int32_t offset[kSegment];  ///< in floats of a channel
  alignas(64) float weight[D][kSegment];
  typename Vec<L>::M inside[D][kSegment / L];
  alignas(64) int32_t plane[kSegment];  ///< index along the slowest axis
  bool together[kSegment / 8];          ///< eight cells follow one another
};

/// Eight pairs of neighbours along a row.
NCR_INLINE void load_pairs(const float* image, const int32_t* offset, __m256 (&ends)[2]) {
  const auto two = [&](int a, int b) {
    const __m128 low =
        _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(image + offset[a])));
    return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(image + offset[b]));
  };
  const __m256 a = _mm256_insertf128_ps(_mm256_castps128_ps256(two(0, 1)), two(4, 5), 1);
  const __m256 b = _mm256_insertf128_ps(_mm256_castps128_ps256(two(2, 3)), two(6, 7), 1);
  ends[0] = _mm256_shuffle_ps(a, b, 0x88);
  ends[1] = _mm256_shuffle_ps(a, b, 0xdd);
}

/// Both ends of eight edges of cells.
NCR_INLINE void load_ends(const float* image, const int32_t* offset, bool together,
                          __m256 (&ends)[2]) {
  if (together) {
    ends[0] = _mm256_loadu_ps(image + offset[0]);
    ends[1] = _mm256_loadu_ps(image + offset[0] + 1);
  } else {
    load_pairs(image, offset, ends);
  }
}

template <int D, int L>
NCR_INLINE Corners<D, L> corners(const float* image, const CornerStrides<D>& s,
                                 const Cells<D, L>& cells, int64_t i) {
  Corners<D, L> c;
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < D - 1; ++l) {
      const float* from = image + p * s.outer + l * s.inner;
      if constexpr (L == 8) {
        load_ends(from, cells.offset + i, cells.together[i / 8], c.value[p][l]);
      }
#if defined(__AVX512F__)
      if constexpr (L == 16) {
        __m256 low[2], high[2];
        load_ends(from, cells.offset + i, cells.together[i / 8], low);
        load_ends(from, cells.offset + i + 8, cells.together[i / 8 + 1], high);
        for (int end = 0; end < 2; ++end) {
          c.value[p][l][end] = _mm512_insertf32x8(_mm512_castps256_ps512(low[end]), high[end], 1);
        }
      }
#endif
    }
  }
  return c;
}

/// The interpolated values and, if wanted, their derivatives along the axes.
template <int D, int L, bool kDerive>
NCR_INLINE typename Vec<L>::F interpolate(const Corners<D, L>& c, const Cells<D, L>& cells,
                                          int64_t i, typename Vec<L>::F (&slope)[D]) {
  using F = typename Vec<L>::F;
  F w[D];
  for (int axis = 0; axis < D; ++axis) w[axis] = Vec<L>::load(cells.weight[axis] + i);
  F line[2][D - 1];  // interpolated along x
  F rise[2][D - 1];
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < D - 1; ++l) {
      rise[p][l] = c.value[p][l][1] - c.value[p][l][0];
      line[p][l] = c.value[p][l][0] + w[D - 1] * rise[p][l];
    }
  }
  F plane[2], rise_in_plane[2];
  for (int p = 0; p < 2; ++p) {
    if constexpr (D == 3) {
      plane[p] = lerp(line[p][0], line[p][1], w[1]);
      if (kDerive) rise_in_plane[p] = lerp(rise[p][0], rise[p][1], w[1]);
    } else {
      plane[p] = line[p][0];
      if (kDerive) rise_in_plane[p] = rise[p][0];
    }
  }
  const F across = plane[1] - plane[0];
  if constexpr (kDerive) {
    slope[0] = across;
    if constexpr (D == 3) slope[1] = lerp(line[0][1] - line[0][0], line[1][1] - line[1][0], w[0]);
    slope[D - 1] = lerp(rise_in_plane[0], rise_in_plane[1], w[0]);
  }
  return plane[0] + w[0] * across;
}

/// First pass over a piece of a row; returns the foremost plane.
template <int D, int L>
NCR_INLINE int64_t find_cells(const float* displacement, int64_t count, const RowAt<D>& at,
                              int64_t base, int64_t start, int64_t n, const Bounds<D, L>& bounds,
                              const float* image, const CornerStrides<D>& strides,
                              Cells<D, L>& cells) {
  using V = Vec<L>;
  auto foremost = V::set(0);
  for (int64_t i = 0; i < n; i += L) {
    typename V::F u[D], position[D];
    for (int axis = 0; axis < D; ++axis) {
      u[axis] = V::load_some(displacement + axis * count + base + i, n - i);
    }
    move<D, L>(at, start + i, u, position);
    const auto l = locate<D, L>(position, bounds);
    foremost = V::max(foremost, l.index[0]);
    for (int axis = 0; axis < D; ++axis) {
      V::store(cells.weight[axis] + i, l.weight[axis]);
      cells.inside[axis][i / L] = l.inside[axis];
    }
    V::store(cells.offset + i, l.offset);
    V::store(cells.plane + i, l.index[0]);
    if constexpr (L == 8) {
      cells.together[i / 8] = consecutive<1>(l.offset);
    } else {
#if defined(__AVX512F__)
      const unsigned found = follow_one_another<1>(l.offset);
      cells.together[i / 8] = (found & 0xff) == 0xff;
      cells.together[i / 8 + 1] = found >> 8 == 0xff;
#endif
    }
    if (image == nullptr) continue;
    for (int64_t k = 0; k < L; k += 4) {
      prefetch_cell<D>(image + cells.offset[i + k], strides);
    }
  }
  return largest<L>(foremost);
}

/// Runs body(base, start, n) for every piece of the rows, after its first pass.
template <int D, int L, class Task, class Body>
NCR_INLINE void for_each_piece(const Task& task, const float* image, int64_t begin, int64_t end,
                               Cells<D, L>& cells, const Body& body) {
  const Bounds<D, L> bounds(task.size_in);
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t length = task.size_out[D - 1];
  int64_t count = 1;
  for (int axis = 0; axis < D; ++axis) count *= task.size_out[axis];
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<D> at(row, task.size_out);
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      const int64_t foremost = find_cells<D, L>(task.displacement, count, at, base, start, n,
                                                bounds, image, strides, cells);
      if (image != nullptr) {
        prefetch_ahead<D>(image, 1, task.size_in, at, foremost, start, n);
      }
      body(row, base, n);
    }
  }
}

template <int D>
NCR_INLINE int64_t voxels(const int64_t* size) {
  int64_t count = 1;
  for (int axis = 0; axis < D; ++axis) count *= size[axis];
  return count;
}

template <int D, int L>
void warp_rows(const WarpRows& task, int64_t begin, int64_t end) {
  using V = Vec<L>;
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D, L> cells;
  for_each_piece<D, L>(task, task.image, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t c = 0; c < task.channels; ++c) {
      const float* image = task.image + c * count_in;
      const int64_t out = c * count_out + base;
      for (int64_t i = 0; i < n; i += L) {
        typename V::F unused[D];
        auto value =
            interpolate<D, L, false>(corners<D, L>(image, strides, cells, i), cells, i, unused);
        if (task.addend != nullptr) {
          value = value + V::load_some(task.addend + out + i, n - i);
        }
        V::store_some(task.moved + out + i, value, n - i);
      }
    }
  });
}

template <int D, int L>
void warp_rows_adjoint(const WarpRowsAdjoint& task, int64_t begin, int64_t end) {
  using V = Vec<L>;
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D, L> cells;
  for_each_piece<D, L>(task, task.image, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t i = 0; i < n; i += L) {
      typename V::F sum[D], slope[D];
      for (int axis = 0; axis < D; ++axis) sum[axis] = V::set(0.0f);
      for (int64_t c = 0; c < task.channels; ++c) {
        interpolate<D, L, true>(corners<D, L>(task.image + c * count_in, strides, cells, i), cells,
                                i, slope);
        const auto g = V::load_some(task.grad_moved + c * count_out + base + i, n - i);
        for (int axis = 0; axis < D; ++axis) sum[axis] = sum[axis] + slope[axis] * g;
      }
      for (int axis = 0; axis < D; ++axis) {
        const int64_t out = axis * count_out + base + i;
        sum[axis] = V::keep(cells.inside[axis][i / L], sum[axis]);
        if (task.identity) {
          sum[axis] = sum[axis] + V::load_some(task.grad_moved + out, n - i);
        }
        V::store_some(task.grad_displacement + out, sum[axis], n - i);
      }
    }
  });
}

template <int D>
void warp_rows_scatter(const WarpRowsScatter& task, int64_t begin, int64_t end) {
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_out = voxels<D>(task.size_out);
  const int64_t plane = voxels<D>(task.size_in) / task.size_in[0];
  const int64_t count_here = (task.end - task.first + 1) * plane;
  const int above = task.size_in[0] > 1 ? 1 : 0;
  const int first = static_cast<int>(task.first), end_plane = static_cast<int>(task.end);
  constexpr int kLines = 2 * (D - 1);
  Cells<D, 8> cells;
  alignas(64) int32_t to[2][kSegment];
  alignas(64) float ends[kLines][2 * kSegment];  // what a voxel gives to both ends of an edge
  for_each_piece<D, 8>(task, nullptr, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) {
      // Planes of other owners are replaced by the plane that nobody reads.
      const __m256i z = _mm256_load_si256(reinterpret_cast<const __m256i*>(cells.plane + i));
      const __m256i in_plane =
          Vec<8>::sub(_mm256_load_si256(reinterpret_cast<const __m256i*>(cells.offset + i)),
                      Vec<8>::mul(z, Vec<8>::set(static_cast<int>(plane))));
      for (int p = 0; p < 2; ++p) {
        const __m256i at = Vec<8>::add(z, Vec<8>::set(p * above));
        const __m256i slab_plane =
            Vec<8>::choose_in(at, first, end_plane, Vec<8>::sub(at, Vec<8>::set(first)),
                              Vec<8>::set(end_plane - first));
        Vec<8>::store(
            to[p] + i,
            Vec<8>::add(Vec<8>::mul(slab_plane, Vec<8>::set(static_cast<int>(plane))), in_plane));
      }
      cells.together[i / kLanes] = cells.together[i / kLanes] && n - i >= kLanes;
    }
    for (int64_t c = 0; c < task.channels; ++c) {
      float* grad = task.grad + c * count_here;
      for (int64_t i = 0; i < n; i += kLanes) {
        const __m256 w[3] = {_mm256_load_ps(cells.weight[0] + i),
                             _mm256_load_ps(cells.weight[1] + i),
                             _mm256_load_ps(cells.weight[D - 1] + i)};
        const __m256 g = Vec<8>::load_some(task.grad_moved + c * count_out + base + i, n - i);
        __m256 by_plane[2];
        by_plane[1] = _mm256_mul_ps(g, w[0]);
        by_plane[0] = _mm256_sub_ps(g, by_plane[1]);
        for (int p = 0; p < 2; ++p) {
          for (int l = 0; l < D - 1; ++l) {
            __m256 line = by_plane[p];
            if constexpr (D == 3) {
              const __m256 far = _mm256_mul_ps(line, w[1]);
              line = l == 1 ? far : _mm256_sub_ps(line, far);
            }
            __m256 upper = _mm256_mul_ps(line, w[2]);
            __m256 lower = _mm256_sub_ps(line, upper);
            if (cells.together[i / kLanes]) {
              // upper moved up by one lane meets lower; its last lane is left for the other loop.
              const __m256 turned =
                  _mm256_permutevar8x32_ps(upper, _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6));
              const __m256 moved_up = _mm256_blend_ps(turned, _mm256_setzero_ps(), 1);
              float* at = grad + l * strides.inner + to[p][i];
              _mm256_storeu_ps(at,
                               _mm256_add_ps(_mm256_loadu_ps(at), _mm256_add_ps(lower, moved_up)));
              lower = _mm256_setzero_ps();
            }
            const __m256 pairs[2] = {lower, upper};
            __m256 out[2];
            interleave<2>(pairs, out);
            float* left = ends[(D - 1) * p + l] + 2 * i;
            _mm256_store_ps(left, out[0]);
            _mm256_store_ps(left + 8, out[1]);
          }
        }
      }
      // Every fourth voxel, then the next ones: a load that spans two recent stores waits until
      // both are in the cache, and neighbours share an end.
      for (int64_t phase = 0; phase < 4; ++phase) {
        for (int64_t k = phase; k < n; k += 4) {
          if (cells.together[k / kLanes] && k % kLanes != kLanes - 1) continue;
          for (int p = 0; p < 2; ++p) {
            for (int l = 0; l < D - 1; ++l) {
              add_two(grad + l * strides.inner + to[p][k], ends[(D - 1) * p + l] + 2 * k);
            }
          }
        }
      }
    }
  });
}

template <int D, int L>
void warp_mse_rows(const WarpMseRows& task, int64_t begin, int64_t end) {
  using V = Vec<L>;
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  const auto scale = V::set(task.scale);
  Cells<D, L> cells;
  for (int64_t row = begin; row < end; ++row) task.row_sums[row] = 0;
  for_each_piece<D, L>(
      task, task.image, begin, end, cells, [&](int64_t row, int64_t base, int64_t n) {
        typename V::Total total;
        for (int64_t i = 0; i < n; i += L) {
          typename V::F gradient[D], slope[D], energy = V::set(0.0f);
          for (int axis = 0; axis < D; ++axis) gradient[axis] = V::set(0.0f);
          const auto weight =
              task.weight != nullptr ? V::load_some(task.weight + base + i, n - i) : V::set(1.0f);
          for (int64_t c = 0; c < task.channels; ++c) {
            const auto moved = interpolate<D, L, true>(
                corners<D, L>(task.image + c * count_in, strides, cells, i), cells, i, slope);
            const auto residual =
                moved - V::load_some(task.fixed + c * count_out + base + i, n - i);
            const auto weighted = weight * residual;
            energy = energy + weighted * residual;
            for (int axis = 0; axis < D; ++axis) {
              gradient[axis] = gradient[axis] + slope[axis] * weighted;
            }
          }
          total.add(V::keep_first(energy, n - i));
          if (task.grad_displacement == nullptr) continue;
          for (int axis = 0; axis < D; ++axis) {
            const auto found = V::keep(cells.inside[axis][i / L], scale * gradient[axis]);
            V::store_some(task.grad_displacement + axis * count_out + base + i, found, n - i);
          }
        }
        task.row_sums[row] += total.sum();
      });
}
