// SPDX-License-Identifier: Apache-2.0
// A request with rows of every kind, and everything that a draw can be asked for.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"
#include "core/bits.h"
#include "cpu/backend.h"

namespace tokendraw::test {

/// A batch with rows of every kind of steps, and an invalid one.
class Batch {
 public:
  Batch(std::int64_t rows, std::int64_t vocab, int threads) : logits_(static_cast<std::size_t>(rows * vocab)) {
    test::Random random(13);
    for (float& logit : logits_) logit = static_cast<float>(random.between(-12.0, 6.0));
    logits_[static_cast<std::size_t>(3 * vocab)] = std::nanf("");
    for (std::int64_t row = 0; row < rows; ++row) {
      temperatures_.push_back(row % 5 == 0 ? 0.0 : 0.8);
      top_k_.push_back(row % 3 == 0 ? 50 : row % 3 == 1 ? 0 : 2000);
      top_p_.push_back(row % 2 == 0 ? 0.95 : 1.0);
      min_p_.push_back(row % 4 == 0 ? 0.01 : 0.0);
    }
    request_.logits.data = logits_.data();
    request_.logits.rows = rows;
    request_.logits.vocab = vocab;
    request_.logits.leading_shape = {rows};
    request_.logits.leading_strides = {vocab};
    request_.params.temperature.values = temperatures_.data();
    request_.params.top_k.values = top_k_.data();
    request_.params.top_p.values = top_p_.data();
    request_.params.min_p.values = min_p_.data();
    request_.randomness.seed.value = 17;
    request_.randomness.stream_is_row = true;
    request_.threads = threads;
  }

  const Request& request() const { return request_; }
  Request& request() { return request_; }
  std::size_t rows() const { return temperatures_.size(); }

 private:
  std::vector<float> logits_;
  std::vector<double> temperatures_;
  std::vector<std::int64_t> top_k_;
  std::vector<double> top_p_;
  std::vector<double> min_p_;
  Request request_;
};

/// Everything that a draw can be asked for.
struct Drawn {
  explicit Drawn(std::size_t rows)
      : tokens(rows),
        logprobs(rows),
        raw_logprobs(rows),
        entropies(rows),
        ranks(rows),
        kept(rows),
        status(rows),
        best(rows * kBest),
        best_logprobs(rows * kBest) {}

  void draw(const Request& request) {
    DrawOutputs outputs;
    outputs.tokens = tokens.data();
    outputs.logprobs = logprobs.data();
    outputs.raw_logprobs = raw_logprobs.data();
    outputs.entropies = entropies.data();
    outputs.ranks = ranks.data();
    outputs.kept = kept.data();
    outputs.top_count = kBest;
    outputs.top_tokens = best.data();
    outputs.top_logprobs = best_logprobs.data();
    cpu::backend().draw(request, outputs, status.data());
  }

  bool operator==(const Drawn& other) const {
    return tokens == other.tokens && same(logprobs, other.logprobs) && same(raw_logprobs, other.raw_logprobs) &&
           same(entropies, other.entropies) && ranks == other.ranks && kept == other.kept && status == other.status &&
           best == other.best && same(best_logprobs, other.best_logprobs);
  }

  static bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](float x, float y) { return bit_cast<std::uint32_t>(x) == bit_cast<std::uint32_t>(y); });
  }

  static constexpr std::size_t kBest = 3;
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> raw_logprobs;
  std::vector<float> entropies;
  std::vector<std::int64_t> ranks;
  std::vector<std::int64_t> kept;
  std::vector<RowStatus> status;
  std::vector<std::int32_t> best;
  std::vector<float> best_logprobs;
};

}  // namespace tokendraw::test
