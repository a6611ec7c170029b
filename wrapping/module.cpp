// itk_ncr._kernels: addresses, sizes and numbers in, kernel calls out. It knows neither torch nor
// numpy, so one build serves all their versions. Everything is checked in itk_ncr/ops.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <vector>

#include "ncr/cpu.h"
#include "ncr/workspace.h"

namespace py = pybind11;
using ncr::Cpu;
using ncr::cpu::Integration;
using ncr::cpu::Padding;
using ncr::cpu::Shape;

namespace {

using Sizes = std::vector<int64_t>;
using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

Shape shape_of(const Sizes& sizes) {
  if (sizes.size() != 2 && sizes.size() != 3) throw py::value_error("2 or 3 spatial sizes needed");
  Shape shape{static_cast<int>(sizes.size()), {1, 1, 1}};
  for (size_t axis = 0; axis < sizes.size(); ++axis) shape.size[axis] = sizes[axis];
  return shape;
}

/// Without the interpreter's lock while the kernel runs.
using Unlocked = py::call_guard<py::gil_scoped_release>;

/// Functions whose values are all of one floating-point type; `f32` and `f64` are their suffixes.
template <typename T>
void define_for(py::module_& m, const std::string& suffix) {
  const auto def = [&](const char* name, auto function) {
    m.def((name + suffix).c_str(), function, Unlocked());
  };
  def("required_squarings", [](int threads, Address velocity, int64_t samples, const Sizes& sizes,
                               double longest_step, int64_t most) {
    std::vector<int64_t> squarings(static_cast<size_t>(samples));
    ncr::cpu::required_squarings(Cpu{threads}, at<T>(velocity), samples, shape_of(sizes),
                                 longest_step, most, squarings.data());
    return squarings;
  });
  def("exponential",
      [](int threads, Address velocity, const Sizes& sizes, const std::vector<int64_t>& squarings,
         int64_t keep_every, int64_t kept, double sign, Address displacement, Address fields) {
        const Integration how{squarings.data(), keep_every, kept, sign};
        ncr::cpu::exponential(Cpu{threads}, at<const T>(velocity),
                              static_cast<int64_t>(squarings.size()), shape_of(sizes), how,
                              at<T>(displacement), at<T>(fields));
      });
  def("exponential_adjoint", [](int threads, Address velocity, Address fields,
                                Address grad_displacement, const Sizes& sizes,
                                const std::vector<int64_t>& squarings, int64_t keep_every,
                                int64_t kept, double sign, Address grad_velocity) {
    const Integration how{squarings.data(), keep_every, kept, sign};
    ncr::cpu::exponential_adjoint(
        Cpu{threads}, at<const T>(velocity), at<const T>(fields), at<const T>(grad_displacement),
        static_cast<int64_t>(squarings.size()), shape_of(sizes), how, at<T>(grad_velocity));
  });
  def("warp", [](int threads, Address image, const Sizes& in, Address displacement,
                 const Sizes& out, int64_t samples, int64_t channels, bool fill, double value,
                 Address addend, Address moved) {
    ncr::cpu::warp(Cpu{threads}, at<const T>(image), shape_of(in), at<const T>(displacement),
                   shape_of(out), samples, channels, Padding{fill, value}, at<const T>(addend),
                   at<T>(moved));
  });
  def("warp_adjoint", [](int threads, Address image, const Sizes& in, Address displacement,
                         const Sizes& out, Address grad_moved, int64_t samples, int64_t channels,
                         bool fill, bool identity, Address grad_displacement, Address grad_image) {
    ncr::cpu::warp_adjoint(Cpu{threads}, at<const T>(image), shape_of(in),
                           at<const T>(displacement), shape_of(out), at<const T>(grad_moved),
                           samples, channels, Padding{fill, 0}, identity, at<T>(grad_displacement),
                           at<T>(grad_image));
  });
  def("warp_nearest", [](int threads, const std::string& pixel, Address image, const Sizes& in,
                         Address displacement, const Sizes& out, int64_t samples, int64_t channels,
                         bool fill, double value, Address moved) {
    const auto run = [&](auto example) {
      using Pixel = decltype(example);
      ncr::cpu::warp_nearest(Cpu{threads}, at<const Pixel>(image), shape_of(in),
                             at<const T>(displacement), shape_of(out), samples, channels,
                             Padding{fill, value}, at<Pixel>(moved));
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
      [](int threads, Address displacement, const Sizes& in, const Sizes& out, Address grad_moved,
         int64_t samples, int64_t channels, bool fill, Address grad_image) {
        ncr::cpu::warp_nearest_adjoint(Cpu{threads}, at<const T>(displacement), shape_of(in),
                                       shape_of(out), at<const T>(grad_moved), samples, channels,
                                       Padding{fill, 0}, at<T>(grad_image));
      });
  def("warp_mse", [](int threads, Address image, const Sizes& in, Address displacement,
                     const Sizes& out, Address fixed, Address weight, int64_t samples,
                     int64_t channels, Address distances, Address grad_displacement) {
    ncr::cpu::warp_mse(Cpu{threads}, at<const T>(image), shape_of(in), at<const T>(displacement),
                       shape_of(out), at<const T>(fixed), at<const T>(weight), samples, channels,
                       at<T>(distances), at<T>(grad_displacement));
  });
  def("jacobian",
      [](int threads, Address displacement, int64_t samples, const Sizes& sizes, Address result) {
        ncr::cpu::jacobian(Cpu{threads}, at<const T>(displacement), samples, shape_of(sizes),
                           at<T>(result));
      });
  def("jacobian_adjoint", [](int threads, Address displacement, Address grad_result,
                             int64_t samples, const Sizes& sizes, Address grad_displacement) {
    ncr::cpu::jacobian_adjoint(Cpu{threads}, at<const T>(displacement), at<const T>(grad_result),
                               samples, shape_of(sizes), at<T>(grad_displacement));
  });
  def("box_sum", [](int threads, Address image, int64_t images, const Sizes& sizes, int64_t radius,
                    Address sums) {
    ncr::cpu::box_sum(Cpu{threads}, at<const T>(image), images, shape_of(sizes), radius,
                      at<T>(sums));
  });
  def("resize", [](int threads, Address image, int64_t images, const Sizes& old_sizes,
                   const Sizes& sizes, Address resized) {
    ncr::cpu::resize(Cpu{threads}, at<const T>(image), images, shape_of(old_sizes), shape_of(sizes),
                     at<T>(resized));
  });
  def("resize_adjoint", [](int threads, Address grad_resized, int64_t images,
                           const Sizes& old_sizes, const Sizes& sizes, Address grad_image) {
    ncr::cpu::resize_adjoint(Cpu{threads}, at<const T>(grad_resized), images, shape_of(old_sizes),
                             shape_of(sizes), at<T>(grad_image));
  });
  def("local_ncc", [](int threads, Address moved, Address fixed, Address weight, int64_t samples,
                      const Sizes& sizes, int64_t radius, double eps, Address map, Address sums) {
    ncr::cpu::local_ncc(Cpu{threads}, at<const T>(moved), at<const T>(fixed), at<const T>(weight),
                        samples, shape_of(sizes), radius, static_cast<T>(eps), at<T>(map),
                        at<T>(sums));
  });
  def("local_ncc_adjoint",
      [](int threads, Address moved, Address fixed, Address weight, Address sums, Address grad_map,
         int64_t samples, const Sizes& sizes, int64_t radius, double eps, Address grad_moved) {
        ncr::cpu::local_ncc_adjoint(Cpu{threads}, at<const T>(moved), at<const T>(fixed),
                                    at<const T>(weight), at<const T>(sums), at<const T>(grad_map),
                                    samples, shape_of(sizes), radius, static_cast<T>(eps),
                                    at<T>(grad_moved));
      });
  def("total_variation_denoise", [](int threads, Address evidence, int64_t images,
                                    const Sizes& sizes, double weight, int64_t iterations,
                                    Address primal, Address dual, Address gap) {
    ncr::cpu::total_variation_denoise(Cpu{threads}, at<const T>(evidence), images, shape_of(sizes),
                                      weight, iterations, at<T>(primal), at<T>(dual), at<T>(gap));
  });
}

py::dict build_info() {
  py::dict info;
  info["version"] = NCR_VERSION;
  info["simd"] = ncr::cpu::variant();
#if defined(_OPENMP)
  info["openmp"] = true;
#else
  info["openmp"] = false;
#endif
  info["cuda"] = false;
  return info;
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "Compiled kernels of itk_ncr: contiguous arrays by address.";
  py::class_<ncr::cpu::Workspace>(m, "Workspace", py::buffer_protocol(),
                                  "Uninitialised bytes out of the kernels' own pool.")
      .def(py::init<size_t>())
      .def_buffer([](ncr::cpu::Workspace& space) {
        return py::buffer_info(space.as<unsigned char>(), static_cast<py::ssize_t>(space.bytes()));
      });
  m.def("build_info", &build_info);
  m.def("release_memory", &ncr::cpu::release_memory);
  m.def("set_variant", &ncr::cpu::set_variant);
  m.def("field_size", [](const Sizes& sizes) { return ncr::cpu::field_size(shape_of(sizes)); });
  define_for<float>(m, "_float32");
  define_for<double>(m, "_float64");
}
