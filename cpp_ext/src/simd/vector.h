#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "ncr/platform.h"

/// A portable layer of vectors: `Vec<T, L>` has L lanes of 32 bits, in as many registers as the
/// instruction set of this compilation needs. Arithmetic is the compiler's own on its vector types
/// (GCC 12, Clang, AppleClang); only `any`, `load_some` and `store_some` name an instruction. A
/// compiler without these types (or NCR_PLAIN) defines no NCR_VECTORS, and the functors of
/// include/ncr run instead.

#if defined(__has_builtin) && !defined(__CUDACC__) && !defined(NCR_PLAIN)
#if __has_builtin(__builtin_shufflevector) && __has_builtin(__builtin_convertvector)
#define NCR_VECTORS
#endif
#endif

/// The namespace of this compilation: the same source is compiled once per instruction set, and
/// the linker must not mix them.
#if !defined(NCR_VARIANT)
#define NCR_VARIANT baseline
#endif

#if defined(NCR_VECTORS)

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace ncr::cpu::NCR_VARIANT {

/// Floats of one register.
#if defined(__AVX512F__)
constexpr int kRegister = 16;
#elif defined(__AVX2__)
constexpr int kRegister = 8;
#else
constexpr int kRegister = 4;
#endif

template <typename T, int L>
struct Raw;
#define NCR_RAW(T, L)                                                                           \
  template <>                                                                                   \
  struct Raw<T, L> {                                                                            \
    typedef T type __attribute__((vector_size(L * sizeof(T))));                                 \
    /* In memory: anywhere, and whatever else it is. */                                         \
    typedef T loose __attribute__((vector_size(L * sizeof(T)), aligned(sizeof(T)), may_alias)); \
  }
NCR_RAW(float, 2);
NCR_RAW(float, 4);
NCR_RAW(float, 8);
NCR_RAW(float, 16);
NCR_RAW(int32_t, 4);
NCR_RAW(int32_t, 8);
NCR_RAW(int32_t, 16);
#undef NCR_RAW

/// Either one register or two halves.
template <typename T, int L, bool kWhole = (L <= kRegister)>
struct Vec {
  Vec<T, L / 2> low, high;
};
template <typename T, int L>
struct Vec<T, L, true> {
  typename Raw<T, L>::type v;
};

template <int L>
using Floats = Vec<float, L>;
template <int L>
using Ints = Vec<int32_t, L>;
using Float4 = Floats<4>;
using Float8 = Floats<8>;

/// op on the registers of vectors of L lanes.
template <int L, class Op, class... V>
NCR_HD auto each(const Op& op, const V&... v) {
  if constexpr (L <= kRegister) {
    const auto raw = op(v.v...);
    return Vec<std::decay_t<decltype(raw[0])>, L>{raw};
  } else {
    const auto low = each<L / 2>(op, v.low...);
    using T = std::conditional_t<std::is_same_v<std::decay_t<decltype(low)>, Ints<L / 2>>, int32_t,
                                 float>;
    return Vec<T, L>{low, each<L / 2>(op, v.high...)};
  }
}

#define NCR_OPERATOR(symbol)                                                    \
  template <typename T, int L>                                                  \
  NCR_HD auto operator symbol(const Vec<T, L>& a, const Vec<T, L>& b) {         \
    return each<L>([](auto x, auto y) NCR_LAMBDA { return x symbol y; }, a, b); \
  }
NCR_OPERATOR(+)
NCR_OPERATOR(-)
NCR_OPERATOR(*)
NCR_OPERATOR(&)
NCR_OPERATOR(|)
NCR_OPERATOR(<)
NCR_OPERATOR(>)
NCR_OPERATOR(==)
NCR_OPERATOR(!=)
#undef NCR_OPERATOR

template <int L, typename T>
NCR_HD Vec<T, L> load(const T* p) {
  if constexpr (L <= kRegister) {
    return {*reinterpret_cast<const typename Raw<T, L>::loose*>(p)};
  } else {
    return {load<L / 2>(p), load<L / 2>(p + L / 2)};
  }
}

template <typename T, int L>
NCR_HD void store(T* p, const Vec<T, L>& v) {
  if constexpr (L <= kRegister) {
    *reinterpret_cast<typename Raw<T, L>::loose*>(p) = v.v;
  } else {
    store(p, v.low);
    store(p + L / 2, v.high);
  }
}

/// The same value in all lanes.
template <int L, typename T>
NCR_HD Vec<T, L> all(T value) {
  if constexpr (L <= kRegister) {
    return {value - typename Raw<T, L>::type{}};
  } else {
    return {all<L / 2>(value), all<L / 2>(value)};
  }
}

/// 0, step, 2 step, ...
template <int L>
NCR_HD Ints<L> counting(int32_t step = 1) {
  constexpr int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return load<L>(numbers) * all<L>(step);
}

/// a where the mask (a comparison) holds, else b.
template <typename T, int L>
NCR_HD Vec<T, L> select(const Ints<L>& mask, const Vec<T, L>& a, const Vec<T, L>& b) {
  return each<L>([](auto m, auto x, auto y) NCR_LAMBDA { return m ? x : y; }, mask, a, b);
}

/// NaN in the second operand passes.
template <typename T, int L>
NCR_HD Vec<T, L> min(const Vec<T, L>& a, const Vec<T, L>& b) {
  return each<L>([](auto x, auto y) NCR_LAMBDA { return x < y ? x : y; }, a, b);
}
template <typename T, int L>
NCR_HD Vec<T, L> max(const Vec<T, L>& a, const Vec<T, L>& b) {
  return each<L>([](auto x, auto y) NCR_LAMBDA { return x > y ? x : y; }, a, b);
}

template <int L>
NCR_HD Ints<L> truncate(const Floats<L>& v) {
  if constexpr (L <= kRegister) {
    return {__builtin_convertvector(v.v, typename Raw<int32_t, L>::type)};
  } else {
    return {truncate<L / 2>(v.low), truncate<L / 2>(v.high)};
  }
}
template <int L>
NCR_HD Floats<L> to_float(const Ints<L>& v) {
  if constexpr (L <= kRegister) {
    return {__builtin_convertvector(v.v, typename Raw<float, L>::type)};
  } else {
    return {to_float<L / 2>(v.low), to_float<L / 2>(v.high)};
  }
}

/// The bits of other lanes.
template <typename To, typename T, int L>
NCR_HD Vec<To, L> bits(const Vec<T, L>& v) {
  Vec<To, L> same;
  std::memcpy(&same, &v, sizeof(same));
  return same;
}

template <typename T, int L>
NCR_HD T first(const Vec<T, L>& v) {
  if constexpr (L <= kRegister) {
    return v.v[0];
  } else {
    return first(v.low);
  }
}

template <int L>
NCR_HD int32_t largest(const Ints<L>& v) {
  int32_t lanes[L];
  store(lanes, v);
  int32_t found = lanes[0];
  for (int k = 1; k < L; ++k) found = lanes[k] > found ? lanes[k] : found;
  return found;
}

/// Where the lanes of a shuffle come from.
template <int kFirst>
struct Shift {
  static constexpr int at(int lane) { return lane + kFirst; }
};
template <int L, int i, int j, int k, int l>
struct InQuads {
  static constexpr int at(int lane) {
    const int wanted[4] = {i, j, k, l};
    const int from = wanted[lane % 4];
    return lane / 4 * 4 + from % 4 + (from < 4 ? 0 : L);
  }
};
template <int L, unsigned kBits>
struct Blend {
  static constexpr int at(int lane) { return lane + ((kBits >> lane & 1) != 0 ? L : 0); }
};

template <class F>
NCR_HD F lerp(const F& a, const F& b, const F& weight) {
  return a + weight * (b - a);
}

// Lanes in another order.

template <class At, class V, int... k>
NCR_HD auto shuffle_by(V a, V b, std::integer_sequence<int, k...>) {
  return __builtin_shufflevector(a, b, At::at(k)...);
}

/// Lane k of the result is lane At::at(k) of a followed by b, both one register.
template <class At, int kLanes, class V>
NCR_HD auto shuffle(V a, V b) {
  return shuffle_by<At>(a, b, std::make_integer_sequence<int, kLanes>());
}

template <typename T, int L>
NCR_HD Vec<T, L / 2> low_half(const Vec<T, L>& a) {
  if constexpr (L <= kRegister) {
    return {shuffle<Shift<0>, L / 2>(a.v, a.v)};
  } else {
    return a.low;
  }
}
template <typename T, int L>
NCR_HD Vec<T, L / 2> high_half(const Vec<T, L>& a) {
  if constexpr (L <= kRegister) {
    return {shuffle<Shift<L / 2>, L / 2>(a.v, a.v)};
  } else {
    return a.high;
  }
}

template <typename T, int L>
NCR_HD Vec<T, 2 * L> join(const Vec<T, L>& a, const Vec<T, L>& b) {
  if constexpr (2 * L <= kRegister) {
    return {shuffle<Shift<0>, 2 * L>(a.v, b.v)};
  } else {
    return {a, b};
  }
}

/// L lanes from lane kFirst of a followed by b on.
template <int kFirst, typename T, int L>
NCR_HD Vec<T, L> window(const Vec<T, L>& a, const Vec<T, L>& b) {
  if constexpr (L <= kRegister) {
    return {shuffle<Shift<kFirst>, L>(a.v, b.v)};
  } else if constexpr (kFirst < L / 2) {
    return {window<kFirst>(a.low, a.high), window<kFirst>(a.high, b.low)};
  } else {
    return {window<kFirst - L / 2>(a.high, b.low), window<kFirst - L / 2>(b.low, b.high)};
  }
}

/// In every four lanes: lanes i, j, k, l of the four of a (0 to 3) and of b (4 to 7).
template <int i, int j, int k, int l, typename T, int L>
NCR_HD Vec<T, L> quads(const Vec<T, L>& a, const Vec<T, L>& b) {
  if constexpr (L <= kRegister) {
    return {shuffle<InQuads<L, i, j, k, l>, L>(a.v, b.v)};
  } else {
    return {quads<i, j, k, l>(a.low, b.low), quads<i, j, k, l>(a.high, b.high)};
  }
}
template <int i, int j, int k, int l, typename T, int L>
NCR_HD Vec<T, L> quads(const Vec<T, L>& a) {
  return quads<i, j, k, l>(a, a);
}

/// Lane k is that of b where bit k is set, else that of a.
template <unsigned kBits, typename T, int L>
NCR_HD Vec<T, L> blend(const Vec<T, L>& a, const Vec<T, L>& b) {
  if constexpr (L <= kRegister) {
    return {shuffle<Blend<L, kBits>, L>(a.v, b.v)};
  } else {
    return {blend<kBits & ((1u << L / 2) - 1)>(a.low, b.low),
            blend<(kBits >> L / 2)>(a.high, b.high)};
  }
}

/// Eight lanes of eight, or of four.
template <int i, int j, int k, int l, int m, int n, int o, int p, int L>
NCR_HD Float8 permute(const Floats<L>& a) {
  if constexpr (kRegister >= 8) {
    return {__builtin_shufflevector(a.v, a.v, i, j, k, l, m, n, o, p)};
  } else if constexpr (L == 8) {
    return {{__builtin_shufflevector(a.low.v, a.high.v, i, j, k, l)},
            {__builtin_shufflevector(a.low.v, a.high.v, m, n, o, p)}};
  } else {
    return {{__builtin_shufflevector(a.v, a.v, i, j, k, l)},
            {__builtin_shufflevector(a.v, a.v, m, n, o, p)}};
  }
}

/// Lanes kFirst to kFirst + 3.
template <int kFirst, int L>
NCR_HD Float4 four_of(const Floats<L>& a) {
  if constexpr (L <= kRegister) {
    return {shuffle<Shift<kFirst>, 4>(a.v, a.v)};
  } else {
    return window<kFirst>(a.low, a.high);
  }
}

/// The n first values, and zeros.
template <int L>
NCR_HD Floats<L> load_some(const float* p, int64_t n) {
  if (n >= L) return load<L>(p);
  if constexpr (L > 8) {
    return join(load_some<L / 2>(p, n), load_some<L / 2>(p + L / 2, n - L / 2));
  } else {
#if defined(__AVX2__)
    if constexpr (L == 8) {
      const auto wanted = counting<L>() < all<L>(static_cast<int32_t>(n));
      return {_mm256_maskload_ps(p, reinterpret_cast<__m256i>(wanted.v))};
    }
#endif
    float values[L] = {};
    for (int64_t k = 0; k < n; ++k) values[k] = p[k];
    return load<L>(values);
  }
}

template <int L>
NCR_HD void store_some(float* p, const Floats<L>& v, int64_t n) {
  if (n >= L) return store(p, v);
  if constexpr (L > 8) {
    store_some(p, low_half(v), n);
    store_some(p + L / 2, high_half(v), n - L / 2);
  } else {
#if defined(__AVX2__)
    if constexpr (L == 8) {
      const auto wanted = counting<L>() < all<L>(static_cast<int32_t>(n));
      return _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(wanted.v), v.v);
    }
#endif
    float values[L];
    store(values, v);
    for (int64_t k = 0; k < n; ++k) p[k] = values[k];
  }
}

