#pragma once

#include <algorithm>

#include "ncr/cpu.h"

namespace ncr::cpu {

/// Calls body(begin, end) for parts of [0, n).
template <class Body>
void in_parts(Cpu cpu, int64_t n, int64_t part, const Body& body) {
  const int64_t parts = (n + part - 1) / part;
  launch(cpu, [&](int64_t i) { body(i * part, std::min(n, (i + 1) * part)); }, parts, 1);
}

/// Rows of one grid in parts of some 4,000 voxels.
template <class Body>
void rows_in_parts(Cpu cpu, const Shape& shape, const Body& body) {
  const int64_t length = shape.size[shape.dimension - 1];
  in_parts(cpu, shape.count() / length, std::max<int64_t>(1, 4096 / length), body);
}

/// Spreads samples over the threads when there are enough of them; else one after the other, each
/// with all threads. Both give the same bits.
template <class Body>
void for_each_sample(Cpu cpu, int64_t samples, const Body& body) {
  if (cpu.threads > 1 && (samples >= 2 * cpu.threads || samples % cpu.threads == 0)) {
    launch(cpu, [&](int64_t n) { body(n, Cpu{1}); }, samples, 1);
  } else {
    for (int64_t n = 0; n < samples; ++n) body(n, cpu);
  }
}

}  // namespace ncr::cpu
