// SPDX-License-Identifier: Apache-2.0
// 2^x and ln x from additions, multiplications and explicit fused multiply-adds only, so that every machine computes
// the same bits. `exp2_fraction` is a template over a value type: float, or a vector of floats with an `fma` overload.
#pragma once

#include "core/arithmetic.h"
#include "core/bits.h"

namespace tokendraw {

/// 2^f for |f| <= 0.505, exactly 1 at 0. Minimax fit with the constant term fixed (Chebyshev nodes, linear program);
/// largest relative error 9.8e-8 of the polynomial, 1.7e-7 with float32 rounding (tests/core measures it).
template <class Float>
TOKENDRAW_INLINE Float exp2_fraction(Float f) {
  Float p = fma(Float(0x1.5bb0dep-10f), f, Float(0x1.3cf37ep-7f));
  p = fma(p, f, Float(0x1.c6b79cp-5f));
  p = fma(p, f, Float(0x1.ebf9a2p-3f));
  p = fma(p, f, Float(0x1.62e428p-1f));
  return fma(p, f, Float(1.0f));
}

/// 2^x in double; 0 below -1000, exact at integers. x <= 1000. Relative error below 1e-15: Taylor's sum to degree 13.
TOKENDRAW_INLINE double exp2_double(double x) {
  if (!(x > -1000.0)) return 0.0;
  const double rounded = (x + 0x1.8p52) - 0x1.8p52;
  const auto exponent = static_cast<std::uint64_t>(static_cast<std::int64_t>(rounded) + 1023) << 52;
  const double power = bit_cast<double>(exponent);
  if (x == rounded) return power;
  constexpr double kInverseFactorials[] = {1.0 / 6227020800.0,
                                           1.0 / 479001600.0,
                                           1.0 / 39916800.0,
                                           1.0 / 3628800.0,
                                           1.0 / 362880.0,
                                           1.0 / 40320.0,
                                           1.0 / 5040.0,
                                           1.0 / 720.0,
                                           1.0 / 120.0,
                                           1.0 / 24.0,
                                           1.0 / 6.0,
                                           1.0 / 2.0,
                                           1.0,
                                           1.0};
  const double f = (x - rounded) * 0x1.62e42fefa39efp-1;
  double sum = 0.0;
  for (const double coefficient : kInverseFactorials) sum = sum * f + coefficient;
  return sum * power;
}

/// ln x for a positive normal double. Relative error of the fraction below 1e-15: atanh series in s, |s| <= 0.1716.
TOKENDRAW_INLINE double log_double(double x) {
  auto bits = bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
  double m = bit_cast<double>((bits & 0xfffffffffffffu) | 0x3ff0000000000000u);
  if (m > 0x1.6a09e667f3bcdp0) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double sum = 0.0;
  for (int n = 21; n > 0; n -= 2) sum = sum * s2 + 1.0 / n;
  return static_cast<double>(exponent) * 0x1.62e42fefa39efp-1 + 2.0 * s * sum;
}

}  // namespace tokendraw
