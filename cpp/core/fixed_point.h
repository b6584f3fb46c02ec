// SPDX-License-Identifier: Apache-2.0
// Weights as 128-bit integers, and the choice of one among them. Integer sums are exact in any order, so a child of
// share 1e-15 is chosen at its rate wherever it stands; a float64 running sum would be wrong there by a tenth.
#pragma once

#include <cstdint>

#include "core/bits.h"

namespace tokendraw {

__extension__ typedef unsigned __int128 Uint128;

/// Bits below the binary point of a weight in [1, 2). Up to 2^36 such weights add without overflow.
inline constexpr int kFixedPointBits = 90;

/// The exponent e of a positive normal double, 2^e <= value < 2^(e+1).
TOKENDRAW_INLINE int exponent_of(double value) {
  return static_cast<int>(bit_cast<std::uint64_t>(value) >> 52 & 0x7ff) - 1023;
}

/// floor(weight * 2^(kFixedPointBits - exponent)) for weight >= 0 with an exponent of at most `exponent`.
TOKENDRAW_INLINE Uint128 to_fixed_point(double weight, int exponent) {
  if (!(weight > 0.0)) return 0;
  const std::uint64_t mantissa = (bit_cast<std::uint64_t>(weight) & 0xfffffffffffffu) | 0x10000000000000u;
  const int shift = exponent_of(weight) - 52 + kFixedPointBits - exponent;
  if (shift >= 0) return static_cast<Uint128>(mantissa) << shift;
  return shift > -64 ? mantissa >> -shift : 0;
}

/// uniform / 2^128, cut to 53 significant bits: below 1, and the finer the smaller.
TOKENDRAW_INLINE double fraction_of(Uint128 uniform) {
  if (uniform == 0) return 0.0;
  const auto high = static_cast<std::uint64_t>(uniform >> 64);
  const int leading = high != 0 ? __builtin_clzll(high) : 64 + __builtin_clzll(static_cast<std::uint64_t>(uniform));
  const int cut = leading < 75 ? 75 - leading : 0;
  const auto unit = bit_cast<double>(static_cast<std::uint64_t>(cut - 128 + 1023) << 52);
  return static_cast<double>(static_cast<std::uint64_t>(uniform >> cut)) * unit;
}

/// floor(a * b / 2^128).
TOKENDRAW_INLINE Uint128 multiply_high(Uint128 a, Uint128 b) {
  const std::uint64_t a_low = static_cast<std::uint64_t>(a), a_high = static_cast<std::uint64_t>(a >> 64);
  const std::uint64_t b_low = static_cast<std::uint64_t>(b), b_high = static_cast<std::uint64_t>(b >> 64);
  const Uint128 low = static_cast<Uint128>(a_low) * b_low;
  const Uint128 cross = static_cast<Uint128>(a_high) * b_low + static_cast<std::uint64_t>(low >> 64);
  const Uint128 other = static_cast<Uint128>(a_low) * b_high + static_cast<std::uint64_t>(cross);
  return static_cast<Uint128>(a_high) * b_high + static_cast<std::uint64_t>(cross >> 64) +
         static_cast<std::uint64_t>(other >> 64);
}

/// The child that the uniform integer `uniform` in [0, 2^128) falls on, in proportion to weights[0 .. count).
/// Weights are finite and >= 0, at least one is positive; a child of weight zero is never picked.
TOKENDRAW_INLINE int pick(const double* weights, int count, Uint128 uniform) {
  std::int64_t largest = 0;  // as bits: in the order of the values, and compared in a quarter of the time
  for (int child = 0; child < count; ++child) {
    const auto bits = bit_cast<std::int64_t>(weights[child]);
    largest = bits > largest ? bits : largest;
  }
  const int exponent = exponent_of(bit_cast<double>(largest));
  Uint128 total = 0;
  for (int child = 0; child < count; ++child) total += to_fixed_point(weights[child], exponent);
  Uint128 left = multiply_high(uniform, total);
  for (int child = 0;; ++child) {
    const Uint128 weight = to_fixed_point(weights[child], exponent);
    if (left < weight) return child;
    left -= weight;
  }
}

}  // namespace tokendraw
