#include "dispatch.h"
#include "ncr/box.h"
#include "ncr/jacobian.h"
#include "ncr/resize.h"
#include "ncr/workspace.h"

namespace ncr::cpu {

template <typename T>
void jacobian(Cpu cpu, const T* displacement, int64_t samples, Shape shape, T* result) {
  with_dimension(shape, [&](auto dimension) {
    constexpr int D = dimension;
    launch(cpu, Jacobian<T, D>{displacement, result, grid_of<D>(shape)}, samples * shape.count());
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

template <typename T>
void box_sum(Cpu cpu, const T* image, int64_t images, Shape shape, int64_t radius, T* sums) {
  const int64_t count = shape.count();
  const Workspace space(sizeof(T) * static_cast<size_t>(images * count));
  const T* from = image;
  int64_t inner = 1;
  for (int axis = shape.dimension - 1; axis >= 0; --axis) {
    // The last axis must end in `sums`.
    T* to = axis % 2 == 0 ? sums : space.as<T>();
    launch(cpu, BoxSumAlong<T>{from, to, shape.size[axis], inner, radius}, images * count);
    inner *= shape.size[axis];
    from = to;
  }
}

template <typename T>
void resize(Cpu cpu, const T* image, int64_t images, Shape old_shape, Shape shape, T* resized) {
  // Axis by axis, the fastest first; every intermediate has old sizes before the axis, new ones
  // from it on.
  Shape now = old_shape;
  int64_t largest = 0, inner = 1;
  for (int axis = shape.dimension - 1; axis > 0; --axis) {
    now.size[axis] = shape.size[axis];
    largest = std::max(largest, now.count());
  }
  const size_t room = sizeof(T) * static_cast<size_t>(images * largest);
  const Workspace first(room), second(shape.dimension == 3 ? room : 0);
  const T* from = image;
  now = old_shape;
  for (int axis = shape.dimension - 1; axis >= 0; --axis) {
    T* to = axis == 0 ? resized : axis == 1 ? first.as<T>() : second.as<T>();
    now.size[axis] = shape.size[axis];
    launch(cpu, ResizeAlong<T>{from, to, old_shape.size[axis], shape.size[axis], inner},
           images * now.count());
    inner *= shape.size[axis];
    from = to;
  }
}

template <typename T>
void resize_adjoint(Cpu cpu, const T* grad_resized, int64_t images, Shape old_shape, Shape shape,
                    T* grad_image) {
  // The steps of resize backwards: the slowest axis first.
  Shape now = shape;
  int64_t largest = 0;
  for (int axis = 0; axis < shape.dimension - 1; ++axis) {
    now.size[axis] = old_shape.size[axis];
    largest = std::max(largest, now.count());
  }
  const size_t room = sizeof(T) * static_cast<size_t>(images * largest);
  const Workspace first(room), second(shape.dimension == 3 ? room : 0);
  const T* from = grad_resized;
  now = shape;
  for (int axis = 0; axis < shape.dimension; ++axis) {
    const bool last = axis == shape.dimension - 1;
    T* to = last ? grad_image : axis == 0 ? first.as<T>() : second.as<T>();
    now.size[axis] = old_shape.size[axis];
    int64_t inner = 1;
    for (int a = axis + 1; a < shape.dimension; ++a) inner *= shape.size[a];
    launch(cpu, ResizeAlongAdjoint<T>{from, to, old_shape.size[axis], shape.size[axis], inner},
           images * now.count());
    from = to;
  }
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
