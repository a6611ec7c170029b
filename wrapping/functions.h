// The Python functions of the kernels: addresses, sizes and numbers in, kernel calls out. Written
// once for every machine: the first argument says which (see machine), the rest is the same.

#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <type_traits>
#include <vector>

#include "ncr/cpu.h"
#include "ncr/cuda.h"

namespace wrapping {

namespace py = pybind11;
using namespace ncr;
using namespace ncr::cpu;
using namespace ncr::cuda;

/// What Python gives for the processor is a number of threads, for a device a Cuda.
inline Cpu machine(int threads) {
  return Cpu{threads};
}
inline const Cuda& machine(const Cuda& cuda) {
  return cuda;
}

using Sizes = std::vector<int64_t>;
using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

inline Shape shape_of(const Sizes& sizes) {
  if (sizes.size() != 2 && sizes.size() != 3) throw py::value_error("2 or 3 spatial sizes needed");
  Shape shape{static_cast<int>(sizes.size()), {1, 1, 1}};
  for (size_t axis = 0; axis < sizes.size(); ++axis) shape.size[axis] = sizes[axis];
  return shape;
}

/// Without the interpreter's lock while the kernel runs.
using Unlocked = py::call_guard<py::gil_scoped_release>;

/// Functions whose values are all of one floating-point type, for one kind of machine.
template <typename T, typename Handle>
void define_for(py::module_& m, const std::string& suffix) {
  const auto def = [&](const char* name, auto function) {
    m.def((name + suffix).c_str(), function, Unlocked());
  };
  if constexpr (std::is_same_v<Handle, int>) {
    def("required_squarings", [](int threads, Address velocity, int64_t samples, const Sizes& sizes,
                                 double longest_step, int64_t most) {
      std::vector<int64_t> squarings(static_cast<size_t>(samples));
      required_squarings(Cpu{threads}, at<T>(velocity), samples, shape_of(sizes), longest_step,
                         most, squarings.data());
      return squarings;
    });
  }
  def("exponential",
      [](Handle handle, Address velocity, const Sizes& sizes, const std::vector<int64_t>& squarings,
         int64_t keep_every, int64_t kept, double sign, Address displacement, Address fields) {
        const Integration how{squarings.data(), keep_every, kept, sign};
        exponential(machine(handle), at<const T>(velocity), static_cast<int64_t>(squarings.size()),
                    shape_of(sizes), how, at<T>(displacement), at<T>(fields));
      });
  def("exponential_adjoint",
      [](Handle handle, Address velocity, Address fields, Address grad_displacement,
         const Sizes& sizes, const std::vector<int64_t>& squarings, int64_t keep_every,
         int64_t kept, double sign, Address grad_velocity) {
        const Integration how{squarings.data(), keep_every, kept, sign};
        exponential_adjoint(machine(handle), at<const T>(velocity), at<const T>(fields),
                            at<const T>(grad_displacement), static_cast<int64_t>(squarings.size()),
                            shape_of(sizes), how, at<T>(grad_velocity));
      });
  def("warp", [](Handle handle, Address image, const Sizes& in, Address displacement,
                 const Sizes& out, int64_t samples, int64_t channels, bool fill, double value,
                 Address addend, Address moved) {
    warp(machine(handle), at<const T>(image), shape_of(in), at<const T>(displacement),
         shape_of(out), samples, channels, Padding{fill, value}, at<const T>(addend), at<T>(moved));
  });
  def("warp_adjoint", [](Handle handle, Address image, const Sizes& in, Address displacement,
                         const Sizes& out, Address grad_moved, int64_t samples, int64_t channels,
                         bool fill, bool identity, Address grad_displacement, Address grad_image) {
    warp_adjoint(machine(handle), at<const T>(image), shape_of(in), at<const T>(displacement),
                 shape_of(out), at<const T>(grad_moved), samples, channels, Padding{fill, 0},
                 identity, at<T>(grad_displacement), at<T>(grad_image));
  });
  def("warp_nearest", [](Handle handle, const std::string& pixel, Address image, const Sizes& in,
                         Address displacement, const Sizes& out, int64_t samples, int64_t channels,
                         bool fill, double value, Address moved) {
    const auto run = [&](auto example) {
      using Pixel = decltype(example);
      warp_nearest(machine(handle), at<const Pixel>(image), shape_of(in), at<const T>(displacement),
                   shape_of(out), samples, channels, Padding{fill, value}, at<Pixel>(moved));
    };
    if (pixel == "float32") {
      run(float{});
    } else if (pixel == "float64") {
      run(double{});
    } else if (pixel == "uint8") {
      run(uint8_t{});
    } else if (pixel == "int16") {
      run(int16_t{});
    } else if (pixel == "int32") {
      run(int32_t{});
    } else {
      throw py::value_error("unknown pixel type " + pixel);
    }
  });
  def("warp_nearest_adjoint",
      [](Handle handle, Address displacement, const Sizes& in, const Sizes& out, Address grad_moved,
         int64_t samples, int64_t channels, bool fill, Address grad_image) {
        warp_nearest_adjoint(machine(handle), at<const T>(displacement), shape_of(in),
                             shape_of(out), at<const T>(grad_moved), samples, channels,
                             Padding{fill, 0}, at<T>(grad_image));
      });
  def("jacobian", [](Handle handle, Address displacement, int64_t samples, const Sizes& sizes,
                     Address result) {
    jacobian(machine(handle), at<const T>(displacement), samples, shape_of(sizes), at<T>(result));
  });
  def("jacobian_adjoint", [](Handle handle, Address displacement, Address grad_result,
                             int64_t samples, const Sizes& sizes, Address grad_displacement) {
    jacobian_adjoint(machine(handle), at<const T>(displacement), at<const T>(grad_result), samples,
                     shape_of(sizes), at<T>(grad_displacement));
  });
  def("box_sum", [](Handle handle, Address image, int64_t images, const Sizes& sizes,
                    int64_t radius, Address sums) {
    box_sum(machine(handle), at<const T>(image), images, shape_of(sizes), radius, at<T>(sums));
  });
  def("resize", [](Handle handle, Address image, int64_t images, const Sizes& old_sizes,
                   const Sizes& sizes, Address resized) {
    resize(machine(handle), at<const T>(image), images, shape_of(old_sizes), shape_of(sizes),
           at<T>(resized));
  });
  def("resize_adjoint", [](Handle handle, Address grad_resized, int64_t images,
                           const Sizes& old_sizes, const Sizes& sizes, Address grad_image) {
    resize_adjoint(machine(handle), at<const T>(grad_resized), images, shape_of(old_sizes),
                   shape_of(sizes), at<T>(grad_image));
  });
  def("total_variation_denoise",
      [](Handle handle, Address evidence, int64_t images, const Sizes& sizes, double weight,
         int64_t iterations, Address primal, Address dual, Address gap) {
        total_variation_denoise(machine(handle), at<const T>(evidence), images, shape_of(sizes),
                                weight, iterations, at<T>(primal), at<T>(dual), at<T>(gap));
      });
}

/// The CUDA functions, where they are built (cuda.cpp).
void define_cuda(py::module_ m);

}  // namespace wrapping
