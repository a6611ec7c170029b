#pragma once

#include "ncr/interpolation.h"

namespace ncr {

/// Where voxel `voxel` of sample n looks: its own coordinates plus its displacement.
template <typename T, int D>
NCR_HD void position_of(const T* displacement, const Grid<D>& grid, int64_t n, int64_t voxel,
                        T (&position)[D]) {
  const int64_t count = grid.count();
  int64_t at[D];
  grid.coordinates(voxel, at);
  for (int axis = 0; axis < D; ++axis) {
    position[axis] = static_cast<T>(at[axis]) + displacement[(n * D + axis) * count + voxel];
  }
}

/// moved[p] = image(p + u[p]) (+ addend[p]); one call per voxel of the batch's output grid.
/// With addend = u = displacement and image = outer field this is the composition of two maps.
template <typename T, int D>
struct Warp {
  const T* image;         ///< (N, C, grid_in)
  const T* displacement;  ///< (N, D, grid_out)
  const T* addend;        ///< (N, C, grid_out) or null
  T* moved;               ///< (N, C, grid_out)
  Grid<D> grid_in, grid_out;
  int64_t channels;
  bool fill;
  T fill_value;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count_in = grid_in.count(), count_out = grid_out.count();
    const int64_t n = i / count_out, voxel = i % count_out;
    T position[D];
    position_of(displacement, grid_out, n, voxel, position);
    const bool filled = fill && outside(position, grid_in);
    const Cell<T, D> cell(position, grid_in);
    for (int64_t c = n * channels; c < (n + 1) * channels; ++c) {
      T value = filled ? fill_value : sample(image + c * count_in, cell);
      if (addend != nullptr) value += addend[c * count_out + voxel];
      moved[c * count_out + voxel] = value;
    }
  }
};

/// Adjoint of Warp. Adds to grad_image by add(channel, offset, value), which the launcher chooses
/// (atomic on the device, owned ranges on the processor); grad_displacement is written, or null.
/// `identity` adds the incoming gradient itself: the part of the addend when it is u.
template <typename T, int D, class Add>
struct WarpAdjoint {
  const T* image;         ///< (N, C, grid_in)
  const T* displacement;  ///< (N, D, grid_out)
  const T* grad_moved;    ///< (N, C, grid_out)
  T* grad_displacement;   ///< (N, D, grid_out) or null
  Add add;
  Grid<D> grid_in, grid_out;
  int64_t channels;
  bool fill;
  bool identity;  ///< needs channels == D

  NCR_HD void operator()(int64_t i) const {
    const int64_t count_in = grid_in.count(), count_out = grid_out.count();
    const int64_t n = i / count_out, voxel = i % count_out;
    T position[D], grad_position[D] = {};
    position_of(displacement, grid_out, n, voxel, position);
    if (!(fill && outside(position, grid_in))) {
      const Cell<T, D> cell(position, grid_in);
      for (int64_t c = n * channels; c < (n + 1) * channels; ++c) {
        const auto add_here = [&](int64_t offset, T value) { add(c, offset, value); };
        sample_adjoint(image + c * count_in, cell, grad_moved[c * count_out + voxel], add_here,
                       grad_position);
      }
    }
    if (grad_displacement == nullptr) return;
    for (int axis = 0; axis < D; ++axis) {
      const int64_t own = (n * D + axis) * count_out + voxel;
      grad_displacement[own] = grad_position[axis] + (identity ? grad_moved[own] : T(0));
    }
  }
};

/// For adjoints of which only the gradient to the displacement is wanted.
struct AddNothing {
  template <typename T>
  NCR_HD void operator()(int64_t, int64_t, T) const {}
};

/// moved[p] = image(nearest voxel to p + u[p]), half-way positions upwards; any pixel type.
template <typename Pixel, typename T, int D>
struct WarpNearest {
  const Pixel* image;     ///< (N, C, grid_in)
  const T* displacement;  ///< (N, D, grid_out)
  Pixel* moved;           ///< (N, C, grid_out)
  Grid<D> grid_in, grid_out;
  int64_t channels;
  bool fill;
  Pixel fill_value;
  Pixel broken;  ///< For NaN positions: NaN where the pixel type has it.
  bool has_broken;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count_in = grid_in.count(), count_out = grid_out.count();
    const int64_t n = i / count_out, voxel = i % count_out;
    T position[D];
    position_of(displacement, grid_out, n, voxel, position);
    const bool filled = fill && outside(position, grid_in);
    bool is_nan = false;
    int64_t offset = 0;
    for (int axis = 0; axis < D; ++axis) {
      is_nan = is_nan || !(position[axis] == position[axis]);
      offset = offset * grid_in.size[axis] + nearest(position[axis], grid_in.size[axis]);
    }
    for (int64_t c = n * channels; c < (n + 1) * channels; ++c) {
      moved[c * count_out + voxel] = filled                 ? fill_value
                                     : is_nan && has_broken ? broken
                                                            : image[c * count_in + offset];
    }
  }

  NCR_HD static int64_t nearest(T coordinate, int64_t size) {
    // Clamped before it is rounded, so that no huge value overflows the index.
    if (!(coordinate > T(0))) return 0;
    if (!(coordinate < static_cast<T>(size - 1))) return size - 1;
    return static_cast<int64_t>(coordinate + T(0.5));
  }
};

/// Adjoint of WarpNearest to the image: every voxel adds to the one it had taken. `add` as above.
template <typename T, int D, class Add>
struct WarpNearestAdjoint {
  const T* displacement;  ///< (N, D, grid_out)
  const T* grad_moved;    ///< (N, C, grid_out)
  Add add;
  Grid<D> grid_in, grid_out;
  int64_t channels;
  bool fill;

  NCR_HD void operator()(int64_t i) const {
    const int64_t count_out = grid_out.count(), n = i / count_out, voxel = i % count_out;
    T position[D];
    position_of(displacement, grid_out, n, voxel, position);
    if (fill && outside(position, grid_in)) return;
    int64_t offset = 0;
    for (int axis = 0; axis < D; ++axis) {
      const int64_t size = grid_in.size[axis];
      offset = offset * size + WarpNearest<T, T, D>::nearest(position[axis], size);
    }
    for (int64_t c = n * channels; c < (n + 1) * channels; ++c) {
      add(c, offset, grad_moved[c * count_out + voxel]);
    }
  }
};

}  // namespace ncr
