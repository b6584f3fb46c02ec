// SPDX-License-Identifier: Apache-2.0
// The sum of a tile's lanes.
#pragma once

#include "core/weight.h"

namespace tokendraw::cpu {
namespace {

using Pair = double __attribute__((vector_size(16)));

TOKENDRAW_INLINE Pair widen_pair(const float* from) {
  return Pair{static_cast<double>(from[0]), static_cast<double>(from[1])};
}

/// Lanes added in float64 by halves: lane i with lane i + 16, then 8, 4, 2, 1.
TOKENDRAW_INLINE double sum_of_lanes(const float* lanes) {
  Pair sums[4];
  for (int i = 0; i < 4; ++i) {
    const float* at = lanes + 2 * i;
    sums[i] = (widen_pair(at) + widen_pair(at + 16)) + (widen_pair(at + 8) + widen_pair(at + 24));
  }
  const Pair halves = (sums[0] + sums[2]) + (sums[1] + sums[3]);
  return halves[0] + halves[1];
}
static_assert(kLanes == 32, "five halvings");

}  // namespace
}  // namespace tokendraw::cpu
