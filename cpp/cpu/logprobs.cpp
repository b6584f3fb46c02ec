// SPDX-License-Identifier: Apache-2.0
#include "cpu/logprobs.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/arithmetic.h"
#include "cpu/top_k.h"

namespace tokendraw::cpu {
namespace {

float round_logprob(double logprob) { return static_cast<float>(std::max(logprob, static_cast<double>(-FLT_MAX))); }

/// -inf for a token at -inf.
float logprob_of_any(const Row& row, float score, double mass) {
  return score >= -FLT_MAX ? round_logprob(row.logprob(score, mass)) : -HUGE_VALF;
}

Candidate candidate_of(Row& row, std::int32_t token) {
  row.kernels.tile_scores(row.view(), token / kTile, row.work.tile);
  return {row.work.tile[token % kTile], token};
}

float logprob_of(const Row& row, Candidate token, double mass, std::int64_t kept) {
  return kept == 1 ? 0.0f : round_logprob(row.logprob(token.score, mass));
}

}  // namespace

float processed_logprob(Kept& kept, Candidate token) {
  return logprob_of(kept.row(), token, kept.mass(), kept.count());
}

RawToken describe_raw(const Kernels& kernels, const RowView& view, std::int32_t token, Workspace& work) {
  const RowView raw = view.without_edits();
  std::swap(work.summaries, work.raw_summaries);
  Row row(kernels, raw, work);
  row.scan(Scan::kSums);
  const Candidate candidate = candidate_of(row, token);
  const RawToken described{round_logprob(row.logprob(candidate.score, row.mass(kKeepFinite))),
                           row.count(up_to(candidate))};
  std::swap(work.summaries, work.raw_summaries);
  return described;
}

void write_scores(Row& row, std::int32_t token, const ScoreOutputs& out, std::int64_t index) {
  const double mass = row.mass(kKeepFinite);
  if (out.logprobs || out.ranks) {
    const Candidate candidate = candidate_of(row, token);
    if (out.logprobs) out.logprobs[index] = logprob_of_any(row, candidate.score, mass);
    if (out.ranks) out.ranks[index] = row.count(up_to(candidate));
  }
  if (out.logsumexps) {
    out.logsumexps[index] = finite_float(row.log_origin() * row.log_slope() + row.log_offset(mass));
  }
  if (out.entropies) out.entropies[index] = static_cast<float>(row.entropy(kKeepFinite, mass));
}

void write_greedy_scores(Row& row, std::int32_t token, const ScoreOutputs& out, std::int64_t index) {
  if (out.logprobs) out.logprobs[index] = token == row.first().token ? 0.0f : -HUGE_VALF;
  if (out.ranks) out.ranks[index] = row.count(up_to(candidate_of(row, token)));
  if (out.entropies) out.entropies[index] = 0.0f;
}

void write_invalid_scores(const ScoreOutputs& out, std::int64_t index) {
  if (out.logprobs) out.logprobs[index] = std::nanf("");
  if (out.ranks) out.ranks[index] = -1;
  if (out.logsumexps) out.logsumexps[index] = std::nanf("");
  if (out.entropies) out.entropies[index] = std::nanf("");
}

void write_best(Kept& kept, std::int64_t count, std::int32_t* tokens, float* logprobs) {
  std::fill(tokens, tokens + count, -1);
  std::fill(logprobs, logprobs + count, -HUGE_VALF);
  Row& row = kept.row();
  const double mass = kept.mass();
  const std::int64_t kept_count = kept.count();
  const Cutoff cutoff = kept.cutoff();
  Row unfiltered(row.kernels, kept.view(), row.work);
  Buffer<Candidate>& best = row.work.candidates;
  select_top_k(unfiltered, count, best);
  std::sort(best.begin(), best.end(), before);
  const Removal& removal = row.view().removal;
  for (std::int64_t i = 0; i < best.size(); ++i) {
    const auto [score, token] = best[i];
    tokens[i] = token;
    const bool is_kept = keeps(cutoff, score, token) && !removal.removes(score, token);
    if (is_kept) logprobs[i] = logprob_of(row, best[i], mass, kept_count);
  }
}

float entropy_of(Kept& kept) { return kept.count() == 1 ? 0.0f : static_cast<float>(kept.entropy()); }

KeptRow list_kept(Kept& kept) {
  Row& row = kept.row();
  const Cutoff cutoff = kept.cutoff();
  const double mass = kept.mass();
  const std::int64_t count = kept.count();
  Buffer<Candidate>& found = row.work.candidates;
  found.resize(2 * kTile);
  KeptRow list;
  list.tokens.reserve(static_cast<std::size_t>(count));
  list.logprobs.reserve(static_cast<std::size_t>(count));
  for (std::int64_t tile = 0; tile < row.tiles();) {
    const std::int64_t read = row.kernels.collect(row.view(), row.work.summaries.data(), cutoff.score, FLT_MAX, &tile,
                                                  found.data(), found.size());
    for (std::int64_t i = 0; i < read; ++i) {
      const Candidate candidate = found[i];
      if (!keeps(cutoff, candidate.score, candidate.token)) continue;
      list.tokens.push_back(candidate.token);
      list.logprobs.push_back(logprob_of(row, candidate, mass, count));
    }
  }
  return list;
}

}  // namespace tokendraw::cpu
