// Included at the end of every vector file: the table of its instruction set.

const Rows kTable = {
    NCR_VARIANT_NAME,
    {square_rows<2>, square_rows<3>},
    {square_rows_adjoint<2>, square_rows_adjoint<3>},
    {pack<2>, pack<3>},
    {pack_gradient<2>, pack_gradient<3>},
    {unpack_gradient<2>, unpack_gradient<3>},
    {warp_rows<2, 8>, warp_rows<3, 8>},
    {warp_rows_adjoint<2, 8>, warp_rows_adjoint<3, 8>},
    {warp_rows_scatter<2>, warp_rows_scatter<3>},
    {warp_mse_rows<2, 8>, warp_mse_rows<3, 8>},
    plain_rows<float>(),
    plain_rows<double>(),
};
