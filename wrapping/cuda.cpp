// itk_ncr._kernels.cuda: the kernels on tensors of a CUDA device. Built with NCR_CUDA only.

#include <pybind11/functional.h>

#include "functions.h"

namespace wrapping {

void define_cuda(py::module_ m) {
  using Allocate = std::function<Address(size_t)>;
  py::class_<Cuda>(m, "Cuda", py::module_local(), "A device, a stream, and who gives memory on it.")
      .def(py::init([](int device, Address stream, const Allocate& allocate) {
        return Cuda{device, at<void>(stream),
                    [allocate](size_t bytes) { return at<void>(allocate(bytes)); }};
      }));
  m.def("usable", &usable);
  define_for<float, const Cuda&>(m, "_float32");
  define_for<double, const Cuda&>(m, "_float64");
}

}  // namespace wrapping
