#ifndef itkNCRWarpImageFilter_hxx
#define itkNCRWarpImageFilter_hxx

#include <cmath>
#include <limits>

#include "itkNCRKernelInterface.h"
#include "itkNCRWarpImageFilter.h"
#include "ncr/workspace.h"

namespace itk {
namespace NCR {

/// Displacements in voxels of the moving image: what has to be added to the number of a voxel of
/// the field's grid to get its position there.
template <typename TVector, typename TReal, unsigned int VDimension>
struct ToMovingVoxels {
  const TVector* vectors;
  TReal* planes;
  ncr::Grid<VDimension> grid;
  Linear<VDimension> pointToIndex;
  Linear<VDimension> step;   ///< from an index of the field to one of the image, identity taken off
  double start[VDimension];  ///< where the first voxel of the field lies in the image

  void operator()(int64_t row) const {
    const int64_t width = grid.size[VDimension - 1], count = grid.count();
    int64_t at[VDimension];
    grid.coordinates(row * width, at);
    for (int64_t x = 0; x < width; ++x) {
      at[VDimension - 1] = x;
      const int64_t i = row * width + x;
      for (unsigned int r = 0; r < VDimension; ++r) {
        double sum = start[r];
        for (unsigned int c = 0; c < VDimension; ++c) {
          sum += step(r, c) * static_cast<double>(at[VDimension - 1 - c]) +
                 pointToIndex(r, c) * vectors[i][c];
        }
        planes[(VDimension - 1 - r) * count + i] = static_cast<TReal>(sum);
      }
    }
  }
};

/// Rounded to whole numbers and cut off at both ends for integers.
template <typename TTo, typename TFrom>
struct ConvertPixels {
  const TFrom* from;
  TTo* to;

