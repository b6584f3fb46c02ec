// SPDX-License-Identifier: Apache-2.0
// A token's weight against 2^((score - row_max) * log2(e) / T) in long double, at every kind of temperature.
#include <cfloat>
#include <cmath>
#include <vector>

#include "check.h"
#include "core/weight.h"

namespace {

using namespace tokendraw;

constexpr long double kLog2E = 1.442695040888963407359924681001892137L;

/// The contract's bound for one weight, relative to the largest of the row.
constexpr double kStatedWeightError = 0x1p-20;

double weight_of(float score, float tile_max, const Scale& scale) {
  const WeightConstants constants = weight_constants(reference_of(tile_max, scale), scale);
  const auto parts = constants.plain ? weight_parts<true>(score, constants) : weight_parts<false>(score, constants);
  return static_cast<double>(parts.fraction * parts.power);
}

/// log2 of how much `score` weighs relative to `tile_max`, exactly.
long double exact_log(float score, float tile_max, double temperature) {
  return (static_cast<long double>(score) - static_cast<long double>(tile_max)) * kLog2E / temperature;
}

/// The error of weight(score) / weight(max) relative to the exact ratio; 0 where both vanish.
double error_of(float score, float max, double temperature) {
  const Scale scale = make_scale(temperature);
  const double ratio = weight_of(score, max, scale) / weight_of(max, max, scale);
  const long double exact = std::exp2(exact_log(score, max, temperature));
  if (exact < 0x1p-120L) return ratio < 0x1p-118 ? 0.0 : HUGE_VAL;
  return static_cast<double>(std::fabs(static_cast<long double>(ratio) / exact - 1.0L));
}

void check_scores(double temperature, float max, double reach) {
  test::Random random(9);
  double largest = 0.0;
  for (int i = 0; i < 20'000; ++i) {
    const float score = static_cast<float>(static_cast<double>(max) - random.between(0.0, reach));
    largest = std::fmax(largest, error_of(std::fmin(score, max), max, temperature));
  }
  CHECK_WITH(largest <= kStatedWeightError,
             "T " + test::shown(temperature) + " max " + test::shown(max) + " error " + test::shown(largest));
}

TEST(weights_at_ordinary_temperatures) {
  for (const double temperature : {0.01, 0.1, 0.7, 0.8, 1.0, 1.3, 2.0, 10.0, 100.0}) {
    for (const float max : {-700.0f, -30.0f, -0.5f, 0.0f, 0x1p-149f, 1.0f, 12.25f, 88.0f, 400.0f}) {
      check_scores(temperature, max, 80.0 * temperature);
    }
  }
}

// Scores far from zero: the exponent of the reference is large, or the score itself is the reference.
TEST(weights_of_large_scores) {
  for (const float max : {4000.0f, -4000.0f, 45000.0f, 1e6f, -1e6f, 3e38f, -3e38f}) {
    for (const double temperature : {0.3, 1.0, 7.0}) check_scores(temperature, max, 80.0 * temperature);
  }
}

TEST(weights_at_extreme_temperatures) {
  for (const double temperature : {1e-30, 1e-18, 1e-10, 1e10, 1e18, 1e30}) {
    for (const double max : {0.0, 3.0 * temperature, -40.0 * temperature, 1e5 * temperature}) {
      check_scores(temperature, static_cast<float>(max), 80.0 * temperature);
    }
  }
}

TEST(the_largest_weight_of_a_tile_is_near_one) {
  test::Random random(10);
  for (int i = 0; i < 200'000; ++i) {
    const Scale scale = make_scale(std::exp2(random.between(-250.0, 250.0)));
    const auto pattern = static_cast<std::uint32_t>(random.bits());
    const float max = bit_cast<float>(pattern);
    if (!std::isfinite(max)) continue;
    const double weight = weight_of(max, max, scale);
    CHECK_WITH(weight > 0.70 && weight < 1.42, test::shown(max) + " " + test::shown(weight));
  }
}

TEST(nothing_below_the_lowest_score_weighs) {
  for (const double temperature : {1e-25, 0.5, 1.0, 1e25}) {
    const Scale scale = make_scale(temperature);
    for (const float max : {-5.0f, 0.0f, 3.0f, 1e30f}) {
      CHECK_EQUAL(weight_of(-HUGE_VALF, max, scale), 0.0);
      const double far = static_cast<double>(max) - 200.0 * temperature;
      if (far < static_cast<double>(-FLT_MAX) || static_cast<float>(far) == max) continue;
      CHECK_EQUAL(weight_of(static_cast<float>(far), max, scale), 0.0);
    }
  }
}

// Two tiles whose references differ: their weights must be the same in common units.
TEST(tiles_are_comparable_across_references) {
  test::Random random(11);
  for (int i = 0; i < 200'000; ++i) {
    const double temperature = std::exp2(random.between(-6.0, 6.0));
    const Scale scale = make_scale(temperature);
    const float row_max = static_cast<float>(random.between(-3e3, 3e3));
    const float tile_max = static_cast<float>(static_cast<double>(row_max) - random.between(0.0, 60.0 * temperature));
    const double units = exponent_between(reference_of(tile_max, scale), reference_of(row_max, scale), scale);
    const double ratio = weight_of(tile_max, tile_max, scale) * std::exp2(units) / weight_of(row_max, row_max, scale);
    const long double exact = std::exp2(exact_log(tile_max, row_max, temperature));
    CHECK_WITH(std::fabs(static_cast<double>(static_cast<long double>(ratio) / exact) - 1.0) <= kStatedWeightError,
               test::shown(temperature) + " " + test::shown(row_max) + " " + test::shown(tile_max));
  }
}

}  // namespace
