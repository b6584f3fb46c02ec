// SPDX-License-Identifier: Apache-2.0
#include "cpu/top_k.h"

#include <algorithm>
#include <cmath>

namespace tokendraw::cpu {
namespace {

/// The float with as many others below it, down to `low`, as above it, up to `high`.
float middle_of_floats(float low, float high) { return float_of_rank((float_rank(low) + float_rank(high)) >> 1); }

/// A lower bound of the k-th largest of values [count], of which at least k are in [low, high] and none above. Found by
/// bisection; any bound is right, a tight one leaves few more than k. Every other middle is one of floats, not of
/// numbers: scores that stand for -inf, as -1e9 or -FLT_MAX, then cost a few rounds.
float bound_of_kth(const Kernels& kernels, const float* values, std::int64_t count, std::int64_t k, float low,
                   float high) {
  constexpr int kRounds = 24;
  const std::int64_t few_more = k + k / 8;
  for (int round = 0; round < kRounds; ++round) {
    const float middle = round % 2 == 0 ? low * 0.5f + high * 0.5f : middle_of_floats(low, high);
    if (!(middle > low && middle < high)) break;
    const std::int64_t above = kernels.count_at_least(values, count, middle);
    (above >= k ? low : high) = middle;
    if (above >= k && above <= few_more) break;
  }
  return low;
}

/// A lower bound, at least `floor`, of the k-th largest score if that is as large: k groups have a maximum at least as
/// large.
float floor_of_top_k(const Row& row, std::int64_t k, float floor) {
  const Buffer<float>& groups = row.work.group_max;
  if (row.kernels.count_at_least(groups.data(), groups.size(), floor) < k) return floor;
  return bound_of_kth(row.kernels, groups.data(), groups.size(), k, floor, row.max());
}

/// The same of the scores that were found, more than k and none below `least`.
float floor_of_found(Row& row, const Buffer<Candidate>& found, std::int64_t count, std::int64_t k, float least) {
  Buffer<float>& scores = row.work.scores;
  scores.resize(count);
  std::transform(found.begin(), found.begin() + count, scores.begin(), [](Candidate c) { return c.score; });
  return bound_of_kth(row.kernels, scores.data(), count, k, least, row.max());
}

/// Leaves the first k of those found, none below `least`, in the order in which they stood; returns the last of them in
/// the total order.
Candidate keep_best(Row& row, Buffer<Candidate>& found, std::int64_t count, std::int64_t k, float least) {
  const float floor = floor_of_found(row, found, count, k, least);
  Candidate* end = found.begin();
  for (std::int64_t i = 0; i < count; ++i) {
    *end = found[i];
    end += found[i].score >= floor;  // without a branch: which it is cannot be foreseen
  }
  Buffer<Candidate>& best = row.work.ordered;
  best.resize(end - found.begin());
  std::copy(found.begin(), end, best.begin());
  std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), before);
  const Candidate last = best[k - 1];
  std::remove_if(found.begin(), end, [&](Candidate c) { return before(last, c); });
  return last;
}

}  // namespace

void select_top_k(Row& row, std::int64_t k, Buffer<Candidate>& found, float floor) {
  if (!row.has_group_maxima()) row.scan(Scan::kGroupMaxima);
  k = std::min(k, row.view().vocab);
  const std::int64_t capacity = 2 * k + 2 * kTile;
  found.resize(capacity);
  floor = floor_of_top_k(row, k, floor);
  float least = floor;  // no score found is below
  std::int64_t count = 0;
  for (std::int64_t tile = 0;;) {
    count += row.kernels.collect(row.view(), row.work.summaries.data(), floor, FLT_MAX, &tile, found.data() + count,
                                 capacity - count);
    if (count > k) {
      least = keep_best(row, found, count, k, least).score;
      count = k;
      // Tokens read from here on have higher ids: they must beat the last one, not equal it.
      floor = std::nextafter(least, HUGE_VALF);
    }
    if (tile == row.tiles()) break;
  }
  found.resize(count);
}

}  // namespace tokendraw::cpu