  void operator()(int64_t i) const {
    if constexpr (std::is_floating_point<TTo>::value) {
      to[i] = static_cast<TTo>(from[i]);
    } else {
      constexpr double lowest = std::numeric_limits<TTo>::lowest();
      constexpr double largest = std::numeric_limits<TTo>::max();
      const double value = std::floor(static_cast<double>(from[i]) + 0.5);
      // Compared such that NaN becomes the lowest value.
      to[i] = static_cast<TTo>(value > lowest ? (value < largest ? value : largest) : lowest);
    }
  }
};

}  // namespace NCR

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
NCRWarpImageFilter<TInputImage, TOutputImage, TDisplacementField>::NCRWarpImageFilter() {
  Self::AddRequiredInputName("DisplacementField", 1);
}

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
void NCRWarpImageFilter<TInputImage, TOutputImage, TDisplacementField>::PrintSelf(
    std::ostream& os, Indent indent) const {
  Superclass::PrintSelf(os, indent);
  os << indent << "NearestNeighbor: " << (m_NearestNeighbor ? "On" : "Off") << std::endl;
  os << indent << "EdgePaddingValue: "
     << static_cast<typename NumericTraits<PixelType>::PrintType>(m_EdgePaddingValue) << std::endl;
}

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
void NCRWarpImageFilter<TInputImage, TOutputImage, TDisplacementField>::VerifyInputInformation()
    const {
  NCR::RequireVoxels<ImageDimension>(this->GetInput(), "Input");
  NCR::RequireVoxels<ImageDimension>(this->GetDisplacementField(), "DisplacementField");
}

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
void NCRWarpImageFilter<TInputImage, TOutputImage,
                        TDisplacementField>::GenerateOutputInformation() {
  Superclass::GenerateOutputInformation();
  this->GetOutput()->CopyInformation(this->GetDisplacementField());
}

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
void NCRWarpImageFilter<TInputImage, TOutputImage,
                        TDisplacementField>::GenerateInputRequestedRegion() {
  Superclass::GenerateInputRequestedRegion();
  if (auto* moving = const_cast<InputImageType*>(this->GetInput())) {
    moving->SetRequestedRegionToLargestPossibleRegion();
  }
  if (auto* field = const_cast<DisplacementFieldType*>(this->GetDisplacementField())) {
    field->SetRequestedRegionToLargestPossibleRegion();
  }
}

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
void NCRWarpImageFilter<TInputImage, TOutputImage,
                        TDisplacementField>::EnlargeOutputRequestedRegion(DataObject* output) {
  output->SetRequestedRegionToLargestPossibleRegion();
}

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
void NCRWarpImageFilter<TInputImage, TOutputImage, TDisplacementField>::GenerateData() {
  this->AllocateOutputs();
  const InputImageType* moving = this->GetInput();
  const DisplacementFieldType* field = this->GetDisplacementField();
  const ncr::Shape in = NCR::ShapeOf<ImageDimension>(moving);
  const ncr::Shape out = NCR::ShapeOf<ImageDimension>(field);
  const ncr::Cpu cpu = NCR::CpuOf(this);
  const ncr::Padding padding{true, static_cast<double>(m_EdgePaddingValue)};

  const size_t bytes = sizeof(RealType) * static_cast<size_t>(ImageDimension * out.count());
  const ncr::cpu::Workspace space(bytes);
  auto* displacement = space.as<RealType>();
  NCR::ToMovingVoxels<DisplacementType, RealType, ImageDimension> inVoxels{
      field->GetBufferPointer(),
      displacement,
      ncr::grid_of<ImageDimension>(out),
      NCR::PointToIndex<ImageDimension>(moving),
      {},
      {}};
  const auto fieldStep = NCR::IndexToPoint<ImageDimension>(field);
  typename DisplacementFieldType::PointType first;
  field->TransformIndexToPhysicalPoint(field->GetBufferedRegion().GetIndex(), first);
  const auto firstInMoving =
      moving->template TransformPhysicalPointToContinuousIndex<double>(first);
  for (unsigned int r = 0; r < ImageDimension; ++r) {
    inVoxels.start[r] = firstInMoving[r] - moving->GetBufferedRegion().GetIndex(r);
    for (unsigned int c = 0; c < ImageDimension; ++c) {
      double sum = r == c ? -1 : 0;
      for (unsigned int k = 0; k < ImageDimension; ++k) {
        sum += inVoxels.pointToIndex(r, k) * fieldStep(k, c);
      }
      inVoxels.step.entries[r][c] = sum;
    }
  }
  ncr::launch(cpu, inVoxels, out.count() / out.size[ImageDimension - 1], 16);

  if (m_NearestNeighbor) {
    this->template WithPixelsAs<NearestType>(
        cpu, [&](const NearestType* image, NearestType* moved) {
          ncr::cpu::warp_nearest<NearestType, RealType>(cpu, image, in, displacement, out, 1, 1,
                                                        padding, moved);
        });
  } else {
    this->template WithPixelsAs<RealType>(cpu, [&](const RealType* image, RealType* moved) {
      ncr::cpu::warp<RealType>(cpu, image, in, displacement, out, 1, 1, padding, nullptr, moved);
    });
  }
}

template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
template <typename TValue, typename TKernel>
void NCRWarpImageFilter<TInputImage, TOutputImage, TDisplacementField>::WithPixelsAs(
    ncr::Cpu cpu, const TKernel& kernel) {
  const InputImageType* input = this->GetInput();
  OutputImageType* output = this->GetOutput();
  const auto inCount = static_cast<int64_t>(input->GetBufferedRegion().GetNumberOfPixels());
  const auto outCount = static_cast<int64_t>(output->GetBufferedRegion().GetNumberOfPixels());
  constexpr bool sameIn = std::is_same<InputPixelType, TValue>::value;
  constexpr bool sameOut = std::is_same<PixelType, TValue>::value;
  const ncr::cpu::Workspace inSpace(sameIn ? 0 : sizeof(TValue) * static_cast<size_t>(inCount));
  const ncr::cpu::Workspace outSpace(sameOut ? 0 : sizeof(TValue) * static_cast<size_t>(outCount));
  const TValue* image = inSpace.as<TValue>();
  TValue* moved = outSpace.as<TValue>();
  if constexpr (sameIn) {
    image = input->GetBufferPointer();
  } else {
    ncr::launch(
        cpu,
        NCR::ConvertPixels<TValue, InputPixelType>{input->GetBufferPointer(), inSpace.as<TValue>()},
        inCount);
  }
  if constexpr (sameOut) moved = output->GetBufferPointer();
  kernel(image, moved);
  if constexpr (!sameOut) {
    ncr::launch(cpu, NCR::ConvertPixels<PixelType, TValue>{moved, output->GetBufferPointer()},
                outCount);
  }
}

}  // namespace itk

#endif
