// SPDX-License-Identifier: Apache-2.0
// The best continuations of a group of beams, read one beam after another: each row is pruned by what the rows before
// it left, while it is in cache, and nothing of it is kept but its candidates.
#pragma once

#include <cmath>

#include "core/continuation.h"
#include "cpu/kept.h"
#include "plan/request.h"

namespace tokendraw::cpu {

/// The score of a continuation as a function of its logit. It never decreases, not even by rounding, so a bound of
/// scores is a bound of logits.
class Scorer {
 public:
  Scorer() = default;
  /// `mass` is what the row's probabilities are shares of; `score` is the beam's.
  Scorer(const Row& row, double mass, double score)
      : score_(score), origin_(row.log_origin()), slope_(row.log_slope()), offset_(row.log_offset(mass)) {}

  double operator()(float logit) const { return score_ + ((static_cast<double>(logit) - origin_) * slope_ - offset_); }

 private:
  double score_ = 0.0, origin_ = 0.0, slope_ = 1.0, offset_ = 0.0;
};

/// What a row of noise is drawn from, and what its largest must become where it is the beam's.
struct NoiseSource {
  Noise noise;
  RandomSource random;
  double priority;
};

class BestContinuations {
 public:
  /// Holds the best k of at most `beams` rows of `vocab` tokens in `found`: O(min(k, beams * vocab)) memory.
  BestContinuations(std::int64_t k, std::int64_t beams, std::int64_t vocab, Buffer<Continuation>& found);

  /// Adds the continuations of a valid row that was scanned with its sums and group maxima.
  void add(Row& row, const Scorer& score_of, std::int32_t parent);

  /// Adds those that steps have kept of a row.
  void add(Kept& kept, const Scorer& score_of, std::int32_t parent);

  /// The same, ranked with noise. O(vocab) blocks of noise; one is evaluated where its tile can be among the best.
  void add_noisy(Kept& kept, const Scorer& score_of, std::int32_t parent, const NoiseSource& source);

  /// Adds what another one found.
  void merge(const BestContinuations& other);

  /// Writes the best in order, and the padding after them: found [slots].
  void write(Continuation* found, std::int64_t slots);

 private:
  bool can_hold(const Continuation& candidate) const { return !full_ || outranks(candidate, found_[k_ - 1]); }
  double least_priority() const { return full_ ? found_[k_ - 1].priority : -HUGE_VAL; }
  float floor_of(float highest, const Scorer& score_of, std::int32_t parent) const;
  void push(const Continuation& candidate);
  void finish_row();
  void narrow();

  const std::int64_t k_;
  Buffer<Continuation>& found_;
  std::int64_t size_ = 0;
  bool full_ = false;  // found_[k_ - 1] bounds what can still be among the best
};

/// The beams first, first + step, ... that are not at -inf, the best first: the sooner the bound is tight, the less of
/// the later rows is read twice.
void order_beams(const double* scores, std::int64_t width, std::int64_t first, std::int64_t step,
                 Buffer<std::int32_t>& beams);

}  // namespace tokendraw::cpu
