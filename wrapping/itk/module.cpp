// _itk_cxx: the C++ filters for the tests, beside those of ITK whose place they take. Arrays and
// grids are copied in and out and no ITK object passes, for Python's ITK is another build.

#include <itkExponentialDisplacementFieldImageFilter.h>
#include <itkNearestNeighborInterpolateImageFunction.h>
#include <itkStreamingImageFilter.h>
#include <itkVector.h>
#include <itkWarpImageFilter.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "itkNCRExponentialDisplacementFieldImageFilter.h"
#include "itkNCRWarpImageFilter.h"

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T, unsigned D>
using Field = itk::Image<itk::Vector<T, D>, D>;

/// `grid` is an itk_ncr.geometry.Grid. Its first voxel gets the index `start`, in the same place.
template <typename TImage>
typename TImage::Pointer image_on(const py::object& grid, int start) {
  constexpr unsigned D = TImage::ImageDimension;
  const auto sizes = grid.attr("size").cast<std::vector<itk::SizeValueType>>();
  const auto spacings = grid.attr("spacing").cast<std::vector<double>>();
  const auto first = grid.attr("origin").cast<std::vector<double>>();
  const auto cosines = grid.attr("direction").cast<std::vector<std::vector<double>>>();
  typename TImage::RegionType region;
  typename TImage::SpacingType spacing;
  typename TImage::PointType origin;
  typename TImage::DirectionType direction;
  for (unsigned r = 0; r < D; ++r) {
    region.SetSize(r, sizes[r]);
    region.SetIndex(r, start);
    spacing[r] = spacings[r];
    origin[r] = first[r];
    for (unsigned c = 0; c < D; ++c) {
      direction(r, c) = cosines[r][c];
      origin[r] -= cosines[r][c] * spacings[c] * start;
    }
  }
  auto image = TImage::New();
  image->SetRegions(region);
  image->SetSpacing(spacing);
  image->SetOrigin(origin);
  image->SetDirection(direction);
  image->Allocate();
  return image;
}

template <typename T, unsigned D>
typename Field<T, D>::Pointer field_of(const Array<T>& vectors, const py::object& grid, int start) {
  auto field = image_on<Field<T, D>>(grid, start);
  const size_t count = field->GetBufferedRegion().GetNumberOfPixels();
  if (static_cast<size_t>(vectors.size()) != D * count) throw py::value_error("size of vectors");
  std::copy_n(vectors.data(), vectors.size(), field->GetBufferPointer()->GetDataPointer());
  return field;
}

template <typename TPixel, unsigned D>
typename itk::Image<TPixel, D>::Pointer scalars_of(const Array<TPixel>& values,
                                                   const py::object& grid, int start) {
  auto image = image_on<itk::Image<TPixel, D>>(grid, start);
  const size_t count = image->GetBufferedRegion().GetNumberOfPixels();
  if (static_cast<size_t>(values.size()) != count) throw py::value_error("size of values");
  std::copy_n(values.data(), values.size(), image->GetBufferPointer());
  return image;
}

/// Runs the filter as a pipeline does that asks for one piece after the other.
template <typename TImage>
typename TImage::Pointer in_pieces(itk::ImageSource<TImage>* filter, unsigned pieces) {
  const py::gil_scoped_release unlocked;
  auto streaming = itk::StreamingImageFilter<TImage, TImage>::New();
  streaming->SetInput(filter->GetOutput());
  streaming->SetNumberOfStreamDivisions(pieces);
  streaming->Update();
  return streaming->GetOutput();
}

/// Either filter: the calls are the same.
template <typename TFilter, typename T, unsigned D>
Array<T> exponential_by(const Array<T>& velocity, const py::object& grid, py::object iterations,
                        bool inverse, unsigned threads, unsigned pieces, int start) {
  auto filter = TFilter::New();
  filter->SetInput(field_of<T, D>(velocity, grid, start));
  if (!iterations.is_none()) {
    filter->AutomaticNumberOfIterationsOff();
    filter->SetMaximumNumberOfIterations(iterations.cast<unsigned>());
  }
  filter->SetComputeInverse(inverse);
  filter->SetNumberOfWorkUnits(threads);
  const auto displacement = in_pieces<Field<T, D>>(filter.GetPointer(), pieces);
  Array<T> result(std::vector<py::ssize_t>(velocity.shape(), velocity.shape() + velocity.ndim()));
  std::copy_n(displacement->GetBufferPointer()->GetDataPointer(), result.size(),
              result.mutable_data());
  return result;
}

