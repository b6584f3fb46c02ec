// SPDX-License-Identifier: Apache-2.0
#include "cpu/beam.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "core/order.h"
#include "cpu/top_k.h"

namespace tokendraw::cpu {
namespace {

/// The score of a continuation as a function of its logit. It never decreases, not even by rounding, so a bound of
/// scores is a bound of logits.
class Scorer {
 public:
  Scorer(Row& row, double score)
      : score_(score),
        origin_(row.log_origin()),
        slope_(row.log_slope()),
        offset_(row.log_offset(row.mass(kKeepFinite))) {}

  double operator()(float logit) const { return score_ + ((static_cast<double>(logit) - origin_) * slope_ - offset_); }

 private:
  double score_, origin_, slope_, offset_;
};

float round_score(double score) {
  constexpr double kLargest = static_cast<double>(FLT_MAX);
  return static_cast<float>(std::clamp(score, -kLargest, kLargest));
}

}  // namespace

BestContinuations::BestContinuations(std::int64_t k, std::int64_t beams, std::int64_t vocab,
                                     Buffer<Continuation>& found)
    : k_(std::min(k, beams * vocab)), found_(found) {
  found_.resize(3 * k_);
}

void BestContinuations::add(Row& row, double score, std::int32_t parent) {
  if (k_ == 0) return;
  const Scorer score_of(row, score);
  float floor = -FLT_MAX;
  if (full_) {
    const Continuation last = found_[k_ - 1];
    const auto passes = [&](float logit) {
      const double reached = score_of(logit);
      return reached > last.score || (reached == last.score && parent < last.parent);
    };
    if (!passes(row.max())) return;
    // By bisection: beside a large score the inverse of the scorer is off by more than the distance of two floats.
    floor = farthest_float(row.max(), -FLT_MAX, passes);
  }
  Buffer<Candidate>& candidates = row.work.candidates;
  select_top_k(row, k_, candidates, floor);
  for (const Candidate candidate : candidates) {
    found_[size_++] = {score_of(candidate.score), candidate.score, parent, candidate.token};
  }
  // Narrowing costs O(k): worth it for the first bound, and after that for a share of k.
  if (size_ >= (full_ ? k_ + k_ / 4 + 1 : k_)) narrow();
}

void BestContinuations::merge(const BestContinuations& other) {
  for (std::int64_t i = 0; i < other.size_; ++i) {
    found_[size_++] = other.found_[i];
    if (size_ == 3 * k_) narrow();
  }
}

void BestContinuations::narrow() {
  if (size_ < k_ || k_ == 0) return;
  std::nth_element(found_.begin(), found_.begin() + (k_ - 1), found_.begin() + size_, outranks);
  size_ = k_;
  full_ = true;
}

void BestContinuations::write(const ContinuationOutputs& out, std::int64_t prompt) {
  narrow();
  std::sort(found_.begin(), found_.begin() + size_, outranks);
  float* scores = out.scores + prompt * out.k;
  std::int32_t* parents = out.parents + prompt * out.k;
  std::int32_t* tokens = out.tokens + prompt * out.k;
  for (std::int64_t i = 0; i < size_; ++i) {
    scores[i] = round_score(found_[i].score);
    parents[i] = found_[i].parent;
    tokens[i] = found_[i].token;
  }
  std::fill(scores + size_, scores + out.k, -HUGE_VALF);
  std::fill(parents + size_, parents + out.k, -1);
  std::fill(tokens + size_, tokens + out.k, -1);
}

void order_beams(const double* scores, std::int64_t width, std::int64_t first, std::int64_t step,
                 Buffer<std::int32_t>& beams) {
  beams.resize(width);
  std::int64_t count = 0;
  for (std::int64_t beam = first; beam < width; beam += step) {
    if (scores[beam] > -HUGE_VAL) beams[count++] = static_cast<std::int32_t>(beam);
  }
  beams.resize(count);
  std::sort(beams.begin(), beams.end(),
            [&](std::int32_t a, std::int32_t b) { return scores[a] > scores[b] || (scores[a] == scores[b] && a < b); });
}

}  // namespace tokendraw::cpu
