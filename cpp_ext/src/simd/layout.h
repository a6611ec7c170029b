#pragma once

#include "rows.h"
#include "vector.h"

/// Between planes and the interleaved vectors of an exponential; see rows.h.

#if defined(NCR_VECTORS)

namespace ncr::cpu::NCR_VARIANT {

/// v[0..2) = the components of eight interleaved vectors of two.
NCR_HD void deinterleave(const Float8 (&in)[2], Float8 (&v)[2]) {
  const auto a = join(low_half(in[0]), low_half(in[1]));    // x0 y0 x1 y1 | x4 y4 x5 y5
  const auto b = join(high_half(in[0]), high_half(in[1]));  // x2 y2 x3 y3 | x6 ..
  v[0] = quads<0, 2, 4, 6>(a, b);
  v[1] = quads<1, 3, 5, 7>(a, b);
}

NCR_HD void interleave(const Float8 (&v)[2], Float8 (&out)[2]) {
  const auto low = quads<0, 4, 1, 5>(v[0], v[1]);   // x0 y0 x1 y1 | x4 y4 x5 y5
  const auto high = quads<2, 6, 3, 7>(v[0], v[1]);  // x2 y2 x3 y3 | x6 ..
  out[0] = join(low_half(low), low_half(high));
  out[1] = join(high_half(low), high_half(high));
}

/// v[0..3) = the components of eight interleaved vectors of three. Every lane of the inputs holds
/// another component, so blends gather and one permutation orders: lanes 0, 3, 6 | 1, 4, 7 | 2, 5.
NCR_HD void deinterleave(const Float8 (&in)[3], Float8 (&v)[3]) {
  v[0] = permute<0, 3, 6, 1, 4, 7, 2, 5>(blend<0x24>(blend<0x92>(in[0], in[1]), in[2]));
  v[1] = permute<1, 4, 7, 2, 5, 0, 3, 6>(blend<0x49>(blend<0x24>(in[0], in[1]), in[2]));
  v[2] = permute<2, 5, 0, 3, 6, 1, 4, 7>(blend<0x92>(blend<0x49>(in[0], in[1]), in[2]));
}

NCR_HD void interleave(const Float8 (&v)[3], Float8 (&out)[3]) {
  const auto x = permute<0, 3, 6, 1, 4, 7, 2, 5>(v[0]);
  const auto y = permute<5, 0, 3, 6, 1, 4, 7, 2>(v[1]);
  const auto z = permute<2, 5, 0, 3, 6, 1, 4, 7>(v[2]);
  out[0] = blend<0x24>(blend<0x92>(x, y), z);
  out[1] = blend<0x49>(blend<0x24>(x, y), z);
  out[2] = blend<0x92>(blend<0x49>(x, y), z);
}

/// Eight vectors of three, by component, as vectors of four: out[j] = vectors 2j and 2j + 1.
NCR_HD void to_fours(const Float8 (&v)[3], Float8 (&out)[4]) {
  const auto zero = all<8>(0.0f);
  const auto a = quads<0, 4, 1, 5>(v[0], v[1]);  // x0 y0 x1 y1 | x4 y4 x5 y5
  const auto b = quads<2, 6, 3, 7>(v[0], v[1]);  // x2 y2 x3 y3 | x6 ..
  const auto c = quads<0, 4, 1, 5>(v[2], zero);
  const auto d = quads<2, 6, 3, 7>(v[2], zero);
  const Float8 e[4] = {quads<0, 1, 4, 5>(a, c), quads<2, 3, 6, 7>(a, c),   // 0 | 4,  1 | 5
                       quads<0, 1, 4, 5>(b, d), quads<2, 3, 6, 7>(b, d)};  // 2 | 6,  3 | 7
  for (int j = 0; j < 2; ++j) {
    out[j] = join(low_half(e[2 * j]), low_half(e[2 * j + 1]));
    out[j + 2] = join(high_half(e[2 * j]), high_half(e[2 * j + 1]));
  }
}

/// The first three components of eight vectors of four.
NCR_HD void from_fours(const float* fours, Float8 (&v)[3]) {
  Float8 pair[4];  // vectors i and i + 4
  for (int i = 0; i < 4; ++i) pair[i] = join(load<4>(fours + 4 * i), load<4>(fours + 4 * i + 16));
  const auto a = quads<0, 4, 1, 5>(pair[0], pair[1]);  // x0 x1 y0 y1
  const auto b = quads<0, 4, 1, 5>(pair[2], pair[3]);
  v[0] = quads<0, 1, 4, 5>(a, b);
  v[1] = quads<2, 3, 6, 7>(a, b);
  const auto c = quads<2, 6, 3, 7>(pair[0], pair[1]);  // z0 z1 . .
  const auto d = quads<2, 6, 3, 7>(pair[2], pair[3]);
  v[2] = quads<0, 1, 4, 5>(c, d);
}

/// The components of L interleaved vectors.
template <int L, int D>
NCR_HD void read_vectors(const float* field, Floats<L> (&v)[D]) {
  if constexpr (L > 8) {
    Floats<L / 2> low[D], high[D];
    read_vectors<L / 2>(field, low);
    read_vectors<L / 2>(field + D * L / 2, high);
    for (int c = 0; c < D; ++c) v[c] = join(low[c], high[c]);
  } else {
    Floats<L> in[D];
    for (int j = 0; j < D; ++j) in[j] = load<L>(field + L * j);
    deinterleave(in, v);
  }
}

/// n interleaved vectors as planes that lie `count` apart. Reads whole groups of eight vectors.
template <int D>
NCR_HD void write_planes(const float* vectors, int64_t n, float* planes, int64_t count) {
  for (int64_t i = 0; i < n; i += 8) {
    Float8 v[D];
    read_vectors<8>(vectors + D * i, v);
    for (int c = 0; c < D; ++c) store_some(planes + c * count + i, v[c], n - i);
  }
}

/// Voxels [begin, end) of planes (D, count), times factor, as vectors of kWidth floats, D of them
/// or four whose last is 0.
template <int D, int kWidth>
void pack(const float* planes, int64_t count, float factor, float* vectors, int64_t begin,
          int64_t end) {
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    Float8 v[D], out[kWidth];
    for (int c = 0; c < D; ++c) v[c] = all<8>(factor) * load<8>(planes + c * count + i);
    if constexpr (kWidth == D) {
      interleave(v, out);
    } else {
      to_fours(v, out);
    }
    for (int j = 0; j < kWidth; ++j) store(vectors + kWidth * i + 8 * j, out[j]);
  }
  for (; i < end; ++i) {
    for (int c = 0; c < kWidth; ++c) {
      vectors[kWidth * i + c] = c < D ? factor * planes[c * count + i] : 0.0f;
    }
  }
}

/// Vectors of a gradient, times factor, as planes.
template <int D>
void unpack_gradient(const float* grad, int64_t count, float factor, float* planes, int64_t begin,
                     int64_t end) {
  constexpr int kWidth = gradient_width(D);
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    Float8 v[D];
    if constexpr (kWidth == D) {
      read_vectors<8>(grad + D * i, v);
    } else {
      from_fours(grad + 4 * i, v);
    }
    for (int c = 0; c < D; ++c) store(planes + c * count + i, all<8>(factor) * v[c]);
  }
  for (; i < end; ++i) {
    for (int c = 0; c < D; ++c) planes[c * count + i] = factor * grad[kWidth * i + c];
  }
}

}  // namespace ncr::cpu::NCR_VARIANT

#endif
