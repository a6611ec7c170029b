// Included once per instruction set, inside its namespace. Linear interpolation of planar images;
// see rows.h. The corners of eight cells come into the lanes of vectors: by plain
// loads where cells follow one another, by pairs (x, x + 1) where they do not. (One masked load per
// set of lanes with a common base took two to three times as long as pairs.)

/// Values at the 2^D corners of eight cells: [plane][inner row][end].
template <int D>
struct Corners {
  __m256 value[2][D - 1][2];
};

/// Where the cells of a piece of a row lie; the first of two passes.
template <int D>
struct Cells {
  alignas(64) int32_t offset[kSegment];  ///< in floats of a channel
  alignas(64) float weight[D][kSegment];
  Vec<8>::M inside[D][kSegment / kLanes];
  alignas(64) int32_t plane[kSegment];  ///< index along the slowest axis
  bool together[kSegment / kLanes];     ///< eight cells follow one another
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

template <int D>
NCR_INLINE Corners<D> corners(const float* image, const CornerStrides<D>& s, const Cells<D>& cells,
                              int64_t i) {
  Corners<D> c;
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < D - 1; ++l) {
      const float* from = image + p * s.outer + l * s.inner;
      load_ends(from, cells.offset + i, cells.together[i / kLanes], c.value[p][l]);
    }
  }
  return c;
}

/// The interpolated values and, if wanted, their derivatives along the axes.
template <int D, bool kDerive>
NCR_INLINE __m256 interpolate(const Corners<D>& c, const Cells<D>& cells, int64_t i,
                              __m256 (&slope)[D]) {
  using F = __m256;
  F w[D];
  for (int axis = 0; axis < D; ++axis) w[axis] = Vec<8>::load(cells.weight[axis] + i);
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

#if defined(__AVX512F__)
/// Both ends of eight edges, voxel by voxel.
NCR_INLINE __m512 load_edges(const float* image, const int32_t* offset, bool together) {
  if (together) {
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8),
                                 _mm512_maskz_loadu_ps(0x1ff, image + offset[0]));
  }
  const auto two = [&](int k) NCR_LAMBDA {
    const __m128 low =
        _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(image + offset[k])));
    return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(image + offset[k + 1]));
  };
  const __m256 a = _mm256_insertf128_ps(_mm256_castps128_ps256(two(0)), two(2), 1);
  const __m256 b = _mm256_insertf128_ps(_mm256_castps128_ps256(two(4)), two(6), 1);
  return _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1);
}

/// Ends of eight edges: the near ones, then the far ones.
NCR_INLINE void part_ends(__m512 edges, __m256 (&ends)[2]) {
  const __m512 parted = _mm512_permutexvar_ps(
      _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15), edges);
  ends[0] = _mm512_castps512_ps256(parted);
  ends[1] = _mm512_extractf32x8_ps(parted, 1);
}

NCR_INLINE __m512 for_both_ends(const float* weight) {
  return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7),
                               _mm512_castps256_ps512(_mm256_load_ps(weight)));
}
#endif

/// The values of one channel at eight cells and, if wanted, their derivatives.
template <int D, bool kDerive>
NCR_INLINE __m256 sample_cells(const float* image, const CornerStrides<D>& s, const Cells<D>& cells,
                               int64_t i, __m256 (&slope)[D]) {
#if defined(__AVX512F__)
  // Along x last: until then both ends of an edge share a vector.
  const int32_t* offset = cells.offset + i;
  const bool together = cells.together[i / kLanes];
  const __m512 outer = for_both_ends(cells.weight[0] + i);
  __m512 plane[2], rise[2];
  for (int p = 0; p < 2; ++p) {
    plane[p] = load_edges(image + p * s.outer, offset, together);
    if constexpr (D == 3) {
      rise[p] = load_edges(image + p * s.outer + s.inner, offset, together) - plane[p];
      plane[p] = plane[p] + for_both_ends(cells.weight[1] + i) * rise[p];
    }
  }
  const __m512 across = plane[1] - plane[0];
  const __m256 x = _mm256_load_ps(cells.weight[D - 1] + i);
  __m256 ends[2];
  if constexpr (kDerive) {
    part_ends(across, ends);
    slope[0] = lerp(ends[0], ends[1], x);
    if constexpr (D == 3) {
      part_ends(lerp(rise[0], rise[1], outer), ends);
      slope[1] = lerp(ends[0], ends[1], x);
    }
  }
  part_ends(plane[0] + outer * across, ends);
  if constexpr (kDerive) slope[D - 1] = ends[1] - ends[0];
  return lerp(ends[0], ends[1], x);
#else
  return interpolate<D, kDerive>(corners<D>(image, s, cells, i), cells, i, slope);
#endif
}

