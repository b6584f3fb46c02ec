// SPDX-License-Identifier: Apache-2.0
// What a beam search ranks: a beam and the token after it.
#pragma once

#include <cstdint>

#include "core/inline.h"

namespace tokendraw {

struct Continuation {
  double priority;  // what it is ranked by: the score, with noise where a search is random
  double score;     // the beam's, plus the log-probability of the token
  float logit;
  std::int32_t parent;  // beam within its group
  std::int32_t token;
};

/// Higher priority first, then lower parent; after one parent the total order, since distinct logits may give equal
/// scores.
TOKENDRAW_INLINE bool outranks(const Continuation& a, const Continuation& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  if (a.parent != b.parent) return a.parent < b.parent;
  if (a.logit != b.logit) return a.logit > b.logit;
  return a.token < b.token;
}

}  // namespace tokendraw
