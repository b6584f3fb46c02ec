// SPDX-License-Identifier: Apache-2.0
// What is reported about a row beside its token: log-probabilities before and after the steps, ranks, the best tokens.
#pragma once

#include "cpu/kept.h"
#include "plan/request.h"

namespace tokendraw::cpu {

/// Log-probability of `token` over the kept set.
float processed_logprob(Kept& kept, Candidate token);

/// Entropy of the kept set in nats.
float entropy_of(Kept& kept);

struct RawToken {
  float logprob;
  std::int64_t rank;  // tokens before it in the total order
};

/// Of the logits as the caller gave them: no mask, no bias, temperature 1. Uses work.raw_summaries.
RawToken describe_raw(const Kernels& kernels, const RowView& view, std::int32_t token, Workspace& work);

/// The same of a row that was scanned with its sums, and of all its tokens, at the row's temperature.
void write_scores(Row& row, std::int32_t token, const ScoreOutputs& out, std::int64_t index);

/// The same at temperature 0, where the first token has it all; a logsumexp has no value there.
void write_greedy_scores(Row& row, std::int32_t token, const ScoreOutputs& out, std::int64_t index);

void write_invalid_scores(const ScoreOutputs& out, std::int64_t index);

/// The first `count` tokens of the order with their log-probabilities over the kept set: -inf where a step removed one,
/// token -1 past the last. Rescans the row.
void write_best(Kept& kept, std::int64_t count, std::int32_t* tokens, float* logprobs);

/// Every kept token by ascending id, with its log-probability.
KeptRow list_kept(Kept& kept);

}  // namespace tokendraw::cpu
