// Included at the end of every vector file: the table of its instruction set.

#if defined(__AVX512F__)
constexpr auto kSquare2d = square_rows_2d;
#else
constexpr auto kSquare2d = square_rows<2>;
#endif

const Rows kTable = {
    NCR_VARIANT_NAME,
    {kSquare2d, square_rows<3>},
    {square_rows_adjoint_2d, square_rows_adjoint_3d},
    {pack<2>, pack<3>},
    {pack_gradient<2>, pack_gradient<3>},
    {unpack_gradient<2>, unpack_gradient<3>},
    {warp_rows<2>, warp_rows<3>},
    {warp_rows_adjoint<2>, warp_rows_adjoint<3>},
    {warp_rows_scatter<2>, warp_rows_scatter<3>},
    plain_rows<float>(),
    plain_rows<double>(),
};
