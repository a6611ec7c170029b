// Included once per instruction set, inside its namespace. Linear interpolation of planar images;
// see rows.h. The corners of eight cells come into eight lanes each, by plain loads where the cells
// follow one another and by pairs (x, x + 1) where they do not; the arithmetic is the same.

/// Values at the 2^D corners of eight cells: [plane][inner row][end].
template <int D>
struct Corners {
  __m256 value[2][D - 1][2];
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

/// Where the cells of a piece of a row lie; the first of two passes.
template <int D>
struct Cells {
  alignas(32) int32_t offset[kSegment];  ///< in floats of a channel
  alignas(32) float weight[D][kSegment];
  alignas(32) float inside[D][kSegment];
  bool together[kSegment / kLanes];
};

template <int D>
NCR_INLINE Corners<D> corners(const float* image, const CornerStrides<D>& s, const Cells<D>& cells,
                              int64_t i) {
  Corners<D> c;
  const bool together = cells.together[i / kLanes];
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < D - 1; ++l) {
      const float* from = image + p * s.outer + l * s.inner;
      if (together) {
        c.value[p][l][0] = _mm256_loadu_ps(from + cells.offset[i]);
        c.value[p][l][1] = _mm256_loadu_ps(from + cells.offset[i] + 1);
      } else {
        load_pairs(from, cells.offset + i, c.value[p][l]);
      }
    }
  }
  return c;
}

/// The interpolated values and, if wanted, their derivatives along the axes.
template <int D, bool kDerive>
NCR_INLINE __m256 interpolate(const Corners<D>& c, const Cells<D>& cells, int64_t i,
                              __m256 (&slope)[D]) {
  __m256 w[D];
  for (int axis = 0; axis < D; ++axis) w[axis] = _mm256_load_ps(cells.weight[axis] + i);
  __m256 line[2][D - 1];  // interpolated along x
  __m256 rise[2][D - 1];
  for (int p = 0; p < 2; ++p) {
    for (int l = 0; l < D - 1; ++l) {
      rise[p][l] = _mm256_sub_ps(c.value[p][l][1], c.value[p][l][0]);
      line[p][l] = _mm256_fmadd_ps(w[D - 1], rise[p][l], c.value[p][l][0]);
    }
  }
  __m256 plane[2], rise_in_plane[2];
  for (int p = 0; p < 2; ++p) {
    if constexpr (D == 3) {
      plane[p] = lerp(line[p][0], line[p][1], w[1]);
      if (kDerive) rise_in_plane[p] = lerp(rise[p][0], rise[p][1], w[1]);
    } else {
      plane[p] = line[p][0];
      if (kDerive) rise_in_plane[p] = rise[p][0];
    }
  }
  const __m256 across = _mm256_sub_ps(plane[1], plane[0]);
  if constexpr (kDerive) {
    slope[0] = across;
    if constexpr (D == 3) {
      slope[1] =
          lerp(_mm256_sub_ps(line[0][1], line[0][0]), _mm256_sub_ps(line[1][1], line[1][0]), w[0]);
    }
    slope[D - 1] = lerp(rise_in_plane[0], rise_in_plane[1], w[0]);
  }
  return _mm256_fmadd_ps(w[0], across, plane[0]);
}

/// First pass over a piece of a row.
template <int D>
NCR_INLINE void find_cells(const float* displacement, int64_t count, const RowAt<D>& at,
                           int64_t base, int64_t start, int64_t n, const Bounds<D>& bounds,
                           const float* image, const CornerStrides<D>& strides, Cells<D>& cells) {
  for (int64_t i = 0; i < n; i += kLanes) {
    __m256 u[D], position[D];
    for (int axis = 0; axis < D; ++axis) {
      u[axis] = load_some(displacement + axis * count + base + i, n - i);
    }
    move<D>(at, start + i, u, position);
    const auto l = locate<D>(position, bounds);
    _mm256_store_si256(reinterpret_cast<__m256i*>(cells.offset + i), l.offset);
    for (int axis = 0; axis < D; ++axis) {
      _mm256_store_ps(cells.weight[axis] + i, l.weight[axis]);
      _mm256_store_ps(cells.inside[axis] + i, l.inside[axis]);
    }
    cells.together[i / kLanes] = consecutive(l.offset);
    if (image == nullptr) continue;
    prefetch_cell<D>(image + cells.offset[i], strides);
    prefetch_cell<D>(image + cells.offset[i + 4], strides);
  }
}

