#pragma once

#include "ncr/platform.h"

namespace ncr {

/// Runs a kernel on the processor. The number of threads is the caller's (torch's), not OpenMP's.
struct Cpu {
  int threads = 1;
};

/// Calls kernel(i) for 0 <= i < n. Kernels write where no other index writes, so that the result
/// does not depend on the number of threads. `grain` indices go to one thread at a time.
template <class Kernel>
void launch(Cpu cpu, const Kernel& kernel, int64_t n, int64_t grain = 1024) {
#if defined(_OPENMP)
  if (cpu.threads > 1 && n > grain) {
#pragma omp parallel for num_threads(cpu.threads) schedule(dynamic, grain)
    for (int64_t i = 0; i < n; ++i) kernel(i);
    return;
  }
#endif
  for (int64_t i = 0; i < n; ++i) kernel(i);
}

}  // namespace ncr
