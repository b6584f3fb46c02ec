// SPDX-License-Identifier: Apache-2.0
// float16 and bfloat16 as 16 bits each: widened to float32 exactly, narrowed to nearest even. One element.
#pragma once

#include "core/bits.h"

namespace tokendraw {

struct Float16 {
  std::uint16_t bits;
};

struct Bfloat16 {
  std::uint16_t bits;
};

TOKENDRAW_INLINE float widen(float x) { return x; }

/// Rounds to nearest even; a magnitude above FLT_MAX becomes an infinity.
TOKENDRAW_INLINE float widen(double x) { return static_cast<float>(x); }

TOKENDRAW_INLINE float widen(Bfloat16 x) { return bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

TOKENDRAW_INLINE float widen(Float16 x) {
#if defined(__CUDA_ARCH__)
  float widened;
  asm("cvt.f32.f16 %0, %1;" : "=f"(widened) : "h"(x.bits));
  return widened;
#else
  // Exponent and mantissa moved into place, then the exponent bias changed by one exact multiplication (2^112), which
  // also normalises subnormals.
  const std::uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  const std::uint32_t sign = (x.bits & 0x8000u) << 16;
  const float scaled = bit_cast<float>(magnitude) * 0x1p112f;
  const bool special = (x.bits & 0x7c00u) == 0x7c00u;
  const std::uint32_t bits = special ? magnitude | 0x7f800000u : bit_cast<std::uint32_t>(scaled);
  return bit_cast<float>(bits | sign);
#endif
}

// The element nearest to x, ties to even; a magnitude above the largest one becomes an infinity.

TOKENDRAW_INLINE void narrow(float x, float* to) { *to = x; }

TOKENDRAW_INLINE void narrow(float x, double* to) { *to = static_cast<double>(x); }

TOKENDRAW_INLINE void narrow(float x, Bfloat16* to) {
  const auto bits = bit_cast<std::uint32_t>(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to->bits = static_cast<std::uint16_t>(nan ? 0x7fc0u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

TOKENDRAW_INLINE void narrow(float x, Float16* to) {
  constexpr std::uint32_t kInfinity = 0x7f800000u;
  constexpr std::uint32_t kOverflow = 0x477ff000u;   // 65520, halfway from the largest to the next power of two
  constexpr std::uint32_t kSmallest = 0x38800000u;   // 2^-14, the smallest normal
  constexpr std::uint32_t kExponents = 0x38000000u;  // the difference of the exponent biases
  const auto bits = bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - kExponents) >> 13;
  // One half and a subnormal make a float whose low bits count units of 2^-24, rounded.
  if (magnitude < kSmallest) half = bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  if (magnitude >= kOverflow) half = magnitude > kInfinity ? 0x7e00u : 0x7c00u;
  to->bits = static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | half);
}

}  // namespace tokendraw
