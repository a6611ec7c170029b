#pragma once

#include <array>
#include <cmath>
#include <utility>

#include "ncr/exponential.h"
#include "ncr/shape.h"

/// Scaling and squaring of one sample and its adjoint: the order of the steps and where fields are
/// kept, for every machine. `Steps` are what differs: the layout of fields and who loops.
namespace ncr {

/// Steps by the functors, on fields (D, grid). A machine has `launch(machine, kernel, n)` and
/// `squaring_adjoint(machine, field, grad_squared, grad, grid)`.
template <class Machine, typename T, int D>
struct PlainSteps {
  const Machine& machine;
  Grid<D> grid;

  void start(const T* velocity, T factor, T* field) const {
    launch(machine, Scale<T>{velocity, field, factor}, D * grid.count());
  }

  void square(const T* field, T* squared) const {
    launch(machine, squaring<T, D>(field, squared, grid), grid.count());
  }

  /// The last squaring, or with none the first field, as (D, grid).
  void finish(const T* field, bool squaring_left, T* displacement) const {
    squaring_left ? square(field, displacement) : start(field, T(1), displacement);
  }

  void start_adjoint(const T* grad_displacement, T* grad) const {
    start(grad_displacement, T(1), grad);
  }

  /// `longest` bounds the steps of the field, in voxels.
  void square_adjoint(const T* field, const T* grad_squared, T* grad, double) const {
    squaring_adjoint(machine, field, grad_squared, grad, grid);
  }

  void finish_adjoint(const T* grad, T factor, T* grad_velocity) const {
    start(grad, factor, grad_velocity);
  }

  /// Values of a gradient.
  int64_t grad_size() const { return D * grid.count(); }
};

/// sign / 2^K of sample n.
template <typename T>
T first_factor(const Integration& how, int64_t n) {
  return static_cast<T>(std::ldexp(how.sign, -static_cast<int>(how.squarings[n])));
}

/// Number of fields that integrate_adjoint computes again between two kept ones, but for the first.
inline int64_t fields_again(int64_t squarings, int64_t keep_every) {
  const int64_t between = keep_every < squarings ? keep_every : squarings;
  return between > 2 ? between - 2 : 0;
}

/// u_K from u_0; every field whose number divides by keep_every is written to `kept` (or null).
/// `spare`: memory for two fields.
template <typename T, class Steps>
void integrate(const Steps& steps, const T* velocity, T factor, int64_t squarings,
               int64_t keep_every, int64_t stride, T* kept, std::array<T*, 2> spare,
               T* displacement) {
  int next_spare = 0;
  const auto place = [&](int64_t k) {
    // Field 0 is not kept: it is the velocity times a factor.
    if (kept != nullptr && k > 0 && k < squarings && k % keep_every == 0) {
      return kept + (k / keep_every - 1) * stride;
    }
    next_spare = 1 - next_spare;
    return spare[next_spare];
  };
  T* field = place(0);
  steps.start(velocity, factor, field);
  for (int64_t k = 1; k < squarings; ++k) {
    T* squared = place(k);
    steps.square(field, squared);
    field = squared;
  }
  steps.finish(field, squarings > 0, displacement);
}

/// The gradient of integrate, from the kept fields; what was not kept is computed again. Memory:
/// `grads` for two gradients, `room` for one field (it may be that of grad_velocity), `again` for
/// fields_again fields.
template <typename T, class Steps>
void integrate_adjoint(const Steps& steps, const T* velocity, const T* grad_displacement, T factor,
                       double longest, int64_t squarings, int64_t keep_every, int64_t stride,
                       const T* kept, std::array<T*, 2> grads, T* room, T* again,
                       T* grad_velocity) {
  T* grad = grads[0];
  T* next_grad = grads[1];
  steps.start_adjoint(grad_displacement, grad);
  // What is computed again between two kept fields: the first one in `room`.
  const auto anew = [&](int64_t j) { return j == 1 ? room : again + (j - 2) * stride; };
  for (int64_t k = squarings - 1; k >= 0; --k) {
    const int64_t first = k / keep_every * keep_every;
    if (k > first && (k == squarings - 1 || (k + 1) % keep_every == 0)) {
      const T* field = first > 0 ? kept + (first / keep_every - 1) * stride : next_grad;
      // Field 0 is not kept, and its place is needed only until field 1 is there.
      if (first == 0) steps.start(velocity, factor, next_grad);
      for (int64_t j = first + 1; j <= k; ++j) {
        steps.square(field, anew(j - first));
        field = anew(j - first);
      }
    }
    if (k == 0) steps.start(velocity, factor, room);
    const T* field = k > first ? anew(k - first)
                     : k > 0   ? kept + (k / keep_every - 1) * stride
                               : room;
    // A squaring at most doubles the longest step.
    steps.square_adjoint(field, grad, next_grad,
                         std::ldexp(longest, static_cast<int>(k - squarings)));
    std::swap(grad, next_grad);
  }
  steps.finish_adjoint(grad, factor, grad_velocity);
}

}  // namespace ncr
