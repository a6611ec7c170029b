// CPU time of the ITK filters of wrapping/itk beside those whose place they take, in turn, so that
// a busy machine slows both; prints a markdown table. One thread. Waves of up to 8 mm as the
// velocity, on a grid of 96 x 112 x 96 voxels of 1.75 mm.
//
//     itk_filters [repetitions]

#include <itkExponentialDisplacementFieldImageFilter.h>
#include <itkImageRegionIteratorWithIndex.h>
#include <itkMultiThreaderBase.h>
#include <itkWarpImageFilter.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "itkNCRExponentialDisplacementFieldImageFilter.h"
#include "itkNCRWarpImageFilter.h"

namespace {

template <typename TImage>
typename TImage::Pointer new_image() {
  auto image = TImage::New();
  image->SetRegions(typename TImage::SizeType{{96, 112, 96}});
  typename TImage::SpacingType spacing;
  spacing.Fill(1.75);
  image->SetSpacing(spacing);
  image->Allocate();
  return image;
}

template <typename TReal>
typename itk::Image<itk::Vector<TReal, 3>, 3>::Pointer smooth_velocity() {
  using Image = itk::Image<itk::Vector<TReal, 3>, 3>;
  auto velocity = new_image<Image>();
  itk::ImageRegionIteratorWithIndex<Image> at(velocity, velocity->GetBufferedRegion());
  for (; !at.IsAtEnd(); ++at) {
    const auto index = at.GetIndex();
    for (unsigned c = 0; c < 3; ++c) {
      const double x = index[c], y = index[(c + 1) % 3];
      at.Value()[c] = static_cast<TReal>(4.6 * std::sin(0.11 * x + c) * std::cos(0.09 * y));
    }
  }
  return velocity;
}

/// Of a second update: the first finds the memory, which a pause of seconds gives back.
template <typename TFilter>
double milliseconds(TFilter* filter) {
  filter->Modified();
  filter->Update();
  filter->Modified();
  const std::clock_t begin = std::clock();
  filter->Update();
  return 1e3 * static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

template <typename TOfItk, typename TOurs>
void compare(const std::string& name, TOfItk* ofItk, TOurs* ours, int repetitions) {
  std::vector<double> itkTimes, ourTimes, ratios;
  for (int i = 0; i < repetitions; ++i) {
    itkTimes.push_back(milliseconds(ofItk));
    ourTimes.push_back(milliseconds(ours));
    ratios.push_back(itkTimes.back() / ourTimes.back());
  }
  std::printf("| %s | %.0f | %.1f | %.1f |\n", name.c_str(), median(itkTimes), median(ourTimes),
              median(ratios));
  std::fflush(stdout);
}

template <typename TReal>
void compare_all(const std::string& type, int repetitions) {
  using Field = itk::Image<itk::Vector<TReal, 3>, 3>;
  using Image = itk::Image<TReal, 3>;
  const auto velocity = smooth_velocity<TReal>();
  auto ofItk = itk::ExponentialDisplacementFieldImageFilter<Field, Field>::New();
  auto ours = itk::NCRExponentialDisplacementFieldImageFilter<Field>::New();
  ofItk->SetInput(velocity);
  ours->SetInput(velocity);
  compare("exponential, " + type + ", default iterations", ofItk.GetPointer(), ours.GetPointer(),
          repetitions);
  ofItk->AutomaticNumberOfIterationsOff();
  ours->AutomaticNumberOfIterationsOff();
  ofItk->SetMaximumNumberOfIterations(6);
  ours->SetMaximumNumberOfIterations(6);
  compare("exponential, " + type + ", 6 iterations", ofItk.GetPointer(), ours.GetPointer(),
          repetitions);

  auto moving = new_image<Image>();
  itk::ImageRegionIteratorWithIndex<Image> at(moving, moving->GetBufferedRegion());
  for (; !at.IsAtEnd(); ++at) at.Set(static_cast<TReal>(at.GetIndex()[0] * at.GetIndex()[1] % 251));
  auto warpOfItk = itk::WarpImageFilter<Image, Image, Field>::New();
  auto ourWarp = itk::NCRWarpImageFilter<Image, Image, Field>::New();
  warpOfItk->SetInput(moving);
  warpOfItk->SetDisplacementField(velocity);
  warpOfItk->SetOutputParametersFromImage(velocity);
  ourWarp->SetInput(moving);
  ourWarp->SetDisplacementField(velocity);
  compare("warp, " + type, warpOfItk.GetPointer(), ourWarp.GetPointer(), repetitions);
}

}  // namespace

int main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::max(1, std::atoi(argv[1])) : 11;
  itk::MultiThreaderBase::SetGlobalMaximumNumberOfThreads(1);
  std::printf(
      "| CPU time, one thread, median of %d | ITK ms | NCR ms | ratio |\n|---|---|---|---|\n",
      repetitions);
  compare_all<float>("float", repetitions);
  compare_all<double>("double", repetitions);
}