/// How far ahead planes are asked for, in voxels: with several of them read and written side by
/// side the processor falls behind.
constexpr int64_t kAhead = 256;

NCR_INLINE void fetch_ahead(const float* values) {
  _mm_prefetch(reinterpret_cast<const char*>(values + kAhead), _MM_HINT_T0);
}

/// First pass over a piece of a row; returns the foremost plane.
template <int D>
NCR_INLINE int64_t find_cells(const float* displacement, int64_t count, const RowAt<D>& at,
                              int64_t base, int64_t start, int64_t n,
                              const Bounds<D, kWide>& bounds, const float* image,
                              const CornerStrides<D>& strides, Cells<D>& cells) {
  using V = Vec<kWide>;
  auto foremost = V::set(0);
  for (int64_t i = 0; i < n; i += kWide) {
    typename V::F u[D], position[D];
    for (int axis = 0; axis < D; ++axis) {
      const float* here = displacement + axis * count + base + i;
      u[axis] = V::load_some(here, n - i);
      fetch_ahead(here);
    }
    move<D, kWide>(at, start + i, u, position);
    const auto l = locate<D, kWide>(position, bounds);
    foremost = V::max(foremost, l.index[0]);
    for (int axis = 0; axis < D; ++axis) {
      V::store(cells.weight[axis] + i, l.weight[axis]);
      std::memcpy(cells.inside[axis] + i / kLanes, &l.inside[axis], sizeof(l.inside[axis]));
    }
    V::store(cells.offset + i, l.offset);
    V::store(cells.plane + i, l.index[0]);
    note_together<1>(i, n, l.offset, cells.together);
    if (image == nullptr) continue;
    for (int64_t k = 0; k < kWide; k += 4) {
      prefetch_cell<D>(image + cells.offset[i + k], strides);
    }
  }
  return largest<kWide>(foremost);
}

/// Runs body(base, start, n) for every piece of the rows, after its first pass.
template <int D, class Task, class Body>
NCR_INLINE void for_each_piece(const Task& task, const float* image, int64_t begin, int64_t end,
                               Cells<D>& cells, const Body& body) {
  const Bounds<D, kWide> bounds(task.size_in);
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t length = task.size_out[D - 1];
  int64_t count = 1;
  for (int axis = 0; axis < D; ++axis) count *= task.size_out[axis];
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<D> at(row, task.size_out);
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      const int64_t foremost = find_cells<D>(task.displacement, count, at, base, start, n, bounds,
                                             image, strides, cells);
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

template <int D>
void warp_rows(const WarpRows& task, int64_t begin, int64_t end) {
  using V = Vec<8>;
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D> cells;
  for_each_piece<D>(task, task.image, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t c = 0; c < task.channels; ++c) {
      const float* image = task.image + c * count_in;
      const int64_t out = c * count_out + base;
      for (int64_t i = 0; i < n; i += kLanes) {
        __m256 unused[D];
        auto value = sample_cells<D, false>(image, strides, cells, i, unused);
        if (task.addend != nullptr) {
          value = value + V::load_some(task.addend + out + i, n - i);
        }
        V::store_some(task.moved + out + i, value, n - i);
      }
    }
  });
}

template <int D>
void warp_rows_adjoint(const WarpRowsAdjoint& task, int64_t begin, int64_t end) {
  using V = Vec<8>;
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D> cells;
  for_each_piece<D>(task, task.image, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) {
      __m256 sum[D], slope[D];
      for (int axis = 0; axis < D; ++axis) sum[axis] = V::set(0.0f);
      for (int64_t c = 0; c < task.channels; ++c) {
        sample_cells<D, true>(task.image + c * count_in, strides, cells, i, slope);
        const auto g = V::load_some(task.grad_moved + c * count_out + base + i, n - i);
        for (int axis = 0; axis < D; ++axis) sum[axis] = sum[axis] + slope[axis] * g;
      }
      for (int axis = 0; axis < D; ++axis) {
        const int64_t out = axis * count_out + base + i;
        sum[axis] = V::keep(cells.inside[axis][i / kLanes], sum[axis]);
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
  const int above = task.size_in[0] > 1 ? 1 : 0;
  const int first = static_cast<int>(task.first), end_plane = static_cast<int>(task.end);
  constexpr int kLines = 2 * (D - 1);
  Cells<D> cells;
  alignas(64) int32_t to[2][kSegment];
  alignas(64) float ends[kLines][2 * kSegment];  // what a voxel gives to both ends of an edge
  for_each_piece<D>(task, nullptr, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) {
      // Planes of other owners are replaced by the unused plane.
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
      float* grad = task.grad + c * task.stride;
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
