// SPDX-License-Identifier: Apache-2.0
#include "cpu/typical.h"

#include <algorithm>
#include <cmath>

#include "core/arithmetic.h"

namespace tokendraw::cpu {
namespace {

/// Tokens between the two distances that are listed rather than bisected further.
constexpr std::int64_t kMaxBetween = 4096;

double distance_of(float score, double center) { return std::fabs(static_cast<double>(score) - center); }

constexpr ScoreBand kEmptyBand{FLT_MAX, -FLT_MAX};

bool is_empty(const ScoreBand& band) { return band.floor > band.ceiling; }

/// All scores at most `distance` from the center, by the very comparison: rounding it another way could lose the score
/// whose distance it is.
ScoreBand band_of(double center, double distance) {
  const auto holds = [&](float score) { return distance_of(score, center) <= distance; };
  const float nearest = finite_float(center);
  for (const float near : {nearest, std::nextafter(nearest, HUGE_VALF), std::nextafter(nearest, -HUGE_VALF)}) {
    if (std::isfinite(near) && holds(near)) {
      return {farthest_float(near, -FLT_MAX, holds), farthest_float(near, FLT_MAX, holds)};
    }
  }
  return kEmptyBand;
}

/// The distance at which the weight reaches the target, counted from `mass`; sorts `found`.
double reaching_distance(Row& row, Buffer<Candidate>& found, double center, double mass, double target) {
  const auto distance = [&](Candidate c) { return distance_of(c.score, center); };
  std::sort(found.begin(), found.end(), [&](Candidate a, Candidate b) { return distance(a) < distance(b); });
  const Buffer<float>& weights = row.weigh(found);
  for (std::int64_t i = 0; i < found.size(); ++i) {
    mass += static_cast<double>(weights[i]);
    if (mass >= target) return distance(found[i]);
  }
  return distance(found.back());
}

class Typical {
 public:
  Typical(Row& row, Cutoff base, double center, double target)
      : row_(row), base_(base), center_(center), target_(target) {}

  ScoreBand find() {
    double inside = 0.0;
    double outside = farthest();
    while (count_within(outside) - count_within(inside) > kMaxBetween) {
      const double middle = inside * 0.5 + outside * 0.5;
      if (!(middle > inside && middle < outside)) return band_of(center_, outside);
      (mass_within(middle) >= target_ ? outside : inside) = middle;
    }
    if (mass_within(inside) >= target_) return band_of(center_, inside);
    return band_of(center_, settle(inside, outside));
  }

 private:
  /// Beyond it, scores hold less than the rounding of the target.
  double farthest() const {
    const double nats = std::log(static_cast<double>(row_.view().vocab)) + 32.0 * std::log(2.0);
    const double lowest = std::max(static_cast<double>(row_.max()) - nats / row_.log_slope(),
                                   std::max(static_cast<double>(base_.score), -static_cast<double>(FLT_MAX)));
    return std::max(std::fabs(static_cast<double>(row_.max()) - center_), std::fabs(lowest - center_));
  }

  Cutoff from(float floor) const { return tighter(base_, {floor, INT64_MAX}); }
  Cutoff above(float ceiling) const { return tighter(base_, {ceiling, -1}); }

  double mass_within(double distance) {
    const ScoreBand band = band_of(center_, distance);
    if (is_empty(band)) return 0.0;
    return row_.mass(from(band.floor)) - row_.mass(above(band.ceiling));
  }

  std::int64_t count_within(double distance) const {
    const ScoreBand band = band_of(center_, distance);
    if (is_empty(band)) return 0;
    return row_.count(from(band.floor)) - row_.count(above(band.ceiling));
  }

  /// The distance of the token that reaches the target, among those between the two.
  double settle(double inside, double outside) {
    const double mass = mass_within(inside);
    Buffer<Candidate>& found = row_.work.candidates;
    found.resize(2 * kMaxBetween + 2 * kTile);
    const ScoreBand inner = band_of(center_, inside);
    const ScoreBand outer = band_of(center_, outside);
    std::int64_t count = 0;
    if (is_empty(inner)) {
      count = collect(outer.floor, outer.ceiling, 0);
    } else {
      count = collect(outer.floor, std::nextafter(inner.floor, -HUGE_VALF), 0);
      count = collect(std::nextafter(inner.ceiling, HUGE_VALF), outer.ceiling, count);
    }
    found.resize(count);
    if (count == 0) return outside;
    return reaching_distance(row_, found, center_, mass, target_);
  }

  /// Appends what the base keeps of a band to the first `count` candidates; returns how many there are then.
  std::int64_t collect(float floor, float ceiling, std::int64_t count) {
    if (!(floor <= ceiling)) return count;
    Buffer<Candidate>& found = row_.work.candidates;
    for (std::int64_t tile = 0; tile < row_.tiles();) {
      const std::int64_t read = row_.kernels.collect(row_.view(), row_.work.summaries.data(), floor, ceiling, &tile,
                                                     found.data() + count, found.size() - count);
      Candidate* begin = found.data() + count;
      Candidate* end =
          std::remove_if(begin, begin + read, [&](Candidate c) { return !keeps(base_, c.score, c.token); });
      count += end - begin;
    }
    return count;
  }

  Row& row_;
  const Cutoff base_;
  const double center_;
  const double target_;
};

}  // namespace

ScoreBand select_typical(Row& row, Cutoff base, double center, double target) {
  return Typical(row, base, center, target).find();
}

ScoreBand select_typical_listed(Row& row, double center, double target) {
  Buffer<Candidate>& found = row.work.candidates;
  found.resize(row.work.listed.size());
  std::copy(row.work.listed.begin(), row.work.listed.end(), found.begin());
  return band_of(center, reaching_distance(row, found, center, 0.0, target));
}

}  // namespace tokendraw::cpu
