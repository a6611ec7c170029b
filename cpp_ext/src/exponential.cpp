#include "ncr/exponential.h"

#include <cmath>
#include <vector>

#include "dispatch.h"
#include "owned.h"
#include "workspace.h"

namespace ncr::cpu {
namespace {

/// Wide loads read past the end of a field.
constexpr int64_t kMargin = 64;

/// One sample of the exponential, in the plain layout (D, grid).
template <typename T, int D>
struct PlainSteps {
  Grid<D> grid;

  void start(Cpu cpu, const T* velocity, T factor, T* field) const {
    launch(cpu, Scale<T>{velocity, field, factor}, D * grid.count());
  }

  void square(Cpu cpu, const T* field, T* squared) const {
    launch(cpu, squaring<T, D>(field, squared, grid), grid.count());
  }

  void finish(Cpu cpu, const T* field, T factor, T* displacement) const {
    launch(cpu, Scale<T>{field, displacement, factor}, D * grid.count());
  }

  /// Gradients have the layout of the fields here.
  void start_adjoint(Cpu cpu, const T* grad_displacement, T* grad) const {
    launch(cpu, Scale<T>{grad_displacement, grad, T(1)}, D * grid.count());
  }

  void square_adjoint(Cpu cpu, const T* field, const T* grad_squared, T* grad) const {
    launch(cpu, squaring_adjoint_in_place<T, D>(field, grad_squared, grad, grid), grid.count());
    scatter(cpu, field, grid, grid, grad, [&](AddOwned<T> add) {
      return squaring_adjoint_elsewhere<T, D>(field, grad_squared, add, grid);
    });
  }

  void finish_adjoint(Cpu cpu, const T* grad, T factor, T* grad_velocity) const {
    launch(cpu, Scale<T>{grad, grad_velocity, factor}, D * grid.count());
  }

  int64_t grad_size() const { return D * grid.count(); }
};

/// u_K from u_0; every field whose number divides by keep_every is written to kept.
template <typename T, class Steps>
void integrate(Cpu cpu, const Steps& steps, const T* velocity, T factor, int64_t squarings,
               int64_t keep_every, int64_t stride, T* kept, T* displacement) {
  const Workspace space(sizeof(T) * static_cast<size_t>(2 * stride));
  T* spare[2] = {space.as<T>(), space.as<T>() + stride};
  int next_spare = 0;
  const auto place = [&](int64_t k) {
    if (kept != nullptr && k < squarings && k % keep_every == 0) {
      return kept + k / keep_every * stride;
    }
    next_spare = 1 - next_spare;
    return spare[next_spare];
  };
  T* field = place(0);
  steps.start(cpu, velocity, factor, field);
  for (int64_t k = 0; k < squarings; ++k) {
    T* squared = place(k + 1);
    steps.square(cpu, field, squared);
    field = squared;
  }
  steps.finish(cpu, field, T(1), displacement);
}

/// The gradient of integrate, from the kept fields; what was not kept is computed again.
template <typename T, class Steps>
void integrate_adjoint(Cpu cpu, const Steps& steps, const T* grad_displacement, T factor,
                       int64_t squarings, int64_t keep_every, int64_t stride, const T* kept,
                       T* grad_velocity) {
  const int64_t grad_size = steps.grad_size();
  const Workspace space(sizeof(T) * static_cast<size_t>(2 * grad_size + (keep_every - 1) * stride));
  T* grad = space.as<T>();
  T* next_grad = grad + grad_size;
  T* again = next_grad + grad_size;
  steps.start_adjoint(cpu, grad_displacement, grad);
  for (int64_t k = squarings - 1; k >= 0; --k) {
    const int64_t first = k / keep_every * keep_every;
    const auto field = [&](int64_t j) {
      return j == first ? kept + first / keep_every * stride : again + (j - first - 1) * stride;
    };
    const bool last_of_group = k == squarings - 1 || (k + 1) % keep_every == 0;
    if (last_of_group) {
      for (int64_t j = first; j < k; ++j) {
        steps.square(cpu, field(j), const_cast<T*>(field(j + 1)));
      }
    }
    steps.square_adjoint(cpu, field(k), grad, next_grad);
    std::swap(grad, next_grad);
  }
  steps.finish_adjoint(cpu, grad, factor, grad_velocity);
}

template <typename T, class Body>
void with_steps(Shape shape, const Body& body) {
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    body(PlainSteps<T, D>{grid_of<D>(shape)});
  });
}

