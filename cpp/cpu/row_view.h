// SPDX-License-Identifier: Apache-2.0
// One row as the kernels read it: the caller's logits and the edits applied while reading.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/inline.h"
#include "core/order.h"
#include "core/penalty.h"
#include "plan/token_bias.h"

namespace tokendraw {
struct Request;
}

namespace tokendraw::cpu {

/// What the history makes of one token.
struct TokenEdit {
  std::int32_t token;
  bool forbidden;
  Penalty penalty;
};

/// Tokens that a step took out of the middle or the top of the order; those it cut off at the end are a Cutoff.
struct Removal {
  Cutoff top = kKeepNothing;  // the beginning of the order that is removed
  float tied_score = 0.0f;    // tokens of this score
  std::int64_t tied_end = 0;  // and below this id are removed
  bool any = false;

  TOKENDRAW_INLINED bool removes(float score, std::int64_t token) const {
    return keeps(top, score, token) || (score == tied_score && token < tied_end);
  }
};

struct RowView {
  const void* logits = nullptr;
  Dtype dtype = Dtype::kFloat32;
  std::int64_t vocab = 0;

  const std::uint8_t* allowed = nullptr;        // [vocab], nonzero = allowed
  const std::uint32_t* allowed_bits = nullptr;  // [allowed_words], least significant first; past them: forbidden
  std::int64_t allowed_words = 0;
  const float* bias = nullptr;            // [vocab]
  const TokenBias* token_bias = nullptr;  // [token_bias_count], by ascending token
  std::int64_t token_bias_count = 0;
  const TokenEdit* token_edits = nullptr;     // by tile
  const std::int64_t* edits_begin = nullptr;  // [tiles + 1]
  Removal removal;

  TOKENDRAW_INLINED bool edited() const {
    return allowed || allowed_bits || bias || token_bias || token_edits || removal.any;
  }

  TOKENDRAW_INLINED bool masked() const { return allowed || allowed_bits; }

  RowView without_mask() const {
    RowView whole = *this;
    whole.allowed = nullptr;
    whole.allowed_bits = nullptr;
    return whole;
  }

  RowView without_edits() const {
    RowView raw;
    raw.logits = logits;
    raw.dtype = dtype;
    raw.vocab = vocab;
    return raw;
  }
};

/// One position of one row as the request has it, without what its history makes of it.
RowView view_row(const Request& request, std::int64_t row, std::int64_t position = 0);

}  // namespace tokendraw::cpu
