// Warps an image by the diffeomorphism of a velocity field.
//
//     exponentiate_and_warp velocity moving displacement moved
//
// `velocity` is a file of 3D vectors in millimetres, the motion of one unit of time; `moving` is
// any 3D image. The displacement and the moved image are written on the grid of the velocity.

#include <itkImageFileReader.h>
#include <itkImageFileWriter.h>
#include <itkNCRExponentialDisplacementFieldImageFilter.h>
#include <itkNCRWarpImageFilter.h>
#include <itkVector.h>

#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: exponentiate_and_warp velocity moving displacement moved" << std::endl;
    return EXIT_FAILURE;
  }
  using Image = itk::Image<float, 3>;
  using Field = itk::Image<itk::Vector<float, 3>, 3>;
  try {
    const auto velocity = itk::ReadImage<Field>(argv[1]);
    const auto moving = itk::ReadImage<Image>(argv[2]);

    auto exponential = itk::NCRExponentialDisplacementFieldImageFilter<Field>::New();
    exponential->SetInput(velocity);

    auto warp = itk::NCRWarpImageFilter<Image, Image, Field>::New();
    warp->SetInput(moving);
    warp->SetDisplacementField(exponential->GetOutput());
    warp->Update();  // exponentiates too

    itk::WriteImage(exponential->GetOutput(), argv[3], true);
    itk::WriteImage(warp->GetOutput(), argv[4], true);
  } catch (const itk::ExceptionObject& error) {
    std::cerr << "error: " << error.GetDescription() << std::endl;
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