/// Two floats from each of four places; a pair is moved as one number of 64 bits.
NCR_HD Float8 load_pairs(const float* p, int32_t a, int32_t b, int32_t c, int32_t d) {
  typedef double Two __attribute__((vector_size(16)));
  const auto two = [&](int32_t first, int32_t second) NCR_LAMBDA {
    double low, high;
    std::memcpy(&low, p + first, sizeof(low));
    std::memcpy(&high, p + second, sizeof(high));
    return Float4{reinterpret_cast<Raw<float, 4>::type>(Two{low, high})};
  };
  return join(two(a, b), two(c, d));
}

/// Adds two floats. Nothing wider is loaded: what spans two recent stores waits until both are in
/// the cache.
NCR_HD void add_two(float* to, const float* values) {
  store(to, load<2>(to) + load<2>(values));
}

/// Whether the mask holds anywhere.
template <int L>
NCR_HD bool any(const Ints<L>& mask) {
  if constexpr (L > 8 || (L == 8 && kRegister < 8)) {
    return any(low_half(mask) | high_half(mask));
  } else {
#if defined(__AVX2__)
    if constexpr (L == 8) return _mm256_movemask_epi8((__m256i)mask.v) != 0;
#endif
    int64_t parts[L / 2];
    std::memcpy(parts, &mask, sizeof(parts));
    int64_t found = 0;
    for (const int64_t part : parts) found |= part;
    return found != 0;
  }
}

// Memory that is needed soon, in the first or the second level of the cache.
NCR_HD void fetch(const float* p) {
  __builtin_prefetch(p, 0, 3);
}
NCR_HD void fetch_far(const float* p) {
  __builtin_prefetch(p, 0, 2);
}

}  // namespace ncr::cpu::NCR_VARIANT

#endif
