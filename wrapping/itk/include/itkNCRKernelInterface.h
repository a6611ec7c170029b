#ifndef itkNCRKernelInterface_h
#define itkNCRKernelInterface_h

#include <algorithm>

#include "itkImageBase.h"
#include "itkMatrix.h"
#include "itkProcessObject.h"
#include "ncr/cpu.h"

/// How ITK's images look to the kernels: vectors of an ITK field are interleaved, in millimetres
/// along the axes of space, x first; the kernels' are planes in voxels along the axes of the array,
/// whose order is z, y, x.
namespace itk {
namespace NCR {

/// Matrices by value, so that a compiler keeps them in registers.
template <unsigned int VDimension>
struct Linear {
  double entries[VDimension][VDimension];

  double operator()(unsigned int row, unsigned int column) const { return entries[row][column]; }
};

/// From a step of the index to millimetres.
template <unsigned int VDimension>
Linear<VDimension> IndexToPoint(const ImageBase<VDimension>* image) {
  Linear<VDimension> matrix;
  for (unsigned int r = 0; r < VDimension; ++r) {
    for (unsigned int c = 0; c < VDimension; ++c) {
      matrix.entries[r][c] = image->GetDirection()(r, c) * image->GetSpacing()[c];
    }
  }
  return matrix;
}

/// From millimetres to steps of the index.
template <unsigned int VDimension>
Linear<VDimension> PointToIndex(const ImageBase<VDimension>* image) {
  Linear<VDimension> matrix;
  for (unsigned int r = 0; r < VDimension; ++r) {
    for (unsigned int c = 0; c < VDimension; ++c) {
      matrix.entries[r][c] = image->GetInverseDirection()(r, c) / image->GetSpacing()[r];
    }
  }
  return matrix;
}

template <unsigned int VDimension>
ncr::Shape ShapeOf(const ImageBase<VDimension>* image) {
  static_assert(VDimension == 2 || VDimension == 3, "The kernels know 2 and 3 dimensions.");
  ncr::Shape shape{VDimension, {1, 1, 1}};
  for (unsigned int axis = 0; axis < VDimension; ++axis) {
    shape.size[axis] =
        static_cast<int64_t>(image->GetBufferedRegion().GetSize(VDimension - 1 - axis));
  }
  return shape;
}

/// The kernels divide by sizes.
template <unsigned int VDimension>
void RequireVoxels(const ImageBase<VDimension>* image, const char* name) {
  const auto& region = image->GetLargestPossibleRegion();
  if (region.GetNumberOfPixels() == 0) {
    itkGenericExceptionMacro(<< name << " must have voxels; got size " << region.GetSize()
                             << ". Read or allocate it first.");
  }
}

/// As many threads as ITK would take for the filter.
inline ncr::Cpu CpuOf(const ProcessObject* filter) {
  const auto threads = std::min<ThreadIdType>(
      filter->GetNumberOfWorkUnits(), filter->GetMultiThreader()->GetMaximumNumberOfThreads());
  return ncr::Cpu{static_cast<int>(threads)};
}

/// planes = matrix * vectors, voxel by voxel.
template <typename TVector, typename TReal, unsigned int VDimension>
struct ToPlanes {
  const TVector* vectors;
  TReal* planes;
  int64_t count;
  Linear<VDimension> matrix;

  void operator()(int64_t i) const {
    for (unsigned int r = 0; r < VDimension; ++r) {
      double sum = 0;
      for (unsigned int c = 0; c < VDimension; ++c) sum += matrix(r, c) * vectors[i][c];
      planes[(VDimension - 1 - r) * count + i] = static_cast<TReal>(sum);
    }
  }
};

/// vectors = matrix * planes.
template <typename TVector, typename TReal, unsigned int VDimension>
struct FromPlanes {
  const TReal* planes;
  TVector* vectors;
  int64_t count;
  Linear<VDimension> matrix;

  void operator()(int64_t i) const {
    for (unsigned int r = 0; r < VDimension; ++r) {
      double sum = 0;
      for (unsigned int c = 0; c < VDimension; ++c) {
        sum += matrix(r, c) * planes[(VDimension - 1 - c) * count + i];
      }
      vectors[i][r] = static_cast<typename TVector::ValueType>(sum);
    }
  }
};

}  // namespace NCR
}  // namespace itk

#endif
