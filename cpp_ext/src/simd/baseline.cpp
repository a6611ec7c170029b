#include <algorithm>
#include <cmath>
#include <limits>

#include "ncr/jacobian.h"
#include "rows.h"

namespace ncr::cpu {
namespace {
#include "plain.h"

/// What every processor of the target has; warps and exponentials run as plain functors.
const Rows kTable = {
    "baseline",         {nullptr, nullptr},  {nullptr, nullptr},   {nullptr, nullptr},
    {nullptr, nullptr}, {nullptr, nullptr},  {nullptr, nullptr},   {nullptr, nullptr},
    {nullptr, nullptr}, plain_rows<float>(), plain_rows<double>(),
};
}  // namespace

const Rows* baseline_rows() {
  return &kTable;
}

}  // namespace ncr::cpu
