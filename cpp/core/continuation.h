// SPDX-License-Identifier: Apache-2.0
// What a beam search ranks: a beam and the token after it.
#pragma once

#include <cstdint>

#include "core/inline.h"

namespace tokendraw {

struct Continuation {
  double score;  // the beam's, plus the log-probability of the token
  float logit;
  std::int32_t parent;  // beam within its prompt
  std::int32_t token;
};

/// Higher score first, then lower parent; after one parent the total order, since distinct logits may give equal
/// scores.
TOKENDRAW_INLINE bool outranks(const Continuation& a, const Continuation& b) {
  if (a.score != b.score) return a.score > b.score;
  if (a.parent != b.parent) return a.parent < b.parent;
  if (a.logit != b.logit) return a.logit > b.logit;
  return a.token < b.token;
}

}  // namespace tokendraw
