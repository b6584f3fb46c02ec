// SPDX-License-Identifier: Apache-2.0
#include "cpu/runs.h"

#include "cpu/lanes.h"

namespace tokendraw::cpu {

Run run_from(const Buffer<Candidate>& list, std::int64_t begin) {
  const std::int32_t tile = list[begin].token / kTile;
  std::int64_t end = begin + 1;
  while (end < list.size() && list[end].token / kTile == tile) ++end;
  return {begin, end};
}

namespace {

/// Of two in one lane the kernels add floats, of two lanes doubles.
double sum_of_pair(const Buffer<Candidate>& list, const float* weights, std::int64_t begin) {
  const std::int32_t apart = list[begin].token ^ list[begin + 1].token;
  if (apart % kLanes == 0) return static_cast<double>(weights[0] + weights[1]);
  return static_cast<double>(weights[0]) + static_cast<double>(weights[1]);
}

}  // namespace

double sum_of_run(const Buffer<Candidate>& list, const Buffer<float>& weights, Run run) {
  const std::int64_t count = run.end - run.begin;
  if (count == 1) return static_cast<double>(weights[run.begin]);
  if (count == 2) return sum_of_pair(list, weights.data() + run.begin, run.begin);
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
  return sum_of_lanes(total);
}

}  // namespace tokendraw::cpu
