// SPDX-License-Identifier: Apache-2.0
// A tile of a distribution in double, and what a rejected draft takes from it.
#pragma once

#include "cpu/cut-inl.h"

namespace tokendraw::cpu {
namespace {

// row [vocab] -> probs [kTile]
static void tile_probs(const RowView& row, std::int64_t tile, const WeightConstants& constants, Cutoff cutoff,
                       double factor, double* probs) {
  alignas(64) float scores[kTile];
  alignas(64) float weight[kTile];
  tile_scores(row, tile, scores);
  weights(scores, kTile, constants, weight);
  const TileCut cut = cut_tile(cutoff, tile);
  for (int i = 0; i < kTile; ++i) {
    const float floor = i <= cut.last ? cut.through : cut.after;
    weight[i] = scores[i] >= floor ? weight[i] : 0.0f;
  }
  for (int i = 0; i < kTile; ++i) probs[i] = static_cast<double>(weight[i]) * factor;
}

// p, q [count] -> p
static void take_residual(const double* q, double draft_scale, double scale, int count, double* p) {
  for (int i = 0; i < count; ++i) {
    const double left = p[i] - q[i] * draft_scale;
    p[i] = (left > 0.0 ? left : 0.0) * scale;
  }
}

// values [kTile] -> lanes [kLanes]
static void prob_lanes(const double* values, double* lanes) {
  double sums[kLanes] = {};
  for (int line = 0; line < kLinesPerTile; ++line) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += values[line * kLanes + lane];
  }
  for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = sums[lane];
}

}  // namespace
}  // namespace tokendraw::cpu
