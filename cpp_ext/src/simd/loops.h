#pragma once

#include <cstdint>
#include <limits>

#include "ncr/jacobian.h"
#include "rows.h"

/// Loops over rows that the compiler vectorises itself; see PlainRows in rows.h.

#if !defined(NCR_VARIANT)
#define NCR_VARIANT baseline
#endif

#if defined(_MSC_VER)
#define NCR_RESTRICT __restrict
#else
#define NCR_RESTRICT __restrict__
#endif

namespace ncr::cpu::NCR_VARIANT {

/// Reductions keep as many partial results as a vector has lanes; the compiler may not reorder.
constexpr int kParts = 32;

template <typename T>
void range(const T* values, int64_t count, T* low, T* high, bool* nan) {
  T lows[kParts], highs[kParts], broken[kParts];
  for (int j = 0; j < kParts; ++j) {
    lows[j] = *low;
    highs[j] = *high;
    broken[j] = T(0);
  }
  const auto take = [&](int j, T v) NCR_LAMBDA {
    lows[j] = v < lows[j] ? v : lows[j];
    highs[j] = v > highs[j] ? v : highs[j];
    broken[j] = v == v ? broken[j] : T(1);
  };
  int64_t i = 0;
  for (; i + kParts <= count; i += kParts) {
    for (int j = 0; j < kParts; ++j) take(j, values[i + j]);
  }
  for (; i < count; ++i) take(0, values[i]);
  for (int j = 0; j < kParts; ++j) {
    *low = lows[j] < *low ? lows[j] : *low;
    *high = highs[j] > *high ? highs[j] : *high;
    *nan = *nan || broken[j] != T(0);
  }
}

template <typename T, int D>
T longest_of(const T* planes, int64_t stride, int64_t count) {
  T found[kParts] = {};
  const T most = std::numeric_limits<T>::max();
  const auto take = [&](int j, int64_t i) NCR_LAMBDA {
    T squared = planes[i] * planes[i];
    for (int c = 1; c < D; ++c) squared += planes[c * stride + i] * planes[c * stride + i];
    // Neither NaN nor infinity passes.
    const T finite = squared <= most ? squared : T(0);
    found[j] = finite > found[j] ? finite : found[j];
  };
  int64_t i = 0;
  for (; i + kParts <= count; i += kParts) {
    for (int j = 0; j < kParts; ++j) take(j, i + j);
  }
  for (; i < count; ++i) take(0, i);
  T result = T(0);
  for (int j = 0; j < kParts; ++j) result = found[j] > result ? found[j] : result;
  return result;
}

template <typename T>
T longest(const T* planes, int64_t stride, int dimension, int64_t count) {
  return dimension == 3 ? longest_of<T, 3>(planes, stride, count)
                        : longest_of<T, 2>(planes, stride, count);
}

template <typename T, int kCount>
void sum_fixed(const T* NCR_RESTRICT first, int64_t stride, T* NCR_RESTRICT out, int64_t length) {
  for (int64_t x = 0; x < length; ++x) {
    T sum = first[x];
    for (int k = 1; k < kCount; ++k) sum += first[k * stride + x];
    out[x] = sum;
  }
}

template <typename T>
void sum_rows(const T* first, int64_t stride, int64_t count, T* out, int64_t length) {
  // Windows of radius 1 to 4, also where the border cuts them.
  constexpr decltype(&sum_fixed<T, 1>) kFixed[] = {
      sum_fixed<T, 1>, sum_fixed<T, 2>, sum_fixed<T, 3>, sum_fixed<T, 4>, sum_fixed<T, 5>,
      sum_fixed<T, 6>, sum_fixed<T, 7>, sum_fixed<T, 8>, sum_fixed<T, 9>};
  if (count <= 9) return kFixed[count - 1](first, stride, out, length);
  sum_fixed<T, 9>(first, stride, out, length);
  for (int64_t k = 9; k < count; ++k) {
    const T* NCR_RESTRICT row = first + k * stride;
    T* NCR_RESTRICT sum = out;
    for (int64_t x = 0; x < length; ++x) sum[x] += row[x];
  }
}

template <typename T>
void mix_rows(const T* NCR_RESTRICT a, const T* NCR_RESTRICT b, T weight, T* NCR_RESTRICT out,
              int64_t length) {
  for (int64_t x = 0; x < length; ++x) out[x] = a[x] + weight * (b[x] - a[x]);
}

template <typename T>
void add_row(const T* NCR_RESTRICT a, T weight, T* NCR_RESTRICT out, int64_t length) {
  for (int64_t x = 0; x < length; ++x) out[x] += weight * a[x];
}

template <typename T>
void expand_row(const T* NCR_RESTRICT row, const int32_t* NCR_RESTRICT index,
                const T* NCR_RESTRICT weight, T* NCR_RESTRICT out, int64_t length) {
  for (int64_t x = 0; x < length; ++x) {
    const T a = row[index[x]];
    out[x] = a + weight[x] * (row[index[x] + 1] - a);
  }
}

template <typename T>
void gather_row(const T* NCR_RESTRICT row, const int32_t* NCR_RESTRICT index,
                const T* NCR_RESTRICT weight, T* NCR_RESTRICT out, int64_t length) {
  for (int64_t x = 0; x < length; ++x) out[x] += weight[x] * row[index[x]];
}

/// Row `row` of a grid: coordinates of its axes but the last, and its first voxel.
template <int D>
struct PlainRow {
  int64_t at[D];
  int64_t base;
  int64_t stride[D];
  int64_t count;

