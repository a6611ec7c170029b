#include "ncr/cpu.h"

namespace ncr::cpu {

std::string variant() {
  return "scalar";
}

bool set_variant(const std::string& name) {
  return name == "scalar";
}

}  // namespace ncr::cpu