/// Runs body(base, start, n) for every piece of the rows, after its first pass.
template <int D, class Task, class Body>
NCR_INLINE void for_each_piece(const Task& task, const float* image, int64_t begin, int64_t end,
                               Cells<D>& cells, const Body& body) {
  const Bounds<D> bounds(task.size_in);
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t length = task.size_out[D - 1];
  int64_t count = 1;
  for (int axis = 0; axis < D; ++axis) count *= task.size_out[axis];
  for (int64_t row = begin; row < end; ++row) {
    const RowAt<D> at(row, task.size_out);
    for (int64_t start = 0; start < length; start += kSegment) {
      const int64_t n = length - start < kSegment ? length - start : kSegment;
      const int64_t base = row * length + start;
      find_cells<D>(task.displacement, count, at, base, start, n, bounds, image, strides, cells);
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
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D> cells;
  for_each_piece<D>(task, task.image, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t c = 0; c < task.channels; ++c) {
      const float* image = task.image + c * count_in;
      const int64_t out = c * count_out + base;
      for (int64_t i = 0; i < n; i += kLanes) {
        __m256 unused[D];
        __m256 value =
            interpolate<D, false>(corners<D>(image, strides, cells, i), cells, i, unused);
        if (task.addend != nullptr) {
          value = _mm256_add_ps(value, load_some(task.addend + out + i, n - i));
        }
        store_some(task.moved + out + i, value, n - i);
      }
    }
  });
}

template <int D>
void warp_rows_adjoint(const WarpRowsAdjoint& task, int64_t begin, int64_t end) {
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  Cells<D> cells;
  for_each_piece<D>(task, task.image, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) {
      __m256 sum[D], slope[D];
      for (int axis = 0; axis < D; ++axis) sum[axis] = _mm256_setzero_ps();
      for (int64_t c = 0; c < task.channels; ++c) {
        interpolate<D, true>(corners<D>(task.image + c * count_in, strides, cells, i), cells, i,
                             slope);
        const __m256 g = load_some(task.grad_moved + c * count_out + base + i, n - i);
        for (int axis = 0; axis < D; ++axis) sum[axis] = _mm256_fmadd_ps(slope[axis], g, sum[axis]);
      }
      for (int axis = 0; axis < D; ++axis) {
        const int64_t out = axis * count_out + base + i;
        sum[axis] = _mm256_and_ps(sum[axis], _mm256_load_ps(cells.inside[axis] + i));
        if (task.identity) {
          sum[axis] = _mm256_add_ps(sum[axis], load_some(task.grad_moved + out, n - i));
        }
        store_some(task.grad_displacement + out, sum[axis], n - i);
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
  const int64_t nowhere = (task.end - task.first) * plane;
  const int64_t above = task.size_in[0] > 1 ? 1 : 0;
  Cells<D> cells;
  for_each_piece<D>(task, nullptr, begin, end, cells, [&](int64_t, int64_t base, int64_t n) {
    for (int64_t i = 0; i < n; i += kLanes) {
      const __m256 w[3] = {_mm256_load_ps(cells.weight[0] + i), _mm256_load_ps(cells.weight[1] + i),
                           _mm256_load_ps(cells.weight[D - 1] + i)};
      const int64_t lanes = n - i < kLanes ? n - i : kLanes;
      // Planes of other owners are replaced by the plane that nobody reads.
      int64_t to[2][kLanes];
      for (int64_t k = 0; k < kLanes; ++k) {
        const int64_t offset = cells.offset[i + k];
        const int64_t z = offset / plane, in_plane = offset - z * plane;
        for (int64_t p = 0; p < 2; ++p) {
          const int64_t at = z + p * above;
          to[p][k] = at >= task.first && at < task.end ? (at - task.first) * plane + in_plane
                                                       : nowhere + in_plane;
        }
      }
      const bool together = cells.together[i / kLanes] && lanes == kLanes;
      for (int64_t c = 0; c < task.channels; ++c) {
        float* grad = task.grad + c * count_here;
        const __m256 g = load_some(task.grad_moved + c * count_out + base + i, n - i);
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
            const __m256 upper = _mm256_mul_ps(line, w[2]);
            const __m256 lower = _mm256_sub_ps(line, upper);
            float* row = grad + l * strides.inner;
            if (together) {
              // upper moved up by one lane meets lower; its last lane is added alone.
              const __m256 turned =
                  _mm256_permutevar8x32_ps(upper, _mm256_setr_epi32(7, 0, 1, 2, 3, 4, 5, 6));
              const __m256 moved_up = _mm256_blend_ps(turned, _mm256_setzero_ps(), 1);
              float* at = row + to[p][0];
              _mm256_storeu_ps(at,
                               _mm256_add_ps(_mm256_loadu_ps(at), _mm256_add_ps(lower, moved_up)));
              at[kLanes] += _mm256_cvtss_f32(turned);
              continue;
            }
            alignas(32) float low[kLanes], high[kLanes];
            _mm256_store_ps(low, lower);
            _mm256_store_ps(high, upper);
            for (int64_t k = 0; k < lanes; ++k) {
              row[to[p][k]] += low[k];
              row[to[p][k] + 1] += high[k];
            }
          }
        }
      }
    }
  });
}