  NCR_HD PlainRow(const int64_t* size, int64_t row) {
    int64_t rest = row;
    for (int axis = D - 2; axis >= 0; --axis) {
      at[axis] = rest % size[axis];
      rest /= size[axis];
    }
    at[D - 1] = 0;
    int64_t product = 1;
    for (int axis = D - 1; axis >= 0; --axis) {
      stride[axis] = product;
      product *= size[axis];
    }
    count = product;
    base = row * size[D - 1];
  }
};

template <typename T, int D>
void jacobian_row(const T* displacement, T* NCR_RESTRICT result, const int64_t* size, int64_t row) {
  const PlainRow<D> r(size, row);
  const int64_t length = size[D - 1];
  int64_t ahead[D], behind[D];
  T factor[D];
  for (int axis = 0; axis < D - 1; ++axis) {
    const auto d = difference<T>(r.at[axis], size[axis]);
    ahead[axis] = d.ahead * r.stride[axis];
    behind[axis] = d.behind * r.stride[axis];
    factor[axis] = d.factor;
  }
  const T* u = displacement + r.base;
  const auto determinant_at = [&](int64_t x) NCR_LAMBDA {
    T m[D][D];
    for (int c = 0; c < D; ++c) {
      const T* here = u + c * r.count + x;
      for (int axis = 0; axis < D; ++axis) {
        m[c][axis] = factor[axis] * (here[ahead[axis]] - here[behind[axis]]) + T(c == axis);
      }
    }
    return determinant(m);
  };
  const auto at_rim = [&](int64_t x) {
    const auto d = difference<T>(x, length);
    ahead[D - 1] = d.ahead;
    behind[D - 1] = d.behind;
    factor[D - 1] = d.factor;
    result[r.base + x] = determinant_at(x);
  };
  at_rim(0);
  ahead[D - 1] = 1;
  behind[D - 1] = -1;
  factor[D - 1] = T(0.5);
  for (int64_t x = 1; x < length - 1; ++x) result[r.base + x] = determinant_at(x);
  if (length > 1) at_rim(length - 1);
}

template <typename T, int D>
void primal_row(const T* NCR_RESTRICT evidence, const T* NCR_RESTRICT dual, T* NCR_RESTRICT primal,
                const int64_t* size, int64_t row) {
  const PlainRow<D> r(size, row);
  const int64_t length = size[D - 1];
  const T* g = evidence + r.base;
  T* u = primal + r.base;
  const T* along = dual + (D - 1) * r.count + r.base;
  u[0] = g[0] + (length > 1 ? along[0] : T(0));
  for (int64_t x = 1; x < length - 1; ++x) u[x] = g[x] + (along[x] - along[x - 1]);
  if (length > 1) u[length - 1] = g[length - 1] - along[length - 2];
  for (int axis = 0; axis < D - 1; ++axis) {
    const T* here = dual + axis * r.count + r.base;
    const T* before = here - r.stride[axis];
    const bool first = r.at[axis] == 0, last = r.at[axis] == size[axis] - 1;
    if (!first && !last) {
      for (int64_t x = 0; x < length; ++x) u[x] += here[x] - before[x];
    } else if (!last) {
      for (int64_t x = 0; x < length; ++x) u[x] += here[x];
    } else if (!first) {
      for (int64_t x = 0; x < length; ++x) u[x] -= before[x];
    }
  }
}

template <typename T, int D>
void dual_row(const T* NCR_RESTRICT primal, T* NCR_RESTRICT dual, T* NCR_RESTRICT ahead,
              const int64_t* size, int64_t row, T weight, T step, T momentum) {
  const PlainRow<D> r(size, row);
  const int64_t length = size[D - 1];
  // At the end of an axis a voxel is its own neighbour: the difference is 0.
  int64_t next[D];
  for (int axis = 0; axis < D - 1; ++axis) {
    next[axis] = r.at[axis] < size[axis] - 1 ? r.stride[axis] : 0;
  }
  const T* u = primal + r.base;
  const auto update = [&](int64_t x) NCR_LAMBDA {
    for (int axis = 0; axis < D; ++axis) {
      const int64_t own = axis * r.count + r.base + x;
      const T moved = ahead[own] + step * (u[x + next[axis]] - u[x]);
      const T least = moved < -weight ? -weight : moved;
      const T advanced = least > weight ? weight : least;
      ahead[own] = advanced + momentum * (advanced - dual[own]);
      dual[own] = advanced;
    }
  };
  next[D - 1] = 1;
  for (int64_t x = 0; x < length - 1; ++x) update(x);
  next[D - 1] = 0;
  update(length - 1);
}

template <typename T>
constexpr PlainRows<T> plain_rows() {
  return {range<T>,
          longest<T>,
          sum_rows<T>,
          mix_rows<T>,
          add_row<T>,
          expand_row<T>,
          gather_row<T>,
          {jacobian_row<T, 2>, jacobian_row<T, 3>},
          {primal_row<T, 2>, primal_row<T, 3>},
          {dual_row<T, 2>, dual_row<T, 3>}};
}

}  // namespace ncr::cpu::NCR_VARIANT
