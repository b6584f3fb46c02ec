// SPDX-License-Identifier: Apache-2.0
#include "cpu/beam.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "core/gumbel.h"
#include "core/order.h"
#include "cpu/top_k.h"

namespace tokendraw::cpu {
namespace {

/// The tokens of a row with noise of their own, those whose tiles cannot hold one of the best left out.
class NoisyRow {
 public:
  NoisyRow(Kept& kept, const Scorer& score_of, std::int32_t parent, const RandomSource& random)
      : row_(kept.row()), cutoff_(kept.cutoff()), score_of_(score_of), parent_(parent), random_(random) {}

  /// visit(Continuation); bound() is a priority that what is visited must exceed.
  template <class Bound, class Visit>
  void for_each(Bound bound, Visit visit) {
    for (std::int64_t tile = 0; tile < row_.tiles(); ++tile) {
      const float max = row_.work.summaries[tile].max;
      if (max < cutoff_.score || max < -FLT_MAX) continue;
      row_.kernels.tile_scores(row_.view(), tile, row_.work.tile);
      visit_tile(tile, least_bits(score_of_(max), bound()), visit);
    }
  }

 private:
  /// Bits below which no noise lifts `score` above `bound`: the noise must exceed their difference d, so the
  /// exponential -ln u must stay below e^-d.
  static std::uint64_t least_bits(double score, double bound) {
    const double most = exp_double(std::min(score - bound, 0.0)) * (1.0 + 0x1p-30);
    return most >= 1.0 ? 0 : ~static_cast<std::uint64_t>(most * 0x1p64);
  }

  template <class Visit>
  void visit_tile(std::int64_t tile, std::uint64_t least, Visit visit) {
    const std::int64_t first = tile * kTile;
    const std::int64_t end = std::min(first + kTile, row_.view().vocab);
    for (std::int64_t token = first; token < end; token += 2) {
      const Uint128 block = uniform_bits(random_, Purpose::kGumbel, static_cast<std::uint32_t>(token / 2));
      visit_token(token, static_cast<std::uint64_t>(block), least, visit);
      if (token + 1 < end) visit_token(token + 1, static_cast<std::uint64_t>(block >> 64), least, visit);
    }
  }

  template <class Visit>
  void visit_token(std::int64_t token, std::uint64_t bits, std::uint64_t least, Visit visit) {
    if (bits < least) return;
    const float logit = row_.work.tile[token % kTile];
    if (!(logit >= -FLT_MAX) || !keeps(cutoff_, logit, token)) return;
    const double score = score_of_(logit);
    visit(Continuation{score + gumbel_of(bits), score, logit, parent_, static_cast<std::int32_t>(token)});
  }

  Row& row_;
  const Cutoff cutoff_;
  const Scorer& score_of_;
  const std::int32_t parent_;
  const RandomSource& random_;
};

}  // namespace

BestContinuations::BestContinuations(std::int64_t k, std::int64_t beams, std::int64_t vocab,
                                     Buffer<Continuation>& found)
    : k_(std::min(k, beams * vocab)), found_(found) {
  found_.resize(3 * k_);
}

void BestContinuations::push(const Continuation& candidate) {
  found_[size_++] = candidate;
  if (size_ == 3 * k_) narrow();
}

/// Narrowing costs O(k): worth it for the first bound, and after that for a share of k.
void BestContinuations::finish_row() {
  if (size_ >= (full_ ? k_ + k_ / 4 + 1 : k_)) narrow();
}

/// The least logit of `parent` that can be among the best; +inf where not even the highest can.
float BestContinuations::floor_of(float highest, const Scorer& score_of, std::int32_t parent) const {
  if (!full_) return -FLT_MAX;
  const Continuation last = found_[k_ - 1];
  const auto passes = [&](float logit) {
    const double reached = score_of(logit);
    return reached > last.priority || (reached == last.priority && parent < last.parent);
  };
  if (!passes(highest)) return HUGE_VALF;
  // By bisection: beside a large score the inverse of the scorer is off by more than the distance of two floats.
  return farthest_float(highest, -FLT_MAX, passes);
}

void BestContinuations::add(Row& row, const Scorer& score_of, std::int32_t parent) {
  if (k_ == 0) return;
  const float floor = floor_of(row.max(), score_of, parent);
  if (floor > FLT_MAX) return;
  Buffer<Candidate>& candidates = row.work.candidates;
  select_top_k(row, k_, candidates, floor);
  for (const Candidate c : candidates) {
    const double score = score_of(c.score);
    push({score, score, c.score, parent, c.token});
  }
  finish_row();
}

void BestContinuations::add(Kept& kept, const Scorer& score_of, std::int32_t parent) {
  if (k_ == 0) return;
  Row& row = kept.row();
  const Cutoff cutoff = kept.cutoff();
  const float floor = std::max(floor_of(row.max(), score_of, parent), cutoff.score);
  if (floor > FLT_MAX) return;
  kept.list_if_short();
  if (!kept.listed()) select_top_k(row, k_, row.work.candidates, floor);
  for (const Candidate c : kept.listed() ? row.work.listed : row.work.candidates) {
    if (c.score < floor || !keeps(cutoff, c.score, c.token)) continue;
    const double score = score_of(c.score);
    push({score, score, c.score, parent, c.token});
  }
  finish_row();
}

void BestContinuations::add_noisy(Kept& kept, const Scorer& score_of, std::int32_t parent, const NoiseSource& source) {
  if (k_ == 0) return;
  BestContinuations own(k_, 1, kept.view().vocab, kept.row().work.noisy);
  const double bound = source.noise == Noise::kOwn ? least_priority() : -HUGE_VAL;
  NoisyRow(kept, score_of, parent, source.random)
      .for_each([&] { return std::max(bound, own.least_priority()); },
                [&](const Continuation& c) {
                  if (own.can_hold(c)) own.push(c);
                });
  own.narrow();
  if (own.size_ == 0) return;
  const Continuation* end = own.found_.begin() + own.size_;
  const double largest = std::min_element(own.found_.begin(), own.found_.begin() + own.size_, outranks)->priority;
  for (Continuation* c = own.found_.begin(); c != end; ++c) {
    if (source.noise == Noise::kOfBeam) c->priority = conditioned_gumbel(c->priority, largest, source.priority);
    if (can_hold(*c)) push(*c);
  }
  finish_row();
}

void BestContinuations::merge(const BestContinuations& other) {
  for (std::int64_t i = 0; i < other.size_; ++i) push(other.found_[i]);
}

void BestContinuations::narrow() {
  if (size_ < k_ || k_ == 0) return;
  std::nth_element(found_.begin(), found_.begin() + (k_ - 1), found_.begin() + size_, outranks);
  size_ = k_;
  full_ = true;
}

void BestContinuations::write(Continuation* found, std::int64_t slots) {
  narrow();
  std::sort(found_.begin(), found_.begin() + size_, outranks);
  std::copy(found_.begin(), found_.begin() + size_, found);
  std::fill(found + size_, found + slots, Continuation{-HUGE_VAL, -HUGE_VAL, -HUGE_VALF, -1, -1});
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
