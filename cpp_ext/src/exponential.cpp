#include <array>
#include <cmath>
#include <type_traits>
#include <vector>

#include "dispatch.h"
#include "ncr/integrate.h"
#include "ncr/workspace.h"
#include "owned.h"
#include "simd/rows.h"

namespace ncr {

/// grad = the adjoint of one squaring of `field`.
template <typename T, int D>
void squaring_adjoint(Cpu cpu, const T* field, const T* grad_squared, T* grad,
                      const Grid<D>& grid) {
  launch(cpu, squaring_adjoint_in_place<T, D>(field, grad_squared, grad, grid), grid.count());
  cpu::scatter(cpu, field, grid, grid, grad, [&](cpu::AddOwned<T> add) {
    return squaring_adjoint_elsewhere<T, D>(field, grad_squared, add, grid);
  });
}

}  // namespace ncr

namespace ncr::cpu {
namespace {

/// One sample of the exponential on interleaved vectors, by the rows of an instruction set.
template <int D>
struct VectorSteps {
  Cpu cpu;
  Grid<D> grid;
  const Rows* rows;

  int64_t row_count() const { return grid.count() / grid.size[D - 1]; }

  /// Rows per thread and turn: about 4,000 voxels.
  int64_t grain() const { return std::max<int64_t>(1, 4096 / grid.size[D - 1]); }

  template <class Task>
  Task task() const {
    Task t{};
    for (int axis = 0; axis < D; ++axis) t.size[axis] = grid.size[axis];
    return t;
  }

  void start(const float* velocity, float factor, float* field) const {
    in_parts(cpu, grid.count(), 8192, [&](int64_t begin, int64_t end) {
      rows->pack[D - 2](velocity, grid.count(), factor, field, begin, end);
    });
    // Wide loads bring what lies behind the end; NaN there would pass through a zero weight.
    std::fill_n(field + D * grid.count(), kMargin, 0.0f);
  }

  void square(const float* field, float* squared) const {
    auto t = task<SquareRows>();
    t.field = field;
    t.squared = squared;
    in_parts(cpu, row_count(), grain(),
             [&](int64_t begin, int64_t end) { rows->square[D - 2](t, begin, end); });
    std::fill_n(squared + D * grid.count(), kMargin, 0.0f);
  }

  void finish(const float* field, bool squaring_left, float* displacement) const {
    if (squaring_left) {
      auto t = task<SquareRows>();
      t.field = field;
      t.planes = displacement;
      in_parts(cpu, row_count(), grain(),
               [&](int64_t begin, int64_t end) { rows->square[D - 2](t, begin, end); });
      return;
    }
    for (int64_t i = 0; i < grid.count(); ++i) {
      for (int c = 0; c < D; ++c) displacement[c * grid.count() + i] = field[D * i + c];
    }
  }

  static constexpr int64_t kWidth = gradient_width(D);

  /// Each owner of planes needs a place for what it must not add.
  int64_t nowhere_size() const { return kWidth * (2 * grid.size[D - 1] + 16); }

  int64_t grad_size() const {
    return kWidth * grid.count() + slabs_for(cpu, grid.size[0]) * nowhere_size() + 16;
  }

  void start_adjoint(const float* grad_displacement, float* grad) const {
    in_parts(cpu, grid.count(), 8192, [&](int64_t begin, int64_t end) {
      rows->pack_gradient[D - 2](grad_displacement, grid.count(), 1.0f, grad, begin, end);
    });
  }

  void square_adjoint(const float* field, const float* grad_squared, float* grad,
                      double longest) const {
    const int64_t planes = grid.size[0], inner = grid.stride(0);
    const int64_t rows_per_plane = row_count() / planes;
    const int64_t reach =
        static_cast<int64_t>(std::min(static_cast<double>(planes), std::ceil(longest * 1.001) + 1));
    const int64_t owners = slabs_for(cpu, planes);
    launch(
        cpu,
        [&](int64_t o) {
          auto t = task<SquareRowsAdjoint>();
          t.field = field;
          t.grad_squared = grad_squared;
          t.grad = grad;
          t.first = o * planes / owners;
          t.end = (o + 1) * planes / owners;
          t.nowhere = kWidth * grid.count() + o * nowhere_size();
          // Every plane starts as its incoming gradient, just ahead of the first addition to it.
          int64_t filled = t.first;
          const int64_t stop = std::min(planes, t.end + reach);
          for (int64_t plane = std::max<int64_t>(0, t.first - reach); plane < stop; ++plane) {
            const int64_t ahead = std::min(t.end, plane + reach + 1);
            if (ahead > filled) {
              std::copy_n(grad_squared + kWidth * filled * inner, kWidth * (ahead - filled) * inner,
                          grad + kWidth * filled * inner);
              filled = ahead;
            }
            rows->square_adjoint[D - 2](t, plane * rows_per_plane, (plane + 1) * rows_per_plane);
          }
        },
        owners, 1);
  }

  void finish_adjoint(const float* grad, float factor, float* grad_velocity) const {
    in_parts(cpu, grid.count(), 8192, [&](int64_t begin, int64_t end) {
      rows->unpack_gradient[D - 2](grad, grid.count(), factor, grad_velocity, begin, end);
    });
  }
};

template <typename T, class Body>
void with_steps(Cpu cpu, Shape shape, const Body& body) {
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    const auto grid = grid_of<D>(shape);
    if constexpr (std::is_same_v<T, float>) {
      // Vector offsets have 32 bits.
      const bool fits = 4 * grid.count() < (int64_t{1} << 30) && grid.size[D - 1] >= kShortestRow;
      if (rows().square[D - 2] != nullptr && fits) {
        body(VectorSteps<D>{cpu, grid, &rows()});
        return;
      }
    }
    body(PlainSteps<Cpu, T, D>{cpu, grid});
  });
}

