#pragma once

#include <cstdint>
#include <type_traits>

#include "ncr/grid.h"

/// How whole tensors are described to the kernels, on every machine.
namespace ncr {

/// Spatial sizes, slowest axis first; 2 or 3 of them.
struct Shape {
  int dimension;
  int64_t size[3];

  int64_t count() const {
    int64_t product = 1;
    for (int axis = 0; axis < dimension; ++axis) product *= size[axis];
    return product;
  }
};

template <int D>
Grid<D> grid_of(const Shape& shape) {
  Grid<D> grid;
  for (int axis = 0; axis < D; ++axis) grid.size[axis] = shape.size[axis];
  return grid;
}

/// Calls body(std::integral_constant) for 2 or 3 axes: the one place where they part.
template <class Body>
void with_dimension(const Shape& shape, const Body& body) {
  if (shape.dimension == 2) {
    body(std::integral_constant<int, 2>());
  } else {
    body(std::integral_constant<int, 3>());
  }
}

/// What lies outside the image: its border value again, or a value of its own (ITK's rule).
struct Padding {
  bool fill;
  double value;
};

/// How a velocity is integrated: squarings[n] per sample; fields keep_every, 2 keep_every, ... of
/// sample n are kept at fields + (n * kept + j) * field_size(shape). keep_every 0 keeps none.
struct Integration {
  const int64_t* squarings;
  int64_t keep_every;
  int64_t kept;  ///< room per sample, in fields
  double sign;   ///< exp(sign * v)
};

/// Wide loads read past the end of a field, by no more than this.
constexpr int64_t kMargin = 64;

/// Values per kept field, whose layout is the kernels' own.
inline int64_t field_size(Shape shape) {
  return (shape.dimension * shape.count() + kMargin + 15) / 16 * 16;
}

}  // namespace ncr
