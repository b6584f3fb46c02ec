// SPDX-License-Identifier: Apache-2.0
// The seam: what a processor must be able to do. A backend receives checked requests and decides nothing about them.
#pragma once

#include "plan/request.h"

namespace tokendraw {

class Backend {
 public:
  virtual ~Backend() = default;

  /// status [rows] says which rows could be drawn from.
  virtual void draw(const Request& request, const DrawOutputs& outputs, RowStatus* status) = 0;

  /// out [rows, vocab], row-major.
  virtual void transform(const Request& request, Transform transform, float* out, RowStatus* status) = 0;

  /// kept [rows].
  virtual void list_kept(const Request& request, KeptRow* kept, RowStatus* status) = 0;

  /// The first k tokens of the total order of every row: values, tokens [rows, k], -inf and -1 past the last.
  virtual void top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens,
                     RowStatus* status) = 0;

  /// The k best continuations of the beams of every prompt, in the order of core/continuation.h. A prompt with an
  /// invalid row has NaN, -1 and -1 throughout.
  virtual void top_continuations(const Request& request, const Beams& beams, const ContinuationOutputs& out,
                                 RowStatus* status) = 0;

  /// Which drafts each row accepts, and the token after them. Rows of logits are read only as far as drafts are
  /// accepted; an invalid one ends its row.
  virtual void verify(const Request& request, const Drafts& drafts, const VerifyOutputs& out, RowStatus* status) = 0;
};

}  // namespace tokendraw
