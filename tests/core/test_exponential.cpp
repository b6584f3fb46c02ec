// SPDX-License-Identifier: Apache-2.0
// The errors that core/exponential.h states, measured.
#include <cmath>

#include "check.h"
#include "core/exponential.h"

namespace {

using namespace tokendraw;

constexpr double kStatedFractionError = 1.7e-7;

/// The largest relative error over every `stride`-th float in [low, high] and their negatives.
double fraction_error(float low, float high, std::uint32_t stride) {
  double largest = 0.0;
  const auto last = bit_cast<std::uint32_t>(high);
  for (auto pattern = bit_cast<std::uint32_t>(low); pattern <= last; pattern += stride) {
    const float x = bit_cast<float>(pattern);
    const double exact = std::exp2(static_cast<double>(x));
    const double above = static_cast<double>(exp2_fraction(x)) / exact - 1.0;
    const double below = static_cast<double>(exp2_fraction(-x)) * exact - 1.0;
    largest = std::fmax(largest, std::fmax(std::fabs(above), std::fabs(below)));
  }
  return largest;
}

// Every float from 2^-6 up; below, where the error is that of rounding a result next to 1, one in 61.
TEST(exp2_fraction_is_as_accurate_as_stated) {
  const double large = fraction_error(0x1p-6f, 0.505f, 1);
  const double small = fraction_error(0x1p-149f, 0x1p-6f, 61);
  CHECK_WITH(large < kStatedFractionError, test::shown(large));
  CHECK_WITH(large > 1.0e-7, test::shown(large) + ": better than stated, state it");
  CHECK_WITH(small < 0x1p-23, test::shown(small));
}

TEST(exp2_fraction_of_zero_is_one) {
  CHECK_EQUAL(exp2_fraction(0.0f), 1.0f);
  CHECK_EQUAL(exp2_fraction(-0.0f), 1.0f);
}

double relative(double actual, long double exact) {
  return static_cast<double>(std::fabs(static_cast<long double>(actual) / exact - 1.0L));
}

TEST(exp2_double_is_as_accurate_as_stated) {
  test::Random random(4);
  double largest = 0.0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double x = i % 2 == 0 ? random.between(-1000.0, 1000.0) : random.between(-1.0, 1.0);
    largest = std::fmax(largest, relative(exp2_double(x), std::exp2(static_cast<long double>(x))));
  }
  CHECK_WITH(largest < 1e-15, test::shown(largest));
  for (int n = -999; n <= 1000; ++n) CHECK_EQUAL(exp2_double(n), std::ldexp(1.0, n));
}

TEST(exp2_double_far_below_is_zero) {
  for (const double x : {-1000.0, -1000.5, -1e300, -HUGE_VAL}) CHECK_EQUAL(exp2_double(x), 0.0);
  CHECK(exp2_double(-999.999) > 0.0);
}

// Near 1 the logarithm is small and the error is measured relative to it: no cancellation is allowed there either.
TEST(log_double_is_as_accurate_as_stated) {
  test::Random random(5);
  double largest = 0.0;
  for (int i = 0; i < 1'000'000; ++i) {
    const double x = i % 2 == 0 ? std::ldexp(random.between(1.0, 2.0), static_cast<int>(random.below(2000)) - 1000)
                                : 1.0 + std::ldexp(random.between(-1.0, 1.0), -1 - static_cast<int>(random.below(40)));
    if (x == 1.0) continue;
    largest = std::fmax(largest, relative(log_double(x), std::log(static_cast<long double>(x))));
  }
  CHECK_WITH(largest < 2e-15, test::shown(largest));
  CHECK_EQUAL(log_double(1.0), 0.0);
}

}  // namespace
