// SPDX-License-Identifier: Apache-2.0
// What penalties make of one score. In float64 and rounded once, so that every machine agrees.
#pragma once

#include <cfloat>

#include "core/inline.h"

namespace tokendraw {

/// Of one token: a factor, then three terms to subtract.
struct Penalty {
  double repetition = 1.0;
  double frequency = 0.0;
  double presence = 0.0;
  double dry = 0.0;
};

TOKENDRAW_INLINE double within_float(double x) {
  constexpr double kLargest = static_cast<double>(FLT_MAX);
  return x > kLargest ? kLargest : x < -kLargest ? -kLargest : x;
}

/// A finite score stays finite after every term, and a forbidden token forbidden. The factor makes a positive score
/// smaller and a negative one more negative: Keskar et al., "CTRL" (2019).
TOKENDRAW_INLINE float penalized(float score, const Penalty& penalty) {
  if (score < -FLT_MAX) return score;
  double x = static_cast<double>(score);
  x = within_float(x < 0.0 ? x * penalty.repetition : x / penalty.repetition);
  x = within_float(x - penalty.frequency);
  x = within_float(x - penalty.presence);
  return static_cast<float>(within_float(x - penalty.dry));
}

}  // namespace tokendraw
