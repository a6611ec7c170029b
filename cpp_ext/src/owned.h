#pragma once

#include <vector>

#include "dispatch.h"
#include "ncr/interpolation.h"
#include "simd/rows.h"

namespace ncr::cpu {

/// Adds inside one range of offsets only. Threads own ranges, and every owner sees the additions
/// in the same order, so the sums do not depend on how many owners there are. No atomics.
template <typename T>
struct AddOwned {
  T* grad;
  int64_t count;  ///< voxels of a channel
  int64_t begin, end;

  void operator()(int64_t channel, int64_t offset, T value) const {
    if (offset >= begin && offset < end) grad[channel * count + offset] += value;
  }
};

/// The planes (along the slowest axis) of the image at which one plane of voxels looks.
struct Reach {
  int64_t first, last;
};

/// Reach of every plane of one sample's displacement (D, grid_out).
template <typename T, int D>
std::vector<Reach> reaches(Cpu cpu, const T* displacement, const Grid<D>& grid_in,
                           const Grid<D>& grid_out) {
  const int64_t planes = grid_out.size[0], inner = grid_out.stride(0);
  std::vector<Reach> reach(static_cast<size_t>(planes));
  launch(
      cpu,
      [&](int64_t plane) {
        // Relative to the plane: the position is plane + u.
        T low = T(0), high = T(0);
        const T* row = displacement + plane * inner;
        bool nan = false;
        plain<T>(rows()).range(row, inner, &low, &high, &nan);
        low += static_cast<T>(plane);
        high += static_cast<T>(plane);
        const T at_low = nan ? T(0) : low;
        reach[static_cast<size_t>(plane)] = {neighbours(at_low, grid_in.size[0]).lower,
                                             neighbours(high, grid_in.size[0]).upper};
      },
      planes, 1);
  return reach;
}

/// Number of ranges into which the planes of one sample's gradient are cut.
inline int64_t slabs_for(Cpu cpu, int64_t planes) {
  return cpu.threads > 1 ? std::min<int64_t>(planes, 2 * cpu.threads) : 1;
}

/// For each slab of planes: body(first_plane, end_plane) on one thread.
template <class Body>
void for_each_slab(Cpu cpu, int64_t planes, const Body& body) {
  const int64_t slabs = slabs_for(cpu, planes);
  launch(cpu, [&](int64_t s) { body(s * planes / slabs, (s + 1) * planes / slabs); }, slabs, 1);
}

/// Runs the scattering kernels of one sample: make(AddOwned) gives the kernel of an owner.
template <typename T, int D, class Make>
void scatter(Cpu cpu, const T* displacement, const Grid<D>& grid_in, const Grid<D>& grid_out,
             T* grad, const Make& make) {
  const auto reach = reaches(cpu, displacement, grid_in, grid_out);
  const int64_t inner_in = grid_in.stride(0), inner_out = grid_out.stride(0);
  for_each_slab(cpu, grid_in.size[0], [&](int64_t first, int64_t end) {
    const auto kernel = make(AddOwned<T>{grad, grid_in.count(), first * inner_in, end * inner_in});
    for (int64_t plane = 0; plane < grid_out.size[0]; ++plane) {
      const auto& r = reach[static_cast<size_t>(plane)];
      if (r.last < first || r.first >= end) continue;
      for (int64_t i = plane * inner_out; i < (plane + 1) * inner_out; ++i) kernel(i);
    }
  });
}

}  // namespace ncr::cpu
