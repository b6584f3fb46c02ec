// SPDX-License-Identifier: Apache-2.0
#include "cpu/runs.h"

#include <algorithm>

namespace tokendraw::cpu {

Run run_from(const Buffer<Candidate>& list, std::int64_t begin) {
  const std::int32_t tile = list[begin].token / kTile;
  std::int64_t end = begin + 1;
  while (end < list.size() && list[end].token / kTile == tile) ++end;
  return {begin, end};
}

double sum_of_run(const Buffer<Candidate>& list, const Buffer<float>& weights, Run run) {
  if (run.end - run.begin == 1) return static_cast<double>(weights[run.begin]);
  constexpr int kTokensPerGroup = kLanes * kLinesPerGroup;
  float total[kLanes] = {};
  float group[kLanes] = {};
  const auto close_group = [&] {
    for (int lane = 0; lane < kLanes; ++lane) {
      total[lane] += group[lane];
      group[lane] = 0.0f;
    }
  };
  std::int32_t current = list[run.begin].token / kTokensPerGroup;
  for (std::int64_t i = run.begin; i < run.end; ++i) {
    const std::int32_t token = list[i].token;
    if (token / kTokensPerGroup != current) close_group();
    current = token / kTokensPerGroup;
    group[token % kLanes] += weights[i];
  }
  close_group();
  double sums[kLanes];
  std::copy(total, total + kLanes, sums);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

}  // namespace tokendraw::cpu
