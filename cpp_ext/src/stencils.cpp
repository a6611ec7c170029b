#include <cmath>
#include <vector>

#include "dispatch.h"
#include "ncr/jacobian.h"
#include "ncr/resize.h"
#include "ncr/workspace.h"
#include "simd/rows.h"

namespace ncr::cpu {

template <typename T>
void jacobian(Cpu cpu, const T* displacement, int64_t samples, Shape shape, T* result) {
  const int D = shape.dimension;
  for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
    rows_in_parts(inner, shape, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        plain<T>(rows()).jacobian_row[D - 2](displacement + n * D * shape.count(),
                                             result + n * shape.count(), shape.size, row);
      }
    });
  });
}

template <typename T>
void jacobian_adjoint(Cpu cpu, const T* displacement, const T* grad_result, int64_t samples,
                      Shape shape, T* grad_displacement) {
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    const JacobianAdjoint<T, D> kernel{displacement, grad_result, grad_displacement,
                                       grid_of<D>(shape)};
    launch(cpu, kernel, samples * shape.count());
  });
}

namespace {

/// Planes of a volume, (count, height, length); a 2D image is one plane.
struct Planes {
  int64_t count, height, length;

  explicit Planes(const Shape& shape)
      : count(shape.dimension == 3 ? shape.size[0] : 1),
        height(shape.size[shape.dimension - 2]),
        length(shape.size[shape.dimension - 1]) {}

  int64_t size() const { return height * length; }
};

/// Window sums within one plane: along x, then along y.
template <typename T>
void box_plane(const PlainRows<T>& rows, const Planes& planes, const T* plane, int64_t radius,
               T* sums) {
  const int64_t length = planes.length, padded = length + 2 * radius;
  const Workspace space(sizeof(T) * static_cast<size_t>(padded + planes.size()));
  T* margin = space.as<T>();  // one row with margins of zeros
  T* along_x = margin + padded;
  std::fill_n(margin, padded, T(0));
  for (int64_t y = 0; y < planes.height; ++y) {
    std::copy_n(plane + y * length, length, margin + radius);
    rows.sum_rows(margin, 1, 2 * radius + 1, along_x + y * length, length);
  }
  for (int64_t y = 0; y < planes.height; ++y) {
    const int64_t first = std::max<int64_t>(0, y - radius);
    const int64_t last = std::min(planes.height - 1, y + radius);
    rows.sum_rows(along_x + first * length, length, last - first + 1, sums + y * length, length);
  }
}

/// One row of the sums along z of planes that are summed already.
template <typename T>
void sum_along_z(const PlainRows<T>& rows, const Planes& planes, int64_t radius, const T* volume,
                 int64_t z, int64_t y, T* out) {
  const int64_t first = std::max<int64_t>(0, z - radius);
  const int64_t last = std::min(planes.count - 1, z + radius);
  rows.sum_rows(volume + first * planes.size() + y * planes.length, planes.size(), last - first + 1,
                out, planes.length);
}

/// Where the voxels of a new axis lie on the old one, in tables.
template <typename T>
struct AxisTable {
  std::vector<int32_t> lower;
  std::vector<T> weight;
  bool pairs;  ///< whether lower + 1 exists

  AxisTable(int64_t size, int64_t old_size) : pairs(old_size > 1) {
    for (int64_t i = 0; i < size; ++i) {
      const auto b = between(i, size, old_size);
      lower.push_back(static_cast<int32_t>(b.lower));
      weight.push_back(static_cast<T>(b.weight_upper));
    }
  }

  int64_t upper(int64_t i) const { return lower[static_cast<size_t>(i)] + (pairs ? 1 : 0); }
};

/// Which new voxels an old one gave to, and with what weight, as `most` layers: layer t holds for
/// every old voxel the t-th taker.
template <typename T>
struct TakerTable {
  int64_t most = 0;
  std::vector<int32_t> index;
  std::vector<T> weight;

  TakerTable(int64_t size, int64_t old_size) {
    std::vector<std::vector<std::pair<int32_t, T>>> takers(static_cast<size_t>(old_size));
    for (int64_t i = 0; i < size; ++i) {
      const auto b = between(i, size, old_size);
      const T w = static_cast<T>(b.weight_upper);
      takers[static_cast<size_t>(b.lower)].push_back({static_cast<int32_t>(i), T(1) - w});
      if (w != T(0) && b.upper != b.lower) {
        takers[static_cast<size_t>(b.upper)].push_back({static_cast<int32_t>(i), w});
      }
    }
    for (const auto& t : takers) most = std::max(most, static_cast<int64_t>(t.size()));
    index.assign(static_cast<size_t>(most * old_size), 0);
    weight.assign(static_cast<size_t>(most * old_size), T(0));
    for (size_t i = 0; i < takers.size(); ++i) {
      for (size_t t = 0; t < takers[i].size(); ++t) {
        index[t * takers.size() + i] = takers[i][t].first;
        weight[t * takers.size() + i] = takers[i][t].second;
      }
    }
  }
};

}  // namespace

