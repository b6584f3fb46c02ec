// SPDX-License-Identifier: Apache-2.0
// What one thread needs for any row: grown on first use, never shrunk, so that steady state allocates nothing.
#pragma once

#include <vector>

#include "cpu/kernels.h"

namespace tokendraw::cpu {

struct Workspace {
  std::vector<TileSummary> summaries;
  std::vector<TileSummary> raw_summaries;
  std::vector<float> group_max;
  std::vector<double> sums;
  std::vector<Candidate> listed;      // the kept tokens of a short row, in the total order
  std::vector<Candidate> candidates;  // whatever a selection is narrowing
  std::vector<Candidate> by_token;
  std::vector<float> scores;
  std::vector<float> weights;
  alignas(64) float tile[kTile];
};

}  // namespace tokendraw::cpu
