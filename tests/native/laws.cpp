// Laws of the kernels, without Python: for every variant of this machine and, through an emulator,
// of others (make cross). Values are compared with the functors, one call per voxel.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ncr/cpu.h"

namespace {

using namespace ncr;
using Values = std::vector<float>;

constexpr Padding kRepeat{false, 0};
constexpr int64_t kSquarings = 5;

int passed = 0, failed = 0;

void expect(bool law, const std::string& what) {
  (law ? passed : failed) += 1;
  if (!law) std::printf("FAILED: %s\n", what.c_str());
}

Values random_values(int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  Values values(static_cast<size_t>(count));
  for (auto& v : values) v = static_cast<float>(generator()) / 4294967296.0f - 0.5f;
  return values;
}

/// Waves of `peak` voxels: smooth, and anywhere between the voxels.
Values smooth_field(const Shape& shape, float peak) {
  const int64_t count = shape.count(), length = shape.size[shape.dimension - 1];
  Values field(static_cast<size_t>(shape.dimension * count));
  for (int64_t i = 0; i < shape.dimension * count; ++i) {
    const double x = static_cast<double>(i % length), row = static_cast<double>(i / length);
    field[static_cast<size_t>(i)] =
        peak * static_cast<float>(std::sin(0.11 * x + 0.07 * row) * std::cos(0.05 * row));
  }
  return field;
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// Largest difference as a share of the largest value; infinite if only one of two is NaN.
double distance(const Values& a, const Values& b) {
  double apart = 0, largest = 1e-30;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::isnan(a[i]) != std::isnan(b[i])) return std::numeric_limits<double>::infinity();
    apart = std::max(apart, std::fabs(static_cast<double>(a[i]) - b[i]));
    largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
  }
  return apart / largest;
}

Values exponential(Cpu cpu, const Values& velocity, const Shape& shape) {
  Values result(velocity.size());
  cpu::exponential<float>(cpu, velocity.data(), 1, shape, {&kSquarings, 0, 0, 1.0}, result.data(),
                          nullptr);
  return result;
}

Values exponential_adjoint(Cpu cpu, const Values& velocity, const Values& grad,
                           const Shape& shape) {
  Values result(static_cast<size_t>(field_size(shape)));
  cpu::exponential_adjoint<float>(cpu, velocity.data(), nullptr, grad.data(), 1, shape,
                                  {&kSquarings, 0, 0, 1.0}, result.data());
  result.resize(velocity.size());
  return result;
}

Values warp(Cpu cpu, const Values& image, const Values& field, const Shape& shape) {
  Values moved(image.size());
  cpu::warp<float>(cpu, image.data(), shape, field.data(), shape, 1, 1, kRepeat, nullptr,
                   moved.data());
  return moved;
}

/// Gradients to the field and to the image.
std::pair<Values, Values> warp_adjoint(Cpu cpu, const Values& image, const Values& field,
                                       const Values& grad, const Shape& shape) {
  std::pair<Values, Values> result{Values(field.size()), Values(image.size())};
  cpu::warp_adjoint<float>(cpu, image.data(), shape, field.data(), shape, grad.data(), 1, 1,
                           kRepeat, false, result.first.data(), result.second.data());
  return result;
}

Values jacobian(const Values& field, const Shape& shape) {
  Values result(static_cast<size_t>(shape.count()));
  cpu::jacobian<float>(Cpu{}, field.data(), 1, shape, result.data());
  return result;
}

Values denoised(const Values& image, const Shape& shape) {
  Values primal(image.size()), dual(image.size() * static_cast<size_t>(shape.dimension)), gap(1);
  cpu::total_variation_denoise<float>(Cpu{}, image.data(), 1, shape, 0.1, 10, primal.data(),
                                      dual.data(), gap.data());
  return primal;
}

/// result(), by the functors.
template <class Result>
auto by_functors(const std::string& variant, const Result& result) {
  cpu::set_variant("scalar");
  const auto values = result();
  cpu::set_variant(variant);
  return values;
}

void check(const std::string& variant, const Shape& shape, float peak) {
  const std::string where = variant + ", " + std::to_string(shape.dimension) + "D, rows of " +
                            std::to_string(shape.size[shape.dimension - 1]) + ", peak " +
                            std::to_string(peak) + ": ";
  const int64_t count = shape.count(), values = shape.dimension * count;
  const auto field = smooth_field(shape, peak);
  const auto image = random_values(count, 1), grad = random_values(count, 2);
  const auto grad_field = random_values(values, 3);

  const Values constant(static_cast<size_t>(values), 0.75f);
  expect(exponential(Cpu{}, constant, shape) == constant, where + "exp of a constant is itself");
  const Values zero(static_cast<size_t>(values), 0.0f);
  // Not to the last bit: the last voxel of an axis is a + 1 (b - a).
  expect(distance(warp(Cpu{}, image, zero, shape), image) < 1e-6,
         where + "no displacement is the identity");
  const auto adjoints = warp_adjoint(Cpu{}, image, field, grad, shape);
  const double left = dot(warp(Cpu{}, image, field, shape), grad);
  const double right = dot(image, adjoints.second);
  expect(std::fabs(left - right) < 1e-5 * static_cast<double>(count), where + "<Wx, y> = <x, W'y>");

  const auto same = [&](const auto& result, double bound, const char* what) {
    const double apart = distance(result(), by_functors(variant, result));
    expect(apart < bound, where + what + " as the functors, apart by " + std::to_string(apart));
  };
  same([&] { return exponential(Cpu{}, field, shape); }, 1e-5, "exponential");
  same([&] { return exponential_adjoint(Cpu{}, field, grad_field, shape); }, 1e-4,
       "adjoint of the exponential");
  same([&] { return warp(Cpu{}, image, field, shape); }, 1e-5, "warp");
  same([&] { return warp_adjoint(Cpu{}, image, field, grad, shape).first; }, 1e-5,
       "gradient of a warp to the field");
  same([&] { return warp_adjoint(Cpu{}, image, field, grad, shape).second; }, 1e-5,
       "gradient of a warp to the image");
  same([&] { return jacobian(field, shape); }, 1e-5, "Jacobian");
  same([&] { return denoised(image, shape); }, 1e-5, "total variation");

  auto broken = field;
  broken[static_cast<size_t>(count / 2)] = std::numeric_limits<float>::quiet_NaN();
  same([&] { return warp(Cpu{}, image, broken, shape); }, 1e-5, "warp with NaN");
  same([&] { return exponential(Cpu{}, broken, shape); }, 1e-5, "exponential with NaN");

  expect(exponential_adjoint(Cpu{3}, field, grad_field, shape) ==
             exponential_adjoint(Cpu{1}, field, grad_field, shape),
         where + "three threads give the bits of one");
}

}  // namespace

int main() {
  for (const char* variant : {"baseline", "avx2", "avx512"}) {
    if (!cpu::set_variant(variant)) continue;
    std::printf("%s\n", variant);
    // Short rows, odd ones, and some of more than one segment; steps of less and more than a voxel.
    for (const float peak : {0.4f, 6.0f}) {
      for (const int64_t length : {8, 21, 300}) check(variant, Shape{2, {19, length, 1}}, peak);
      for (const int64_t length : {8, 21, 270}) check(variant, Shape{3, {9, 7, length}}, peak);
    }
    check(variant, Shape{3, {1, 6, 12}}, 1.0f);
    check(variant, Shape{2, {1, 12, 1}}, 1.0f);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