template <int D>
void warp_mse_rows(const WarpMseRows& task, int64_t begin, int64_t end) {
  const CornerStrides<D> strides(task.size_in, 1);
  const int64_t count_in = voxels<D>(task.size_in), count_out = voxels<D>(task.size_out);
  const __m256 scale = _mm256_set1_ps(task.scale);
  Cells<D> cells;
  for (int64_t row = begin; row < end; ++row) task.row_sums[row] = 0;
  for_each_piece<D>(task, task.image, begin, end, cells, [&](int64_t row, int64_t base, int64_t n) {
    __m256d total = _mm256_setzero_pd();
    for (int64_t i = 0; i < n; i += kLanes) {
      __m256 gradient[D], slope[D], energy = _mm256_setzero_ps();
      for (int axis = 0; axis < D; ++axis) gradient[axis] = _mm256_setzero_ps();
      const __m256 weight =
          task.weight != nullptr ? load_some(task.weight + base + i, n - i) : _mm256_set1_ps(1.0f);
      for (int64_t c = 0; c < task.channels; ++c) {
        const __m256 moved = interpolate<D, true>(
            corners<D>(task.image + c * count_in, strides, cells, i), cells, i, slope);
        const __m256 residual =
            _mm256_sub_ps(moved, load_some(task.fixed + c * count_out + base + i, n - i));
        const __m256 weighted = _mm256_mul_ps(weight, residual);
        energy = _mm256_fmadd_ps(weighted, residual, energy);
        for (int axis = 0; axis < D; ++axis) {
          gradient[axis] = _mm256_fmadd_ps(slope[axis], weighted, gradient[axis]);
        }
      }
      if (n - i < kLanes) energy = _mm256_and_ps(energy, _mm256_castsi256_ps(first_lanes(n - i)));
      total = _mm256_add_pd(total, _mm256_cvtps_pd(_mm256_castps256_ps128(energy)));
      total = _mm256_add_pd(total, _mm256_cvtps_pd(_mm256_extractf128_ps(energy, 1)));
      if (task.grad_displacement == nullptr) continue;
      for (int axis = 0; axis < D; ++axis) {
        const __m256 found = _mm256_and_ps(_mm256_mul_ps(scale, gradient[axis]),
                                           _mm256_load_ps(cells.inside[axis] + i));
        store_some(task.grad_displacement + axis * count_out + base + i, found, n - i);
      }
    }
    alignas(32) double parts[4];
    _mm256_store_pd(parts, total);
    task.row_sums[row] += (parts[0] + parts[1]) + (parts[2] + parts[3]);
  });
}
