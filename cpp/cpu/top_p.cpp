// SPDX-License-Identifier: Apache-2.0
#include "cpu/top_p.h"

#include <algorithm>
#include <cmath>

namespace tokendraw::cpu {
namespace {

/// Tokens between the brackets that are listed rather than bisected further.
constexpr std::int64_t kMaxBetween = 4096;

float next_above(float x) { return std::nextafter(x, HUGE_VALF); }

/// Scores between which the nucleus ends: a token just above `low` would not be kept, the first at `high` is.
struct Bracket {
  float low;
  float high;
};

/// Halving the interval is fast on scores as models give them; halving the floats inside it ends after 32 rounds on
/// any, such as thousands of equal scores beside a denormal.
constexpr int kMeanRounds = 12;

float mean(Bracket bracket) { return bracket.low * 0.5f + bracket.high * 0.5f; }

float middle_float(Bracket bracket) { return float_of_rank((float_rank(bracket.low) + float_rank(bracket.high)) / 2); }

class Nucleus {
 public:
  Nucleus(Row& row, Cutoff base, double target) : row_(row), base_(base), target_(target) {}

  Cutoff find(double top_p_share) {
    if (keeps_at(base_.score)) return last_equal(base_.score);
    Bracket bracket{lower_bound(top_p_share), row_.max()};
    if (keeps_at(bracket.low)) bracket.low = base_.score;
    std::int64_t above_low = count_above(bracket.low);
    std::int64_t above_high = count_above(bracket.high);
    for (int round = 0; above_low - above_high > kMaxBetween; ++round) {
      const float middle = round < kMeanRounds ? mean(bracket) : middle_float(bracket);
      if (!(middle > bracket.low && middle < bracket.high)) return last_equal(bracket.high);
      const bool kept = keeps_at(middle);
      (kept ? bracket.high : bracket.low) = middle;
      (kept ? above_high : above_low) = count_above(middle);
    }
    return among(bracket);
  }

 private:
  Cutoff above(float score) const { return tighter(base_, {score, -1}); }
  std::int64_t count_above(float score) const { return row_.count(above(score)); }
  bool keeps_at(float score) { return row_.mass(above(score)) < target_; }
  bool keeps_token(Candidate token) { return row_.mass(tighter(base_, up_to(token))) < target_; }

  /// All tokens below this score hold at most the share 1 - top_p of the largest weight alone.
  float lower_bound(double top_p_share) const {
    const double shortfall = std::max(1.0 - top_p_share, 0x1p-30);
    const double nats = std::log(static_cast<double>(row_.view().vocab) / shortfall);
    const double bound = static_cast<double>(row_.max()) - nats / row_.log_slope();
    const double floor = static_cast<double>(base_.score);
    return bound > floor ? static_cast<float>(bound) : base_.score;
  }

  /// The last kept one of the tokens that score exactly `score`, by bisection over token ids.
  Cutoff last_equal(float score) {
    std::int64_t kept = 0;
    for (std::int64_t end = row_.view().vocab; end - kept > 1;) {
      const std::int64_t middle = kept + (end - kept) / 2;
      if (keeps_token({score, static_cast<std::int32_t>(middle)})) {
        kept = middle;
      } else {
        end = middle;
      }
    }
    return tighter(base_, {score, kept});
  }

  /// The boundary among the few tokens inside the bracket: estimated by adding weights, settled by the rule itself.
  Cutoff among(Bracket bracket) {
    Buffer<Candidate>& inside = row_.work.candidates;
    inside.resize(kMaxBetween + kTile);
    std::int64_t tile = 0;
    const std::int64_t count = row_.kernels.collect(row_.view(), row_.work.summaries.data(), next_above(bracket.low),
                                                    bracket.high, &tile, inside.data(), inside.size());
    const Candidate* end = std::remove_if(inside.begin(), inside.begin() + count,
                                          [&](Candidate c) { return !keeps(base_, c.score, c.token); });
    inside.resize(end - inside.begin());
    std::sort(inside.begin(), inside.end(), before);
    std::int64_t last = estimate(inside, row_.mass(above(bracket.high)));
    while (last + 1 < inside.size() && keeps_token(inside[last + 1])) ++last;
    while (last > 0 && !keeps_token(inside[last])) --last;
    return through(inside[last]);
  }

  std::int64_t estimate(const Buffer<Candidate>& inside, double mass) {
    const Buffer<float>& weights = row_.weigh(inside);
    std::int64_t last = 0;
    while (last + 1 < inside.size() && mass + static_cast<double>(weights[last]) < target_) {
      mass += static_cast<double>(weights[last++]);
    }
    return last;
  }

  Row& row_;
  const Cutoff base_;
  const double target_;
};

}  // namespace

Cutoff select_top_p(Row& row, Cutoff base, double target, double top_p_share) {
  return Nucleus(row, base, target).find(top_p_share);
}

std::int64_t count_top_p(const Buffer<float>& weights, double target) {
  double before_this = static_cast<double>(weights[0]);
  std::int64_t kept = 1;
  while (kept < weights.size() && before_this < target) before_this += static_cast<double>(weights[kept++]);
  return kept;
}

}  // namespace tokendraw::cpu
