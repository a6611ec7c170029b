#ifndef itkNCRExponentialDisplacementFieldImageFilter_h
#define itkNCRExponentialDisplacementFieldImageFilter_h

#include <type_traits>

#include "itkImageToImageFilter.h"

namespace itk {

/** \class NCRExponentialDisplacementFieldImageFilter
 * \brief Displacement of the diffeomorphism that a stationary velocity field generates.
 *
 * Takes the place of ExponentialDisplacementFieldImageFilter: scaling and squaring with linear
 * interpolation, the border value repeating outside; both fields in physical units. All squarings
 * run in one call of the compiled kernels, in voxels and in the value type of the output (float or
 * double), 2D or 3D.
 *
 * What differs:
 * - AutomaticNumberOfIterations takes the least number whose first step is at most LongestFirstStep
 *   voxels, measured along the axes of the grid.
 * - The whole field is computed, whatever part is asked for: a part of the velocity does not
 *   determine it.
 * - AbortGenerateData has no effect within an update, and progress is reported at its end only.
 *
 * The result has the same bits for any number of work units. Vectors that are not finite do not
 * count for the number of iterations, and spread as far as they are looked at.
 *
 * \sa NCRWarpImageFilter
 */
template <typename TInputImage, typename TOutputImage = TInputImage>
class ITK_TEMPLATE_EXPORT NCRExponentialDisplacementFieldImageFilter
    : public ImageToImageFilter<TInputImage, TOutputImage> {
 public:
  ITK_DISALLOW_COPY_AND_MOVE(NCRExponentialDisplacementFieldImageFilter);

  using Self = NCRExponentialDisplacementFieldImageFilter;
  using Superclass = ImageToImageFilter<TInputImage, TOutputImage>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;

  itkNewMacro(Self);
  itkTypeMacro(NCRExponentialDisplacementFieldImageFilter, ImageToImageFilter);

  using InputImageType = TInputImage;
  using InputPixelType = typename InputImageType::PixelType;
  using OutputImageType = TOutputImage;
  using OutputPixelType = typename OutputImageType::PixelType;
  /** What the kernels compute in. */
  using RealType = typename OutputPixelType::ValueType;

  static constexpr unsigned int ImageDimension = TOutputImage::ImageDimension;
  static_assert(ImageDimension == 2 || ImageDimension == 3, "The kernels know 2D and 3D fields.");
  static_assert(TInputImage::ImageDimension == ImageDimension &&
                    InputPixelType::Dimension == ImageDimension &&
                    OutputPixelType::Dimension == ImageDimension,
                "Images and their vectors must have the same dimension.");
  static_assert(std::is_same<RealType, float>::value || std::is_same<RealType, double>::value,
                "Displacements must be vectors of float or double.");

  /** Choose the number of squarings by the length of the velocity, up to
   * MaximumNumberOfIterations. On by default; off means exactly MaximumNumberOfIterations. */
  itkSetMacro(AutomaticNumberOfIterations, bool);
  itkGetConstMacro(AutomaticNumberOfIterations, bool);
  itkBooleanMacro(AutomaticNumberOfIterations);

  /** 20 by default. */
  itkSetMacro(MaximumNumberOfIterations, unsigned int);
  itkGetConstMacro(MaximumNumberOfIterations, unsigned int);

  /** Upper bound, in voxels, of the step that is squared first; 0.125 by default. */
  itkSetMacro(LongestFirstStep, double);
  itkGetConstMacro(LongestFirstStep, double);

  /** The exponential of the negative velocity, which is the inverse map. Off by default. */
  itkSetMacro(ComputeInverse, bool);
  itkGetConstMacro(ComputeInverse, bool);
  itkBooleanMacro(ComputeInverse);

 protected:
  NCRExponentialDisplacementFieldImageFilter() = default;
  ~NCRExponentialDisplacementFieldImageFilter() override = default;

  void PrintSelf(std::ostream& os, Indent indent) const override;

  void VerifyPreconditions() const override;
  void VerifyInputInformation() const override;

  void GenerateInputRequestedRegion() override;
  void EnlargeOutputRequestedRegion(DataObject* output) override;

  void GenerateData() override;

 private:
  bool m_AutomaticNumberOfIterations{true};
  unsigned int m_MaximumNumberOfIterations{20};
  double m_LongestFirstStep{0.125};
  bool m_ComputeInverse{false};
};

}  // namespace itk

#ifndef ITK_MANUAL_INSTANTIATION
#include "itkNCRExponentialDisplacementFieldImageFilter.hxx"
#endif

#endif
