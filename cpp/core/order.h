// SPDX-License-Identifier: Apache-2.0
// The total order of tokens: higher score first, equal scores by lower token id; -0.0 equals 0.0.
// Every filter keeps a beginning of this order, so a kept set is one cutoff.
#pragma once

#include <cfloat>
#include <cstdint>

#include "core/bits.h"
#include "core/inline.h"

namespace tokendraw {

struct Candidate {
  float score;
  std::int32_t token;
};

TOKENDRAW_INLINE bool before(Candidate a, Candidate b) {
  return a.score > b.score || (a.score == b.score && a.token < b.token);
}

/// Floats as integers of the same order, but NaN; both zeros are 0.
TOKENDRAW_INLINE std::int64_t float_rank(float x) {
  const auto magnitude = static_cast<std::int64_t>(bit_cast<std::uint32_t>(x) & 0x7fffffffu);
  return x < 0.0f ? -magnitude : magnitude;
}

TOKENDRAW_INLINE float float_of_rank(std::int64_t rank) {
  const float magnitude = bit_cast<float>(static_cast<std::uint32_t>(rank < 0 ? -rank : rank));
  return rank < 0 ? -magnitude : magnitude;
}

/// The float farthest from `near` towards `far` that `holds`, where it holds of `near` and of a beginning of the way.
template <class Holds>
float farthest_float(float near, float far, Holds holds) {
  std::int64_t inside = float_rank(near);
  const std::int64_t end = float_rank(far);
  std::int64_t outside = end > inside ? end + 1 : end - 1;
  while (outside - inside > 1 || inside - outside > 1) {
    const std::int64_t middle = inside + (outside - inside) / 2;
    (holds(float_of_rank(middle)) ? inside : outside) = middle;
  }
  return float_of_rank(inside);
}

/// The last place of the order that is kept: scores above `score`, and those equal to it up to `token`.
struct Cutoff {
  float score;
  std::int64_t token;
};

/// Keeps every finite score.
inline constexpr Cutoff kKeepFinite{-FLT_MAX, INT64_MAX};

/// Whether it is no less than kKeepFinite.
TOKENDRAW_INLINE bool keeps_all_finite(Cutoff cutoff) {
  return cutoff.score <= kKeepFinite.score && cutoff.token == kKeepFinite.token;
}

inline constexpr Cutoff kKeepNothing{__builtin_inff(), -1};

TOKENDRAW_INLINE bool keeps(Cutoff cutoff, float score, std::int64_t token) {
  return score > cutoff.score || (score == cutoff.score && token <= cutoff.token);
}

TOKENDRAW_INLINE Cutoff through(Candidate last) { return {last.score, last.token}; }

/// Everything strictly before `candidate`.
TOKENDRAW_INLINE Cutoff up_to(Candidate candidate) {
  return {candidate.score, static_cast<std::int64_t>(candidate.token) - 1};
}

/// The least float above x; x is finite.
TOKENDRAW_INLINE float next_above(float x) {
  if (x == 0.0f) return bit_cast<float>(std::uint32_t{1});
  const auto pattern = bit_cast<std::uint32_t>(x);
  return bit_cast<float>(x > 0.0f ? pattern + 1 : pattern - 1);
}

/// The cutoff that keeps scores from `bound` on, and `first` whatever the bound.
TOKENDRAW_INLINE Cutoff cutoff_from(double bound, float first) {
  if (!(bound > static_cast<double>(-FLT_MAX))) return kKeepFinite;
  if (bound >= static_cast<double>(first)) return {first, INT64_MAX};
  float floor = static_cast<float>(bound);
  if (static_cast<double>(floor) < bound) floor = next_above(floor);
  return {floor < first ? floor : first, INT64_MAX};
}

/// The smaller of two kept sets.
TOKENDRAW_INLINE Cutoff tighter(Cutoff a, Cutoff b) {
  const bool a_first = a.score > b.score || (a.score == b.score && a.token < b.token);
  return a_first ? a : b;
}

}  // namespace tokendraw
