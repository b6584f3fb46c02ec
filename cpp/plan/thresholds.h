// SPDX-License-Identifier: Apache-2.0
// What a row's parameters become before a step uses them, and which of them are legal: one text for plan.cpp and for
// kernels, which alone can read the values that lie in the memory of a device.
#pragma once

#include <cfloat>
#include <cstdint>

#include "core/inline.h"

namespace tokendraw {

/// Contract: thresholds of probabilities give way by the rounding of float32 inputs.
inline constexpr double kThresholdFactor = 1.0 - 0x1p-20;
/// Contract: shares that differ from the bound by the rounding of float32 inputs count as equal to it.
inline constexpr double kShareTolerance = 0x1p-22;
inline constexpr double kLeastThreshold = 0x1p-1000;

TOKENDRAW_INLINE double at_least(double value, double least) { return value < least ? least : value; }

/// Tokens are kept while the share before them is below this. The first token is kept whatever the share; a share above
/// 0 says so without a special case.
TOKENDRAW_INLINE double share_to_reach(double share, bool exceeds) {
  return share >= 1.0 ? 1.0 : at_least(share + (exceeds ? kShareTolerance : -kShareTolerance), kLeastThreshold);
}

/// The least probability, or ratio of probabilities, that passes a threshold.
TOKENDRAW_INLINE double lowered(double threshold) {
  return threshold > 0.0 ? at_least(threshold * kThresholdFactor, kLeastThreshold) : 0.0;
}

/// 0 where it cannot remove a token.
TOKENDRAW_INLINE std::int64_t limiting_top_k(std::int64_t top_k, std::int64_t vocab) {
  return top_k >= vocab ? 0 : top_k;
}

// ---- legal values ----

TOKENDRAW_INLINE bool is_finite(double x) { return x >= -DBL_MAX && x <= DBL_MAX; }
TOKENDRAW_INLINE bool is_finite_not_negative(double x) { return x >= 0.0 && x <= DBL_MAX; }
TOKENDRAW_INLINE bool is_share(double p) { return p > 0.0 && p <= 1.0; }
TOKENDRAW_INLINE bool is_probability(double p) { return p >= 0.0 && p <= 1.0; }
TOKENDRAW_INLINE bool is_not_negative(std::int64_t n) { return n >= 0; }

/// How much of Philox's key or counter an argument fills.
inline constexpr int kSeedBits = 64;
inline constexpr int kStreamBits = 56;
inline constexpr int kStepBits = 32;

}  // namespace tokendraw