/// Two blocks for fields or gradients, of one size, so that the adjoint finds those of the forward
/// pass in the pool.
template <typename T>
struct TwoBlocks {
  Workspace first, second;

  explicit TwoBlocks(int64_t values)
      : first(sizeof(T) * static_cast<size_t>(values)),
        second(sizeof(T) * static_cast<size_t>(values)) {}

  std::array<T*, 2> pointers() const { return {first.as<T>(), second.as<T>()}; }
};

/// The largest norm of one sample's finite vectors.
template <typename T>
double longest_vector(Cpu cpu, const T* velocity, Shape shape) {
  const int64_t count = shape.count(), rows = shape.size[0], inner = count / rows;
  std::vector<T> longest(static_cast<size_t>(rows));
  launch(
      cpu,
      [&](int64_t r) {
        longest[static_cast<size_t>(r)] =
            plain<T>(ncr::cpu::rows()).longest(velocity + r * inner, count, shape.dimension, inner);
      },
      rows, 4);
  T found = T(0);
  for (const T squared : longest) found = std::max(found, squared);
  return std::sqrt(static_cast<double>(found));
}

}  // namespace

template <typename T>
void required_squarings(Cpu cpu, const T* velocity, int64_t samples, Shape shape,
                        double longest_step, int64_t most, int64_t* squarings) {
  const int64_t values = shape.dimension * shape.count();
  for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
    const double ratio = longest_vector(inner, velocity + n * values, shape) / longest_step;
    const double exponent = ratio > 1 ? std::ceil(std::log2(ratio)) : 0.0;
    squarings[n] = std::min<int64_t>(most, static_cast<int64_t>(exponent));
  });
}

template <typename T>
void exponential(Cpu cpu, const T* velocity, int64_t samples, Shape shape, Integration how,
                 T* displacement, T* fields) {
  const int64_t stride = field_size(shape), values = shape.dimension * shape.count();
  for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
    T* kept = how.keep_every > 0 ? fields + n * how.kept * stride : nullptr;
    with_steps<T>(inner, shape, [&](const auto& steps) {
      const TwoBlocks<T> blocks(std::max(stride, steps.grad_size()));
      integrate(steps, velocity + n * values, first_factor<T>(how, n), how.squarings[n],
                how.keep_every, stride, kept, blocks.pointers(), displacement + n * values);
    });
    if (kept == nullptr) return;
    // What no field covers is 0, not whatever the memory held: outputs are functions of inputs.
    const int64_t groups = (how.squarings[n] + how.keep_every - 1) / how.keep_every;
    const int64_t used = std::max<int64_t>(groups - 1, 0);
    for (int64_t j = 0; j < used; ++j) {
      std::fill(kept + j * stride + values, kept + (j + 1) * stride, T(0));
    }
    std::fill(kept + used * stride, kept + how.kept * stride, T(0));
  });
}

template <typename T>
void exponential_adjoint(Cpu cpu, const T* velocity, const T* fields, const T* grad_displacement,
                         int64_t samples, Shape shape, Integration how, T* grad_velocity) {
  const int64_t stride = field_size(shape), values = shape.dimension * shape.count();
  for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
    with_steps<T>(inner, shape, [&](const auto& steps) {
      const T factor = first_factor<T>(how, n);
      const int64_t squarings = how.squarings[n];
      const T* v = velocity + n * values;
      T* result = grad_velocity + n * values;
      const double longest = longest_vector(inner, v, shape);
      const auto space_for = [&](int64_t count) { return sizeof(T) * static_cast<size_t>(count); };
      const Workspace spare(space_for(samples == 1 ? 1 : stride));
      T* room = samples == 1 ? result : spare.as<T>();
      const TwoBlocks<T> blocks(std::max(stride, steps.grad_size()));
      // Where nothing was kept it is integrated again, into what the gradient overwrites.
      const bool anew = how.keep_every == 0;
      const int64_t keep_every = anew ? 1 : how.keep_every;
      const Workspace integrated(space_for(anew ? std::max<int64_t>(squarings, 1) * stride : 1));
      const T* kept = anew ? integrated.as<T>() : fields + n * how.kept * stride;
      if (anew) {
        integrate(steps, v, factor, squarings, 1, stride, integrated.as<T>(), blocks.pointers(),
                  result);
      }
      const Workspace again(space_for(fields_again(squarings, keep_every) * stride));
      integrate_adjoint(steps, v, grad_displacement + n * values, factor, longest, squarings,
                        keep_every, stride, kept, blocks.pointers(), room, again.as<T>(), result);
    });
  });
}

#define NCR_INSTANTIATE(T)                                                                    \
  template void required_squarings(Cpu, const T*, int64_t, Shape, double, int64_t, int64_t*); \
  template void exponential(Cpu, const T*, int64_t, Shape, Integration, T*, T*);              \
  template void exponential_adjoint(Cpu, const T*, const T*, const T*, int64_t, Shape,        \
                                    Integration, T*)
NCR_INSTANTIATE(float);
NCR_INSTANTIATE(double);
#undef NCR_INSTANTIATE

}  // namespace ncr::cpu
