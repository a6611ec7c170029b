#ifndef itkNCRExponentialDisplacementFieldImageFilter_hxx
#define itkNCRExponentialDisplacementFieldImageFilter_hxx

#include "itkNCRExponentialDisplacementFieldImageFilter.h"
#include "itkNCRKernelInterface.h"
#include "ncr/workspace.h"

namespace itk {

template <typename TInputImage, typename TOutputImage>
void NCRExponentialDisplacementFieldImageFilter<TInputImage, TOutputImage>::PrintSelf(
    std::ostream& os, Indent indent) const {
  Superclass::PrintSelf(os, indent);
  os << indent << "AutomaticNumberOfIterations: " << (m_AutomaticNumberOfIterations ? "On" : "Off")
     << std::endl;
  os << indent << "MaximumNumberOfIterations: " << m_MaximumNumberOfIterations << std::endl;
  os << indent << "LongestFirstStep: " << m_LongestFirstStep << std::endl;
  os << indent << "ComputeInverse: " << (m_ComputeInverse ? "On" : "Off") << std::endl;
}

template <typename TInputImage, typename TOutputImage>
void NCRExponentialDisplacementFieldImageFilter<TInputImage, TOutputImage>::VerifyPreconditions()
    const {
  Superclass::VerifyPreconditions();
  if (!(m_LongestFirstStep > 0)) {
    itkExceptionMacro("LongestFirstStep must be positive; got " << m_LongestFirstStep
                                                                << ". Set a part of a voxel.");
  }
}

template <typename TInputImage, typename TOutputImage>
void NCRExponentialDisplacementFieldImageFilter<TInputImage, TOutputImage>::VerifyInputInformation()
    const {
  NCR::RequireVoxels<ImageDimension>(this->GetInput(), "Input");
}

template <typename TInputImage, typename TOutputImage>
void NCRExponentialDisplacementFieldImageFilter<TInputImage,
                                                TOutputImage>::GenerateInputRequestedRegion() {
  Superclass::GenerateInputRequestedRegion();
  if (auto* velocity = const_cast<InputImageType*>(this->GetInput())) {
    velocity->SetRequestedRegionToLargestPossibleRegion();
  }
}

template <typename TInputImage, typename TOutputImage>
void NCRExponentialDisplacementFieldImageFilter<
    TInputImage, TOutputImage>::EnlargeOutputRequestedRegion(DataObject* output) {
  output->SetRequestedRegionToLargestPossibleRegion();
}

template <typename TInputImage, typename TOutputImage>
void NCRExponentialDisplacementFieldImageFilter<TInputImage, TOutputImage>::GenerateData() {
  this->AllocateOutputs();
  const InputImageType* velocity = this->GetInput();
  OutputImageType* displacement = this->GetOutput();
  const ncr::Shape shape = NCR::ShapeOf<ImageDimension>(velocity);
  const ncr::Cpu cpu = NCR::CpuOf(this);
  const int64_t count = shape.count();

  const size_t bytes = sizeof(RealType) * static_cast<size_t>(ImageDimension * count);
  const ncr::cpu::Workspace velocitySpace(bytes), displacementSpace(bytes);
  auto* velocityPlanes = velocitySpace.as<RealType>();
  auto* displacementPlanes = displacementSpace.as<RealType>();

  ncr::launch(cpu,
              NCR::ToPlanes<InputPixelType, RealType, ImageDimension>{
                  velocity->GetBufferPointer(), velocityPlanes, count,
                  NCR::PointToIndex<ImageDimension>(velocity)},
              count);
  int64_t squarings = m_MaximumNumberOfIterations;
  if (m_AutomaticNumberOfIterations) {
    ncr::cpu::required_squarings<RealType>(cpu, velocityPlanes, 1, shape, m_LongestFirstStep,
                                           m_MaximumNumberOfIterations, &squarings);
  }
  const ncr::Integration how{&squarings, 0, 0, m_ComputeInverse ? -1.0 : 1.0};
  ncr::cpu::exponential<RealType>(cpu, velocityPlanes, 1, shape, how, displacementPlanes, nullptr);
  ncr::launch(cpu,
              NCR::FromPlanes<OutputPixelType, RealType, ImageDimension>{
                  displacementPlanes, displacement->GetBufferPointer(), count,
                  NCR::IndexToPoint<ImageDimension>(velocity)},
              count);
}

}  // namespace itk

#endif
