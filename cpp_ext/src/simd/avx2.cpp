#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ncr/jacobian.h"
#include "rows.h"

#define NCR_VARIANT_NAME "avx2"

namespace ncr::cpu {
namespace {
#include "plain.h"
#include "vectors.h"

#include "square.h"
#include "square_adjoint.h"
#include "square_adjoint_2d.h"
#include "warp.h"

#include "table.h"
}  // namespace

const Rows* avx2_rows() {
  return &kTable;
}

}  // namespace ncr::cpu
