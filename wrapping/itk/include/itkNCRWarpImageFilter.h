#ifndef itkNCRWarpImageFilter_h
#define itkNCRWarpImageFilter_h

#include <type_traits>

#include "itkImageToImageFilter.h"
#include "ncr/cpu.h"

namespace itk {

/** \class NCRWarpImageFilter
 * \brief moved(x) = moving(x + displacement(x)) on the grid of the displacement field.
 *
 * Takes the place of WarpImageFilter where the output has the grid of the field, which here it
 * always has: no Set...FromImage is needed, and none exists. The moving image may lie on any grid,
 * of any spacing and direction. Positions outside its voxels get EdgePaddingValue, by ITK's rule.
 *
 * Interpolation is linear, or with NearestNeighbor by the nearest voxel, for label images. Scalar
 * pixels: float, double and integers of up to 32 bits. Integers are rounded, where WarpImageFilter
 * cuts off the fraction, and kept within the range of the output's pixels.
 *
 * Positions are computed in double and looked up in RealType. The whole field is needed, and the
 * whole image computed; AbortGenerateData has no effect within an update.
 *
 * \sa NCRExponentialDisplacementFieldImageFilter
 */
template <typename TInputImage, typename TOutputImage, typename TDisplacementField>
class ITK_TEMPLATE_EXPORT NCRWarpImageFilter
    : public ImageToImageFilter<TInputImage, TOutputImage> {
 public:
  ITK_DISALLOW_COPY_AND_MOVE(NCRWarpImageFilter);

  using Self = NCRWarpImageFilter;
  using Superclass = ImageToImageFilter<TInputImage, TOutputImage>;
  using Pointer = SmartPointer<Self>;
  using ConstPointer = SmartPointer<const Self>;

  itkNewMacro(Self);
  itkTypeMacro(NCRWarpImageFilter, ImageToImageFilter);

  using InputImageType = TInputImage;
  using InputPixelType = typename InputImageType::PixelType;
  using OutputImageType = TOutputImage;
  using PixelType = typename OutputImageType::PixelType;
  using DisplacementFieldType = TDisplacementField;
  using DisplacementType = typename DisplacementFieldType::PixelType;

  template <typename T>
  static constexpr bool FitsFloat =
      std::is_same<T, float>::value || (std::is_integral<T>::value && sizeof(T) <= 2);
  template <typename T>
  static constexpr bool FitsDouble = FitsFloat<T> || std::is_same<T, double>::value ||
                                     (std::is_integral<T>::value && sizeof(T) <= 4);

  static constexpr unsigned int ImageDimension = TOutputImage::ImageDimension;
  static_assert(ImageDimension == 2 || ImageDimension == 3, "The kernels know 2D and 3D images.");
  static_assert(TInputImage::ImageDimension == ImageDimension &&
                    TDisplacementField::ImageDimension == ImageDimension &&
                    DisplacementType::Dimension == ImageDimension,
                "Images, field and its vectors must have the same dimension.");
  static_assert(FitsDouble<InputPixelType> && FitsDouble<PixelType>,
                "Pixels must be float, double or integers of up to 32 bits; warp the components of "
                "a vector image one by one.");

  /** float where it holds every pixel and displacement, else double. */
  using RealType = std::conditional_t<FitsFloat<InputPixelType> && FitsFloat<PixelType> &&
                                          FitsFloat<typename DisplacementType::ValueType>,
                                      float, double>;

  itkSetInputMacro(DisplacementField, DisplacementFieldType);
  itkGetInputMacro(DisplacementField, DisplacementFieldType);

  /** Take the nearest voxel, half-way positions upwards. Off by default. */
  itkSetMacro(NearestNeighbor, bool);
  itkGetConstMacro(NearestNeighbor, bool);
  itkBooleanMacro(NearestNeighbor);

  /** What lies outside the moving image; 0 by default. */
  itkSetMacro(EdgePaddingValue, PixelType);
  itkGetConstMacro(EdgePaddingValue, PixelType);

 protected:
  NCRWarpImageFilter();
  ~NCRWarpImageFilter() override = default;

  void PrintSelf(std::ostream& os, Indent indent) const override;

  /** Unlike elsewhere, the inputs need not share a grid. */
  void VerifyInputInformation() const override;

  void GenerateOutputInformation() override;
  void GenerateInputRequestedRegion() override;
  void EnlargeOutputRequestedRegion(DataObject* output) override;

  void GenerateData() override;

 private:
  /** In what the nearest voxel is handed on: a type that the kernels have and that holds all. */
  using NearestType = std::conditional_t<
      std::is_same<InputPixelType, PixelType>::value &&
          (std::is_same<PixelType, float>::value || std::is_same<PixelType, uint8_t>::value ||
           std::is_same<PixelType, int16_t>::value || std::is_same<PixelType, int32_t>::value),
      PixelType, double>;

  /** Calls kernel(moving, moved) with pixels as TValue; they are converted where that is needed. */
  template <typename TValue, typename TKernel>
  void WithPixelsAs(ncr::Cpu cpu, const TKernel& kernel);

  bool m_NearestNeighbor{false};
  PixelType m_EdgePaddingValue{};
};

}  // namespace itk

#ifndef ITK_MANUAL_INSTANTIATION
#include "itkNCRWarpImageFilter.hxx"
#endif

#endif
