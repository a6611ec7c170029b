#pragma once

#include <cstdint>

/// Kernels on whole rows with vector instructions: the arithmetic of the functors in include/ncr,
/// eight voxels at a time. One table per instruction set, each compiled in its own file; entries
/// are null where an instruction set has no version, and the functors run instead.
namespace ncr::cpu {

/// Floats per voxel of a gradient inside an exponential: in 3D an aligned four, the last one 0.
constexpr int gradient_width(int dimension) {
  return dimension == 2 ? 2 : 4;
}

/// Inside an exponential vectors are interleaved: D floats per voxel for a field, gradient_width(D)
/// for a gradient, so that one wide load brings both ends of a cell's edge. Rows lie along the
/// fastest axis; row r of a 3D grid is (z, y) = (r / Y, r % Y).
struct SquareRows {
  const float* field;  ///< interleaved, readable for 64 floats behind its end
  float* squared;      ///< interleaved, or null
  float* planes;       ///< the same result as (D, grid), or null
  int64_t size[3];
};

/// The adjoint of a squaring, for an owner of planes [first, end) of the gradient along the slowest
/// axis: it adds there what the given rows send there, in the order of the rows.
struct SquareRowsAdjoint {
  const float* field;         ///< interleaved
  const float* grad_squared;  ///< interleaved, readable for 16 floats behind its end
  float* grad;                ///< interleaved
  int64_t size[3];
  int64_t first, end;
  int64_t nowhere;  ///< offset into grad of 2 X + 8 vectors that are not read
};

/// Linear interpolation of planar images at planar displacements, one sample.
struct WarpRows {
  const float* image;         ///< (C, size_in)
  const float* displacement;  ///< (D, size_out)
  const float* addend;        ///< (C, size_out) or null
  float* moved;               ///< (C, size_out)
  int64_t size_in[3], size_out[3];
  int64_t channels;
};

/// Its adjoint to the displacement.
struct WarpRowsAdjoint {
  const float* image;
  const float* displacement;
  const float* grad_moved;   ///< (C, size_out)
  float* grad_displacement;  ///< (D, size_out)
  int64_t size_in[3], size_out[3];
  int64_t channels;
  bool identity;
};

/// Its adjoint to the image, for an owner of planes [first, end); `grad` holds these planes and,
/// behind them unless they are all, one plane that is not read, for each channel.
struct WarpRowsScatter {
  const float* displacement;
  const float* grad_moved;  ///< (C, size_out)
  float* grad;              ///< (C, stride)
  int64_t stride;
  int64_t size_in[3], size_out[3];
  int64_t channels;
  int64_t first, end;
};

/// Loops over rows that the compiler vectorises itself, for float and double and any processor.
template <typename T>
struct PlainRows {
  /// Smallest and largest value, NaN aside, and whether there is NaN.
  void (*range)(const T* values, int64_t count, T* low, T* high, bool* nan);
  /// Largest finite squared norm of vectors with components `stride` apart.
  T (*longest)(const T* planes, int64_t stride, int dimension, int64_t count);
  /// out[x] = sum of `count` rows that lie `stride` apart.
  void (*sum_rows)(const T* first, int64_t stride, int64_t count, T* out, int64_t length);
  /// out = a + weight (b - a).
  void (*mix_rows)(const T* a, const T* b, T weight, T* out, int64_t length);
  /// out += weight * a.
  void (*add_row)(const T* a, T weight, T* out, int64_t length);
  /// out[x] = row[index[x]] + weight[x] (row[index[x] + 1] - row[index[x]]).
  void (*expand_row)(const T* row, const int32_t* index, const T* weight, T* out, int64_t length);
  /// out[x] += weight[x] * row[index[x]].
  void (*gather_row)(const T* row, const int32_t* index, const T* weight, T* out, int64_t length);
  /// Jacobian determinants of row `row` of one sample.
  void (*jacobian_row[2])(const T* displacement, T* result, const int64_t* size, int64_t row);
  /// One row of the primal variable of a total-variation step, and of its dual.
  void (*primal_row[2])(const T* evidence, const T* dual, T* primal, const int64_t* size,
                        int64_t row);
  void (*dual_row[2])(const T* primal, T* dual, T* ahead, const int64_t* size, int64_t row,
                      T weight, T step, T momentum);
};

struct Rows {
  const char* name;
  // Index 0: 2D, index 1: 3D. Rows [begin, end).
  void (*square[2])(const SquareRows&, int64_t begin, int64_t end);
  void (*square_adjoint[2])(const SquareRowsAdjoint&, int64_t begin, int64_t end);
  void (*pack[2])(const float* planes, int64_t count, float factor, float* field, int64_t begin,
                  int64_t end);
  void (*pack_gradient[2])(const float* planes, int64_t count, float factor, float* grad,
                           int64_t begin, int64_t end);
  void (*unpack_gradient[2])(const float* grad, int64_t count, float factor, float* planes,
                             int64_t begin, int64_t end);
  void (*warp[2])(const WarpRows&, int64_t begin, int64_t end);
  void (*warp_adjoint[2])(const WarpRowsAdjoint&, int64_t begin, int64_t end);
  void (*warp_scatter[2])(const WarpRowsScatter&, int64_t begin, int64_t end);
  PlainRows<float> plain_float;
  PlainRows<double> plain_double;
};

template <typename T>
const PlainRows<T>& plain(const Rows& rows);
template <>
inline const PlainRows<float>& plain(const Rows& rows) {
  return rows.plain_float;
}
template <>
inline const PlainRows<double>& plain(const Rows& rows) {
  return rows.plain_double;
}

/// The table in use.
const Rows& rows();

/// Shortest row for which the vector kernels are written.
constexpr int64_t kShortestRow = 8;

}  // namespace ncr::cpu
