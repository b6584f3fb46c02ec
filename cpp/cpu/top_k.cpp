// SPDX-License-Identifier: Apache-2.0
#include "cpu/top_k.h"

#include <algorithm>
#include <cmath>

namespace tokendraw::cpu {
namespace {

/// A lower bound, at least `floor`, of the k-th largest score if that is as large: k groups have a maximum at least as
/// large. Found by bisection between the extremes of the group maxima; any bound is right, a tight one leaves fewer
/// candidates.
float floor_of_top_k(const Row& row, std::int64_t k, float floor) {
  const Buffer<float>& groups = row.work.group_max;
  const auto count_from = [&](float from) { return row.kernels.count_at_least(groups.data(), groups.size(), from); };
  if (count_from(floor) < k) return floor;
  float low = row.max();
  for (const float group : groups) low = group < low && group >= floor ? group : low;
  float high = row.max();
  constexpr int kRounds = 14;
  for (int round = 0; round < kRounds; ++round) {
    const float middle = low * 0.5f + high * 0.5f;
    if (!(middle > low && middle < high)) break;
    const std::int64_t count = count_from(middle);
    if (count >= k) {
      low = middle;
    } else {
      high = middle;
    }
    if (count == k) break;
  }
  return low;
}

/// Leaves the first k of `found`, in the order in which they stood; returns the last of them in the total order.
Candidate keep_best(Buffer<Candidate>& found, std::int64_t count, std::int64_t k, Buffer<Candidate>& scratch) {
  scratch.resize(count);
  std::copy(found.begin(), found.begin() + count, scratch.begin());
  std::nth_element(scratch.begin(), scratch.begin() + (k - 1), scratch.end(), before);
  const Candidate last = scratch[k - 1];
  std::remove_if(found.begin(), found.begin() + count, [&](Candidate c) { return before(last, c); });
  return last;
}

}  // namespace

void select_top_k(Row& row, std::int64_t k, Buffer<Candidate>& found, float floor) {
  if (!row.has_group_maxima()) row.scan(Scan::kGroupMaxima);
  k = std::min(k, row.view().vocab);
  const std::int64_t capacity = 2 * k + 2 * kTile;
  found.resize(capacity);
  floor = floor_of_top_k(row, k, floor);
  std::int64_t count = 0;
  for (std::int64_t tile = 0;;) {
    count += row.kernels.collect(row.view(), row.work.summaries.data(), floor, FLT_MAX, &tile, found.data() + count,
                                 capacity - count);
    if (count > k) {
      const Candidate last = keep_best(found, count, k, row.work.ordered);
      count = k;
      // Tokens read from here on have higher ids: they must beat the last one, not equal it.
      floor = std::nextafter(last.score, HUGE_VALF);
    }
    if (tile == row.tiles()) break;
  }
  found.resize(count);
}

}  // namespace tokendraw::cpu
