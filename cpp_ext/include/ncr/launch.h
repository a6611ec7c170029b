#pragma once

#include "ncr/platform.h"

#if defined(__SANITIZE_THREAD__)
#include <atomic>
#include <thread>
#include <vector>
#endif

namespace ncr {

/// Runs a kernel on the processor. The number of threads is the caller's (torch's), not OpenMP's.
struct Cpu {
  int threads = 1;
};

#if defined(__SANITIZE_THREAD__)
/// The thread sanitizer does not see how gcc's OpenMP threads wait for each other and would call
/// every shared value a race: for it the same loop on threads that it knows.
template <class Kernel>
void launch_watched(int threads, const Kernel& kernel, int64_t n, int64_t grain) {
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t begin; (begin = next.fetch_add(grain, std::memory_order_relaxed)) < n;) {
      for (int64_t i = begin; i < n && i < begin + grain; ++i) kernel(i);
    }
  };
  std::vector<std::thread> team;
  for (int k = 1; k < threads; ++k) team.emplace_back(work);
  work();
  for (auto& one : team) one.join();
}
#endif

/// Calls kernel(i) for 0 <= i < n. Kernels write where no other index writes, so that the result
/// does not depend on the number of threads. `grain` indices go to one thread at a time.
template <class Kernel>
void launch([[maybe_unused]] Cpu cpu, const Kernel& kernel, int64_t n,
            [[maybe_unused]] int64_t grain = 1024) {
#if defined(__SANITIZE_THREAD__)
  if (cpu.threads > 1 && n > grain) return launch_watched(cpu.threads, kernel, n, grain);
#elif defined(_OPENMP)
  if (cpu.threads > 1 && n > grain) {
#pragma omp parallel for num_threads(cpu.threads) schedule(dynamic, grain)
    for (int64_t i = 0; i < n; ++i) kernel(i);
    return;
  }
#endif
  for (int64_t i = 0; i < n; ++i) kernel(i);
}

}  // namespace ncr
