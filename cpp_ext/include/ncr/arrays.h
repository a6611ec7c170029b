#pragma once

#include "ncr/platform.h"

namespace ncr {

template <typename T>
struct Fill {
  T* values;
  T value;

  NCR_HD void operator()(int64_t i) const { values[i] = value; }
};

/// `parts` sums per sample, each over every parts-th value (neighbours belong to neighbouring sums,
/// as a device reads them best). In double, in a fixed order.
template <typename From, typename To>
struct SumInParts {
  const From* values;  ///< (N, count)
  To* sums;            ///< (N, parts); times `factor`
  int64_t count, parts;
  double factor;

  NCR_HD void operator()(int64_t i) const {
    const From* sample = values + i / parts * count;
    double sum = 0;
    for (int64_t j = i % parts; j < count; j += parts) sum += static_cast<double>(sample[j]);
    sums[i] = static_cast<To>(factor * sum);
  }
};

}  // namespace ncr
