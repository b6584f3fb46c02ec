// SPDX-License-Identifier: Apache-2.0
// One row as the kernels read it: the caller's logits and the edits (mask, bias) applied while reading.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/inline.h"
#include "plan/token_bias.h"

namespace tokendraw::cpu {

struct RowView {
  const void* logits = nullptr;
  Dtype dtype = Dtype::kFloat32;
  std::int64_t vocab = 0;

  const std::uint8_t* allowed = nullptr;  // [vocab], nonzero = allowed
  const std::uint32_t* allowed_bits =
      nullptr;  // [allowed_words], least significant bit first; what is past it is forbidden
  std::int64_t allowed_words = 0;
  const float* bias = nullptr;            // [vocab]
  const TokenBias* token_bias = nullptr;  // [token_bias_count], by ascending token
  std::int64_t token_bias_count = 0;

  TOKENDRAW_INLINED bool edited() const { return allowed || allowed_bits || bias || token_bias; }

  RowView without_edits() const {
    RowView raw;
    raw.logits = logits;
    raw.dtype = dtype;
    raw.vocab = vocab;
    return raw;
  }
};

}  // namespace tokendraw::cpu