template <typename T>
void box_sum(Cpu cpu, const T* image, int64_t images, Shape shape, int64_t radius, T* sums) {
  const auto& rows = plain<T>(ncr::cpu::rows());
  const Planes planes(shape);
  const bool deep = planes.count > 1;
  const Workspace space(sizeof(T) * static_cast<size_t>(deep ? images * shape.count() : 1));
  T* in_planes = deep ? space.as<T>() : sums;
  launch(
      cpu,
      [&](int64_t i) {
        box_plane(rows, planes, image + i * planes.size(), radius, in_planes + i * planes.size());
      },
      images * planes.count, 1);
  if (!deep) return;
  launch(
      cpu,
      [&](int64_t i) {
        const T* volume = in_planes + i / planes.count * shape.count();
        for (int64_t y = 0; y < planes.height; ++y) {
          sum_along_z(rows, planes, radius, volume, i % planes.count, y,
                      sums + i * planes.size() + y * planes.length);
        }
      },
      images * planes.count, 1);
}

/// Resizing a volume plane by plane: x and y in the old planes, then z between two of them.
template <typename T>
void resize(Cpu cpu, const T* image, int64_t images, Shape old_shape, Shape shape, T* resized) {
  const auto& rows = plain<T>(ncr::cpu::rows());
  const Planes from(old_shape), to(shape);
  const AxisTable<T> x(to.length, from.length), y(to.height, from.height), z(to.count, from.count);
  const int64_t slabs = std::min<int64_t>(to.count, cpu.threads > 1 ? 2 * cpu.threads : 1);
  launch(
      cpu,
      [&](int64_t unit) {
        const int64_t n = unit / slabs, slab = unit % slabs;
        const Workspace space(
            sizeof(T) *
            static_cast<size_t>(2 * to.size() + from.height * to.length + from.length + 1));
        T* plane[2] = {space.as<T>(), space.as<T>() + to.size()};
        int64_t held[2] = {-1, -1};
        T* wide = space.as<T>() + 2 * to.size();
        T* row = wide + from.height * to.length;  // One more than a row: its weight is 0.
        row[from.length] = T(0);
        const auto expanded = [&](int64_t old_z) {
          const int slot = static_cast<int>(old_z % 2);
          if (held[slot] == old_z) return plane[slot];
          held[slot] = old_z;
          const T* old_plane = image + (n * from.count + old_z) * from.size();
          for (int64_t old_y = 0; old_y < from.height; ++old_y) {
            std::copy_n(old_plane + old_y * from.length, from.length, row);
            rows.expand_row(row, x.lower.data(), x.weight.data(), wide + old_y * to.length,
                            to.length);
          }
          for (int64_t i = 0; i < to.height; ++i) {
            rows.mix_rows(wide + y.lower[static_cast<size_t>(i)] * to.length,
                          wide + y.upper(i) * to.length, y.weight[static_cast<size_t>(i)],
                          plane[slot] + i * to.length, to.length);
          }
          return plane[slot];
        };
        for (int64_t k = slab * to.count / slabs; k < (slab + 1) * to.count / slabs; ++k) {
          const T* below = expanded(z.lower[static_cast<size_t>(k)]);
          const T* above = expanded(z.upper(k));
          rows.mix_rows(below, above, z.weight[static_cast<size_t>(k)],
                        resized + (n * to.count + k) * to.size(), to.size());
        }
      },
      images * slabs, 1);
}

template <typename T>
void resize_adjoint(Cpu cpu, const T* grad_resized, int64_t images, Shape old_shape, Shape shape,
                    T* grad_image) {
  const auto& rows = plain<T>(ncr::cpu::rows());
  const Planes from(old_shape), to(shape);
  const TakerTable<T> x(to.length, from.length), y(to.height, from.height), z(to.count, from.count);
  launch(
      cpu,
      [&](int64_t unit) {
        const int64_t n = unit / from.count, old_z = unit % from.count;
        const Workspace space(sizeof(T) * static_cast<size_t>(to.size() + to.length));
        T* plane = space.as<T>();
        T* row = plane + to.size();
        std::fill_n(plane, to.size(), T(0));
        for (int64_t t = 0; t < z.most; ++t) {
          const size_t k = static_cast<size_t>(t * from.count + old_z);
          if (z.weight[k] == T(0)) continue;
          rows.add_row(grad_resized + (n * to.count + z.index[k]) * to.size(), z.weight[k], plane,
                       to.size());
        }
        for (int64_t old_y = 0; old_y < from.height; ++old_y) {
          std::fill_n(row, to.length, T(0));
          for (int64_t t = 0; t < y.most; ++t) {
            const size_t k = static_cast<size_t>(t * from.height + old_y);
            if (y.weight[k] == T(0)) continue;
            rows.add_row(plane + y.index[k] * to.length, y.weight[k], row, to.length);
          }
          T* out = grad_image + (unit * from.height + old_y) * from.length;
          std::fill_n(out, from.length, T(0));
          for (int64_t t = 0; t < x.most; ++t) {
            const size_t k = static_cast<size_t>(t * from.length);
            rows.gather_row(row, x.index.data() + k, x.weight.data() + k, out, from.length);
          }
        }
      },
      images * from.count, 1);
}

#define NCR_INSTANTIATE(T)                                                     \
  template void jacobian(Cpu, const T*, int64_t, Shape, T*);                   \
  template void jacobian_adjoint(Cpu, const T*, const T*, int64_t, Shape, T*); \
  template void box_sum(Cpu, const T*, int64_t, Shape, int64_t, T*);           \
  template void resize(Cpu, const T*, int64_t, Shape, Shape, T*);              \
  template void resize_adjoint(Cpu, const T*, int64_t, Shape, Shape, T*)
NCR_INSTANTIATE(float);
NCR_INSTANTIATE(double);
#undef NCR_INSTANTIATE

}  // namespace ncr::cpu