template <typename T>
T first_factor(const Integration& how, int64_t n) {
  return static_cast<T>(std::ldexp(how.sign, -static_cast<int>(how.squarings[n])));
}

}  // namespace

template <typename T>
void required_squarings(Cpu cpu, const T* velocity, int64_t samples, Shape shape,
                        double longest_step, int64_t most, int64_t* squarings) {
  const int64_t count = shape.count(), rows = shape.size[0], inner = count / rows;
  const int D = shape.dimension;
  std::vector<T> longest(static_cast<size_t>(samples * rows));
  launch(
      cpu,
      [&](int64_t i) {
        const T* row = velocity + i / rows * D * count + i % rows * inner;
        T found = T(0);
        for (int64_t x = 0; x < inner; ++x) {
          T squared = row[x] * row[x] + row[count + x] * row[count + x];
          if (D == 3) squared += row[2 * count + x] * row[2 * count + x];
          // Neither NaN nor infinity passes.
          const bool larger = squared > found && squared <= std::numeric_limits<T>::max();
          found = larger ? squared : found;
        }
        longest[static_cast<size_t>(i)] = found;
      },
      samples * rows, 4);
  for (int64_t n = 0; n < samples; ++n) {
    T found = T(0);
    for (int64_t r = 0; r < rows; ++r) {
      found = std::max(found, longest[static_cast<size_t>(n * rows + r)]);
    }
    const double ratio = std::sqrt(static_cast<double>(found)) / longest_step;
    const double exponent = ratio > 1 ? std::ceil(std::log2(ratio)) : 0.0;
    squarings[n] = std::min<int64_t>(most, static_cast<int64_t>(exponent));
  }
}

int64_t field_size(Shape shape) {
  return (shape.dimension * shape.count() + kMargin + 15) / 16 * 16;
}

template <typename T>
void exponential(Cpu cpu, const T* velocity, int64_t samples, Shape shape, Integration how,
                 T* displacement, T* fields) {
  const int64_t stride = field_size(shape), values = shape.dimension * shape.count();
  for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
    with_steps<T>(shape, [&](const auto& steps) {
      T* kept = how.keep_every > 0 ? fields + n * how.kept * stride : nullptr;
      integrate(inner, steps, velocity + n * values, first_factor<T>(how, n), how.squarings[n],
                how.keep_every, stride, kept, displacement + n * values);
    });
  });
}

template <typename T>
void exponential_adjoint(Cpu cpu, const T* velocity, const T* fields, const T* grad_displacement,
                         int64_t samples, Shape shape, Integration how, T* grad_velocity) {
  const int64_t stride = field_size(shape), values = shape.dimension * shape.count();
  for_each_sample(cpu, samples, [&](int64_t n, Cpu inner) {
    with_steps<T>(shape, [&](const auto& steps) {
      const T factor = first_factor<T>(how, n);
      const int64_t squarings = how.squarings[n];
      const T* grad = grad_displacement + n * values;
      if (how.keep_every > 0) {
        integrate_adjoint(inner, steps, grad, factor, squarings, how.keep_every, stride,
                          fields + n * how.kept * stride, grad_velocity + n * values);
        return;
      }
      // Nothing was kept: integrate again, the result itself goes where the gradient will.
      const Workspace space(sizeof(T) *
                            static_cast<size_t>(std::max<int64_t>(squarings, 1) * stride));
      integrate(inner, steps, velocity + n * values, factor, squarings, 1, stride, space.as<T>(),
                grad_velocity + n * values);
      integrate_adjoint(inner, steps, grad, factor, squarings, 1, stride, space.as<T>(),
                        grad_velocity + n * values);
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
