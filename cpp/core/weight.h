// SPDX-License-Identifier: Apache-2.0
// What a weight is: 2^((score - row_max) * log2(e) / T), computed relative to the token's own tile so that it depends
// on nothing outside that tile. The reference is a power of two (an integer `exponent`) wherever the scores allow it:
// changing it then never changes a mantissa. Source of the splitting of log2(e)/T: Cody and Waite (1980).
#pragma once

#include <cstdint>

#include "core/arithmetic.h"
#include "core/exponential.h"

namespace tokendraw {

/// Tokens per tile; a tile's sum is a pure function of that tile. Lane = token index mod kLanes.
inline constexpr int kTile = 1024;
inline constexpr int kLanes = 32;
inline constexpr int kLinesPerTile = kTile / kLanes;
/// Lines whose weights a lane adds one after another before they join its sum: bounds the rounding to ten additions.
inline constexpr int kLinesPerGroup = 8;

/// Temperature as the kernels need it: log2(e)/T = (high + low) * prescale. Scores are multiplied by the power of two
/// `prescale`, 1 for all but extreme temperatures, so that `high` is a normal float.
struct Scale {
  float high;
  float low;
  float prescale;
  double exact;  // high + low before splitting
};

/// T > 0. Beyond [2^-200, 2^180] every weight ratio of distinct floats is 0 or 1 to float32, and T is taken as the
/// bound.
TOKENDRAW_INLINE Scale make_scale(double temperature) {
  const double bounded = temperature < 0x1p-200 ? 0x1p-200 : temperature > 0x1p180 ? 0x1p180 : temperature;
  const double prescale = bounded < 0x1p-60 ? 0x1p96 : bounded > 0x1p60 ? 0x1p-64 : 1.0;
  const double exact = 0x1.71547652b82fep0 / (bounded * prescale);
  const float high = static_cast<float>(exact);
  return {high, static_cast<float>(exact - static_cast<double>(high)), static_cast<float>(prescale), exact};
}

/// What a tile's weights are relative to: weight = 2^((score - base) * prescale * (high + low) - exponent).
struct TileReference {
  float base;
  std::int32_t exponent;
};

inline constexpr float kLargestPlainExponent = 0x1p16f;
inline constexpr float kRoundToInteger = 0x1.8p23f;  // adding it rounds |x| < 2^22 to an integer, in the low bits

/// A function of the tile's largest score alone. Where the score is too large for an integer reference the score itself
/// becomes the base: scores of any weight are then within a factor of two of it, so that the subtraction is exact.
TOKENDRAW_INLINE TileReference reference_of(float tile_max, const Scale& scale) {
  const float scaled = tile_max * scale.prescale;
  const float exponent = scaled * scale.high;
  const bool plain = exponent < kLargestPlainExponent && exponent > -kLargestPlainExponent;
  if (!plain) return {tile_max, 0};
  return {0.0f, static_cast<std::int32_t>(fma(scaled, scale.high, kRoundToInteger) - kRoundToInteger)};
}

/// log2 of how much a weight of 1 in `tile` weighs in the units of `row`.
TOKENDRAW_INLINE double exponent_between(TileReference tile, TileReference row, const Scale& scale) {
  const double bases =
      (static_cast<double>(tile.base) - static_cast<double>(row.base)) * static_cast<double>(scale.prescale);
  return bases * scale.exact + static_cast<double>(tile.exponent - row.exponent);
}

inline constexpr double kLn2 = 0x1.62e42fefa39efp-1;

/// ln(weight / mass) = (score - reference.base) * log_slope - log_offset, where the mass is in units of the reference.
TOKENDRAW_INLINE double log_slope(const Scale& scale) {
  return static_cast<double>(scale.prescale) * scale.exact * kLn2;
}

TOKENDRAW_INLINE double log_offset(TileReference reference, double mass) {
  return static_cast<double>(reference.exponent) * kLn2 + log_double(mass);
}

/// The constants of one tile's weights.
struct WeightConstants {
  float base;
  float prescale;
  float high;
  float low;
  float lowest;    // scores at or below it weigh exactly 0
  float rounding;  // kRoundToInteger moved so that the rounded value is a float's exponent field
  bool plain;      // base 0 and prescale 1: the subtraction and the multiplication may be left out
};

TOKENDRAW_INLINE WeightConstants weight_constants(TileReference reference, const Scale& scale) {
  const float exponent = static_cast<float>(reference.exponent);
  const bool plain = reference.base == 0.0f && scale.prescale == 1.0f;
  return {reference.base,
          scale.prescale,
          scale.high,
          scale.low,
          (exponent - 127.0f) / scale.high,
          kRoundToInteger + (127.0f - exponent),
          plain};
}

/// A weight as a product: fraction in (0.70, 1.42) times a power of two, 0 included.
template <class Float>
struct WeightParts {
  Float fraction;
  Float power;
};

/// Float: float or a vector of floats with overloads of fma, larger and power_of_two_field. Of NaN the fraction is NaN;
/// +inf is not allowed.
template <bool kPlain, class Float>
TOKENDRAW_INLINE WeightParts<Float> weight_parts(Float score, const WeightConstants& c) {
  Float x = score;
  if constexpr (!kPlain) x = (x - Float(c.base)) * Float(c.prescale);
  x = larger(Float(c.lowest), x);  // in this order NaN stays NaN
  const Float rounding = Float(c.rounding);
  const Float high = Float(c.high);
  const Float shifted = fma(x, high, rounding);
  const Float minus_rounded = rounding - shifted;
  Float fraction = fma(x, high, minus_rounded);
  fraction = fma(x, Float(c.low), fraction);
  return {exp2_fraction(fraction), power_of_two_field(shifted)};
}

}  // namespace tokendraw
