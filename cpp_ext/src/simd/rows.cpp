#include "rows.h"

#include "loops.h"
#include "square_2d.h"
#include "square_3d.h"
#include "warp_rows.h"

/// The kernels on rows for one instruction set: this file is compiled once for each, with its flags
/// and NCR_VARIANT as its name.
namespace ncr::cpu::NCR_VARIANT {

#define NCR_NAME_OF(variant) #variant
#define NCR_NAME(variant) NCR_NAME_OF(variant)

const Rows* rows() {
  static const Rows kTable = {
      NCR_NAME(NCR_VARIANT),
#if defined(NCR_VECTORS)
      {square_rows_2d, square_rows_3d},
      {square_rows_adjoint_2d, square_rows_adjoint_3d},
      {pack<2, 2>, pack<3, 3>},
      {pack<2, 2>, pack<3, 4>},
      {unpack_gradient<2>, unpack_gradient<3>},
      {warp_rows<2>, warp_rows<3>},
      {warp_rows_adjoint<2>, warp_rows_adjoint<3>},
      {warp_rows_scatter<2>, warp_rows_scatter<3>},
#else
      {},
      {},
      {},
      {},
      {},
      {},
      {},
      {},
#endif
      plain_rows<float>(),
      plain_rows<double>(),
  };
  return &kTable;
}

}  // namespace ncr::cpu::NCR_VARIANT
