// SPDX-License-Identifier: Apache-2.0
// Gumbel noise of tokens, with all of its upper tail: a uniform of 64 bits reaches 45.
// Source: Kool, van Hoof, Welling, "Stochastic beams and where to find them", ICML 2019.
#pragma once

#include <cstdint>

#include "core/exponential.h"
#include "core/philox.h"

namespace tokendraw {

/// The bits of token `token`: a half of block token / 2.
TOKENDRAW_INLINE std::uint64_t gumbel_bits(const RandomSource& source, std::int64_t token) {
  const Uint128 block = uniform_bits(source, Purpose::kGumbel, static_cast<std::uint32_t>(token / 2));
  return static_cast<std::uint64_t>(token % 2 == 0 ? block : block >> 64);
}

/// ln(1 - x) for 0 <= x < 1; the quotient undoes the rounding of 1 - x (Kahan).
TOKENDRAW_INLINE double log_of_one_minus(double x) {
  const double rest = 1.0 - x;
  return rest == 1.0 ? -x : log_double(rest) * (x / (1.0 - rest));
}

/// e^x for x <= 0; 0 below -700.
TOKENDRAW_INLINE double exp_double(double x) {
  constexpr double kLog2OfE = 0x1.71547652b82fep+0;
  return x < -700.0 ? 0.0 : exp2_double(x * kLog2OfE);
}

/// -ln u of the uniform u = (bits + 1/2) / 2^64.
TOKENDRAW_INLINE double exponential_of(std::uint64_t bits) {
  const std::uint64_t from_above = ~bits;
  if (from_above < bits) return -log_of_one_minus((static_cast<double>(from_above) + 0.5) * 0x1p-64);
  return -log_double((static_cast<double>(bits) + 0.5) * 0x1p-64);
}

TOKENDRAW_INLINE double gumbel_of(std::uint64_t bits) { return -log_double(exponential_of(bits)); }

/// 1 - e^x for x < 0, by the same quotient.
TOKENDRAW_INLINE double one_minus_exp(double x) {
  const double power = exp_double(x);
  if (power == 0.0) return 1.0;
  return power == 1.0 ? -x : (1.0 - power) * (x / log_double(power));
}

/// Noisy scores whose maximum is `largest`, given that it is `wanted`: what `noisy` becomes. Appendix B.3 of the
/// source.
TOKENDRAW_INLINE double conditioned_gumbel(double noisy, double largest, double wanted) {
  if (!(noisy < largest)) return wanted;
  const double v = wanted - noisy + log_double(one_minus_exp(noisy - largest));
  const double softplus = log_double(1.0 + exp_double(v > 0.0 ? -v : v));
  return wanted - (v > 0.0 ? v : 0.0) - softplus;
}

}  // namespace tokendraw
