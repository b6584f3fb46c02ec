// SPDX-License-Identifier: Apache-2.0
// float16 and bfloat16 as 16 bits each, widened to float32 exactly. One element; vectors widen in cpu/load-inl.h.
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
  // Exponent and mantissa moved into place, then the exponent bias changed by one exact multiplication (2^112), which
  // also normalises subnormals.
  const std::uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  const std::uint32_t sign = (x.bits & 0x8000u) << 16;
  const float scaled = bit_cast<float>(magnitude) * 0x1p112f;
  const bool special = (x.bits & 0x7c00u) == 0x7c00u;
  const std::uint32_t bits = special ? magnitude | 0x7f800000u : bit_cast<std::uint32_t>(scaled);
  return bit_cast<float>(bits | sign);
}

}  // namespace tokendraw
