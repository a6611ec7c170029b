#include <atomic>
#include <vector>

#include "ncr/cpu.h"
#include "simd/rows.h"

namespace ncr::cpu {

// One per compilation of simd/rows.cpp.
namespace baseline {
const Rows* rows();
}
#if defined(NCR_X86_VARIANTS)
namespace avx2 {
const Rows* rows();
}
namespace avx512 {
const Rows* rows();
}
#endif

namespace {

/// Warp and exponential by the functors, for comparisons; the loops are the baseline's.
const Rows* scalar_rows() {
  static const Rows table = [] {
    Rows plain{};
    plain.name = "scalar";
    plain.plain_float = baseline::rows()->plain_float;
    plain.plain_double = baseline::rows()->plain_double;
    return plain;
  }();
  return &table;
}

/// What this machine can run, best last.
std::vector<const Rows*> available() {
  std::vector<const Rows*> tables = {scalar_rows(), baseline::rows()};
#if defined(NCR_X86_VARIANTS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    tables.push_back(avx2::rows());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
      tables.push_back(avx512::rows());
    }
  }
#endif
  return tables;
}

std::atomic<const Rows*>& current() {
  static std::atomic<const Rows*> table{available().back()};
  return table;
}

}  // namespace

const Rows& rows() {
  return *current().load(std::memory_order_relaxed);
}

std::string variant() {
  return rows().name;
}

bool set_variant(const std::string& name) {
  for (const Rows* table : available()) {
    if (name == table->name) {
      current() = table;
      return true;
    }
  }
  return false;
}

}  // namespace ncr::cpu