template <typename TFilter, typename TPixel, typename T, unsigned D>
Array<TPixel> warp_by(TFilter* filter, const Array<TPixel>& moving, const py::object& moving_grid,
                      const Array<T>& displacement, const py::object& grid, double edge,
                      unsigned threads, unsigned pieces, int start) {
  using Image = itk::Image<TPixel, D>;
  filter->SetInput(scalars_of<TPixel, D>(moving, moving_grid, -start));
  filter->SetDisplacementField(field_of<T, D>(displacement, grid, start));
  filter->SetEdgePaddingValue(static_cast<TPixel>(edge));
  filter->SetNumberOfWorkUnits(threads);
  const auto moved = in_pieces<Image>(filter, pieces);
  Array<TPixel> result(std::vector<py::ssize_t>(displacement.shape(),
                                                displacement.shape() + displacement.ndim() - 1));
  std::copy_n(moved->GetBufferPointer(), result.size(), result.mutable_data());
  return result;
}

template <typename T, unsigned D>
Array<T> exponential(bool of_itk, const Array<T>& velocity, const py::object& grid,
                     py::object iterations, bool inverse, unsigned threads, unsigned pieces,
                     int start) {
  using F = Field<T, D>;
  return of_itk ? exponential_by<itk::ExponentialDisplacementFieldImageFilter<F, F>, T, D>(
                      velocity, grid, iterations, inverse, threads, pieces, start)
                : exponential_by<itk::NCRExponentialDisplacementFieldImageFilter<F, F>, T, D>(
                      velocity, grid, iterations, inverse, threads, pieces, start);
}

template <typename TPixel, typename T, unsigned D>
Array<TPixel> warp(bool of_itk, const Array<TPixel>& moving, const py::object& moving_grid,
                   const Array<T>& displacement, const py::object& grid, bool nearest, double edge,
                   unsigned threads, unsigned pieces, int start) {
  using Image = itk::Image<TPixel, D>;
  if (!of_itk) {
    auto filter = itk::NCRWarpImageFilter<Image, Image, Field<T, D>>::New();
    filter->SetNearestNeighbor(nearest);
    return warp_by<typename decltype(filter)::ObjectType, TPixel, T, D>(
        filter, moving, moving_grid, displacement, grid, edge, threads, pieces, start);
  }
  auto filter = itk::WarpImageFilter<Image, Image, Field<T, D>>::New();
  filter->SetOutputParametersFromImage(image_on<Image>(grid, start));
  if (nearest) {
    filter->SetInterpolator(itk::NearestNeighborInterpolateImageFunction<Image, double>::New());
  }
  return warp_by<typename decltype(filter)::ObjectType, TPixel, T, D>(
      filter, moving, moving_grid, displacement, grid, edge, threads, pieces, start);
}

/// What itk::Object::Print says of a new filter, and what setting nonsense raises.
std::string printed() {
  using F = Field<float, 3>;
  std::ostringstream text;
  itk::NCRExponentialDisplacementFieldImageFilter<F>::New()->Print(text);
  itk::NCRWarpImageFilter<itk::Image<short, 3>, itk::Image<short, 3>, F>::New()->Print(text);
  return text.str();
}

void exponential_with_first_step(double longest) {
  auto filter = itk::NCRExponentialDisplacementFieldImageFilter<Field<float, 2>>::New();
  filter->SetInput(Field<float, 2>::New());
  filter->SetLongestFirstStep(longest);
  filter->Update();
}

template <typename TPixel, typename T, unsigned D>
void define_warp(py::module_& m) {
  m.def(D == 2 ? "warp_2d" : "warp_3d", &warp<TPixel, T, D>, py::arg("of_itk"),
        py::arg("moving").noconvert(), py::arg("moving_grid"), py::arg("displacement").noconvert(),
        py::arg("grid"), py::kw_only(), py::arg("nearest") = false, py::arg("edge") = 0.0,
        py::arg("threads") = 1, py::arg("pieces") = 1, py::arg("start") = 0);
}

template <typename T, unsigned D>
void define(py::module_& m) {
  m.def(D == 2 ? "exponential_2d" : "exponential_3d", &exponential<T, D>, py::arg("of_itk"),
        py::arg("velocity").noconvert(), py::arg("grid"), py::kw_only(),
        py::arg("iterations") = py::none(), py::arg("inverse") = false, py::arg("threads") = 1,
        py::arg("pieces") = 1, py::arg("start") = 0);
  define_warp<T, T, D>(m);
  define_warp<uint8_t, T, D>(m);
  define_warp<int16_t, T, D>(m);
  define_warp<uint32_t, T, D>(m);
}

}  // namespace

PYBIND11_MODULE(_itk_cxx, m) {
  m.doc() = "ITK's C++ filters and ours, by arrays.";
  define<float, 2>(m);
  define<float, 3>(m);
  define<double, 2>(m);
  define<double, 3>(m);
  m.def("printed", &printed);
  m.def("exponential_with_first_step", &exponential_with_first_step);
}
