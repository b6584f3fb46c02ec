// SPDX-License-Identifier: Apache-2.0
// A sparse edit of the logits, as plan/ checks it and the kernels apply it.
#pragma once

#include <cstdint>

namespace tokendraw {

struct TokenBias {
  std::int32_t token;
  float bias;
};

}  // namespace tokendraw
