// SPDX-License-Identifier: Apache-2.0
// The operations on one float that need care; a vector type of cpu/ overloads the same three names.
#pragma once

#include "core/bits.h"

namespace tokendraw {

/// round(a * b + c) with one rounding.
TOKENDRAW_INLINE float fma(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
  return __builtin_fmaf(a, b, c);
#else
  // The product of two floats is exact in double. Rounding the sum to odd makes the second rounding harmless:
  // Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57 (2008).
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = static_cast<double>(c);
  const double sum = product + addend;
  const double part = sum - product;
  const double error = (product - (sum - part)) + (addend - part);
  const auto bits = bit_cast<std::uint64_t>(sum);
  const bool inexact = error < 0.0 || error > 0.0;
  if (!inexact || (bits & 1u) != 0) return static_cast<float>(sum);
  const bool away_from_zero = (error > 0.0) == (sum > 0.0);
  return static_cast<float>(bit_cast<double>(away_from_zero ? bits + 1 : bits - 1));
#endif
}

/// The larger of two; where either is NaN, the second (as `maxps` does), but on a GPU the other one: its maximum is one
/// instruction, and NaN is looked for there before.
TOKENDRAW_INLINE float larger(float a, float b) {
#if defined(__CUDA_ARCH__)
  return fmaxf(a, b);
#else
  return a > b ? a : b;
#endif
}

/// The nearest float that is finite.
TOKENDRAW_INLINE float finite_float(double x) {
  constexpr double kLargest = 0x1.fffffep127;
  return static_cast<float>(x < -kLargest ? -kLargest : x > kLargest ? kLargest : x);
}

/// 2^(n - 127) for the integer n in the low bits of a float that kRoundToInteger was added to; 0 for n = 0.
TOKENDRAW_INLINE float power_of_two_field(float shifted) {
  return bit_cast<float>(bit_cast<std::uint32_t>(shifted) << 23);
}

}  // namespace tokendraw
