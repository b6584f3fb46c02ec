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

/// A finite score stays finite, and a forbidden token forbidden. The factor makes a positive score smaller and a negative
/// one more negative: Keskar et al., "CTRL" (2019).
TOKENDRAW_INLINE float penalized(float score, const Penalty& penalty) {
  if (score < -FLT_MAX) return score;
  double x = static_cast<double>(score);
  x = x < 0.0 ? x * penalty.repetition : x / penalty.repetition;
  x = ((x - penalty.frequency) - penalty.presence) - penalty.dry;
  if (x > static_cast<double>(FLT_MAX)) return FLT_MAX;
  if (x < -static_cast<double>(FLT_MAX)) return -FLT_MAX;
  return static_cast<float>(x);
}

}  // namespace tokendraw
