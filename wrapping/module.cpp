// itk_ncr._kernels: it knows neither torch nor numpy, so one build serves all their versions.
// Everything is checked in itk_ncr/ops.

#include "functions.h"
#include "ncr/workspace.h"

namespace py = pybind11;

namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = NCR_VERSION;
  info["simd"] = ncr::cpu::variant();
#if defined(_OPENMP)
  info["openmp"] = true;
#else
  info["openmp"] = false;
#endif
#if defined(NCR_WITH_CUDA)
  info["cuda"] = true;
#else
  info["cuda"] = false;
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "Compiled kernels of itk_ncr: contiguous arrays by address.";
  py::class_<ncr::cpu::Workspace>(m, "Workspace", py::module_local(), py::buffer_protocol(),
                                  "Uninitialised bytes out of the kernels' own pool.")
      .def(py::init<size_t>())
      .def_buffer([](ncr::cpu::Workspace& space) {
        return py::buffer_info(space.as<unsigned char>(), static_cast<py::ssize_t>(space.bytes()));
      });
  m.def("build_info", &build_info);
  m.def("kept_memory", &ncr::cpu::kept_memory);
  m.def("release_memory", &ncr::cpu::release_memory);
  m.def("set_variant", &ncr::cpu::set_variant);
  m.def("field_size",
        [](const wrapping::Sizes& sizes) { return ncr::field_size(wrapping::shape_of(sizes)); });
  wrapping::define_for<float, int>(m, "_float32");
  wrapping::define_for<double, int>(m, "_float64");
#if defined(NCR_WITH_CUDA)
  wrapping::define_cuda(m.def_submodule("cuda", "The same on tensors of a CUDA device."));
#endif
}
