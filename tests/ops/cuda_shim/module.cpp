// A Python module of kernels.cu and its binding alone, compiled as C++ against the header beside
// this file: "devices" are the processor, their addresses its own.

#include "cuda.cpp"
#include "cuda_runtime.h"

PYBIND11_MODULE(cuda_shim, m) {
  wrapping::define_cuda(m);
  m.def("set_backwards", [](bool backwards) { cuda_shim::backwards = backwards; });
  m.def("set_devices", [](int devices) { cuda_shim::devices = devices; });
  m.def("current_device", [] { return cuda_shim::device; });
  m.def("count_launches", [] { return cuda_shim::launches; });
  m.def("largest_grid", [] { return cuda_shim::largest_grid; });
}
