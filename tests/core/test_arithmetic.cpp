// SPDX-License-Identifier: Apache-2.0
// The fused multiply-add that machines without one compute, against the C library's.
#include <array>
#include <cfloat>
#include <cmath>
#include <vector>

#include "check.h"
#include "core/arithmetic.h"

namespace {

using namespace tokendraw;

std::uint32_t pattern_of(float x) { return bit_cast<std::uint32_t>(x); }

bool agrees(float a, float b, float c) {
  const float expected = std::fma(a, b, c);
  const float actual = tokendraw::fma(a, b, c);
  return std::isnan(expected) ? std::isnan(actual) : pattern_of(actual) == pattern_of(expected);
}

void check_fma(float a, float b, float c) {
  CHECK_WITH(agrees(a, b, c), test::shown(a) + " * " + test::shown(b) + " + " + test::shown(c) + " = " +
                                  test::shown(tokendraw::fma(a, b, c)));
}

TEST(on_x86_this_program_tests_the_software_fma) {
#if defined(__FMA__)
  CHECK_WITH(false, std::string("built with a hardware fma: the tests of core/ take the baseline's flags"));
#else
  CHECK(true);
#endif
}

TEST(fma_of_all_hard_values) {
  std::vector<float> values;
  for (const float x : {0.0f,
                        1.0f,
                        1.0f + FLT_EPSILON,
                        1.0f - FLT_EPSILON / 2,
                        1.5f,
                        3.0f,
                        0x1p12f + 1,
                        0x1.fffffep11f,
                        0x1.000002p-12f,
                        0x1p-24f,
                        0x1p-25f,
                        0x1.000002p-24f,
                        0x1p-63f,
                        0x1.555556p-75f,
                        0x1p-75f,
                        0x1.fffffep-76f,
                        FLT_MIN,
                        0x1.fffffcp-127f,
                        0x1p-149f,
                        0x1.8p-148f,
                        0x1p64f,
                        0x1.fffffep63f,
                        FLT_MAX,
                        0x1p127f,
                        HUGE_VALF,
                        std::nanf("")}) {
    values.push_back(x);
    values.push_back(-x);
  }
  for (const float a : values) {
    for (const float b : values) {
      for (const float c : values) check_fma(a, b, c);
    }
  }
}

// Exact results within 2^-30 of halfway between two floats, where the sum in double is that halfway: rounding it again
// goes wrong for every second one. (1 + i * 2^-23) * (1 - i * 2^-23) = 1 - i^2 * 2^-46.
TEST(fma_next_to_halfway) {
  test::Random random(1);
  for (int n = 0; n < 500'000; ++n) {
    const float i = static_cast<float>(1 + random.below(128));
    const float a = 1.0f + i * FLT_EPSILON;
    const float b = 1.0f - i * FLT_EPSILON;
    const float c =
        std::ldexp(static_cast<float>((1 << 23) + random.below(1 << 23)), static_cast<int>(random.below(200)) - 120);
    const float half = std::ldexp(1.0f, std::ilogb(c) - 24);
    const float subnormal = std::ldexp(static_cast<float>(random.below(1 << 23)), -149);
    for (const float sign : {1.0f, -1.0f}) {
      check_fma(a * sign, b * half, c);
      check_fma(a * sign, b * half, -c);
      check_fma(std::ldexp(a * sign, -75), std::ldexp(b, -75), subnormal);
    }
  }
}

TEST(fma_of_random_bits) {
  test::Random random(2);
  for (int i = 0; i < 10'000'000; ++i) {
    const std::uint64_t high = random.bits();
    const auto a = bit_cast<float>(static_cast<std::uint32_t>(high));
    const auto b = bit_cast<float>(static_cast<std::uint32_t>(high >> 32));
    const auto c = bit_cast<float>(static_cast<std::uint32_t>(random.bits()));
    CHECK_WITH(agrees(a, b, c), test::shown(a) + " " + test::shown(b) + " " + test::shown(c));
  }
}

// Addends of the product's size, so that no operand vanishes.
TEST(fma_of_comparable_terms) {
  test::Random random(3);
  const auto mantissa = [&] { return static_cast<float>(random.between(-2.0, 2.0)); };
  for (int i = 0; i < 10'000'000; ++i) {
    const int exponent = static_cast<int>(random.below(240)) - 145;
    const float a = mantissa();
    const float b = std::ldexp(mantissa(), exponent);
    const float c = std::ldexp(mantissa(), exponent + static_cast<int>(random.below(60)) - 30);
    CHECK_WITH(agrees(a, b, c), test::shown(a) + " " + test::shown(b) + " " + test::shown(c));
  }
}

TEST(larger_is_the_second_where_either_is_nan) {
  const float nan = std::nanf("");
  CHECK_EQUAL(larger(1.0f, 2.0f), 2.0f);
  CHECK_EQUAL(larger(2.0f, 1.0f), 2.0f);
  CHECK_EQUAL(larger(nan, 1.0f), 1.0f);
  CHECK(std::isnan(larger(1.0f, nan)));
  CHECK(!std::signbit(larger(-0.0f, 0.0f)));
  CHECK(std::signbit(larger(0.0f, -0.0f)));
}

TEST(power_of_two_field_of_every_exponent) {
  CHECK_EQUAL(power_of_two_field(0x1.8p23f), 0.0f);
  for (int n = 1; n <= 254; ++n) {
    CHECK_EQUAL(power_of_two_field(0x1.8p23f + static_cast<float>(n)), std::ldexp(1.0f, n - 127));
  }
}

}  // namespace
