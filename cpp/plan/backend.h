// SPDX-License-Identifier: Apache-2.0
// The seam: what a processor must be able to do. A backend receives checked requests and decides nothing about them.
#pragma once

#include "core/continuation.h"
#include "plan/request.h"

namespace tokendraw {

class Backend {
 public:
  virtual ~Backend() = default;

  /// status [rows] says which rows could be drawn from.
  virtual void draw(const Request& request, const DrawOutputs& outputs, RowStatus* status) = 0;

  /// What the unmodified logits say at the request's temperature of `tokens`, one per row, and of all. Without an
  /// output that names a token, `tokens` is not read.
  virtual void score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
                     RowStatus* status) = 0;

  /// -ln of what every row gives its target at the request's temperature, and how that changes with its logits.
  virtual void cross_entropy(const Request& request, const Targets& targets, const LossOutputs& outputs,
                             RowStatus* status) = 0;

  /// out [rows]: from the request's rows to those of `other`, which has as many, in nats. A row of the request is
  /// invalid where either is.
  virtual void diverge(const Request& request, const Logits& other, Divergence kind, float* out, RowStatus* status) = 0;

  /// out [rows, vocab], row-major.
  virtual void transform(const Request& request, Transform transform, float* out, RowStatus* status) = 0;

  /// kept [rows].
  virtual void list_kept(const Request& request, KeptRow* kept, RowStatus* status) = 0;

  /// The first k tokens of the total order of every row: values, tokens [rows, k], -inf and -1 past the last.
  virtual void top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens,
                     RowStatus* status) = 0;

  /// The best continuations of every group in the order of core/continuation.h, as many as it has slots; past the last
  /// one score -inf, parent -1 and token -1. status [beams]: an invalid row has no continuations.
  virtual void top_continuations(const Request& request, const Beams& beams, Continuation* found,
                                 RowStatus* status) = 0;

  /// Which drafts each row accepts, and the token after them. Rows of logits are read only as far as drafts are
  /// accepted; an invalid one ends its row.
  virtual void verify(const Request& request, const Drafts& drafts, const VerifyOutputs& out, RowStatus* status) = 0;
};

}  // namespace tokendraw
