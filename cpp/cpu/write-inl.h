// SPDX-License-Identifier: Apache-2.0
// What passes over scores one by one in double: whole rows out, and the moments that rare steps need.
#pragma once

#include "cpu/collect-inl.h"
#include "cpu/cut-inl.h"

namespace tokendraw::cpu {
namespace {

/// visit(tile, scores [kTile], range): the scores that the cutoff drops are -inf.
template <class Visit>
TOKENDRAW_INLINE void for_each_cut_tile(const RowView& row, Cutoff cutoff, Visit visit) {
  alignas(64) float scores[kTile];
  for (std::int64_t tile = 0; tile < count_tiles(row.vocab); ++tile) {
    const TileRange range = range_of(row, tile);
    tile_scores(row, tile, scores);
    const TileCut cut = cut_tile(cutoff, tile);
    for (int i = 0; i < range.count; ++i) {
      const float floor = i <= cut.last ? cut.through : cut.after;
      scores[i] = scores[i] >= floor ? scores[i] : kMinusInfinity;
    }
    visit(tile, static_cast<const float*>(scores), range);
  }
}

/// Lanes of doubles, added by halves as sum_of_lanes does.
TOKENDRAW_INLINE double sum_of_doubles(double* lanes) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

// row [vocab] -> sums [tiles]
static void cut_score_sums(const RowView& row, const Scale& scale, const TileSummary* summaries, Cutoff cutoff,
                           double origin, double* sums) {
  float weight[kTile];
  for_each_cut_tile(row, cutoff, [&](std::int64_t tile, const float* scores, TileRange) {
    const float max = summaries[tile].max;
    sums[tile] = 0.0;
    if (max < cutoff.score) return;
    weights(scores, kTile, weight_constants(reference_of(max, scale), scale), weight);
    double lanes[kLanes] = {};
    for (int i = 0; i < kTile; ++i) {
      const double score = static_cast<double>(larger(scores[i], -FLT_MAX));
      lanes[i % kLanes] += static_cast<double>(weight[i]) * (score - origin);
    }
    sums[tile] = sum_of_doubles(lanes);
  });
}

// row [vocab] -> moments
static ScoreMoments score_moments(const RowView& row, const TileSummary* summaries, Cutoff cutoff, double origin) {
  ScoreMoments moments{0, 0.0, 0.0};
  for_each_cut_tile(row, cutoff, [&](std::int64_t tile, const float* scores, TileRange) {
    if (summaries[tile].max < cutoff.score) return;
    double sums[kLanes] = {};
    double squares[kLanes] = {};
    for (int i = 0; i < kTile; ++i) {
      if (scores[i] == kMinusInfinity) continue;
      const double distance = static_cast<double>(scores[i]) - origin;
      ++moments.count;
      sums[i % kLanes] += distance;
      squares[i % kLanes] += distance * distance;
    }
    moments.sum += sum_of_doubles(sums);
    moments.squares += sum_of_doubles(squares);
  });
  return moments;
}

/// Rounded once; a kept score is never -inf, however far below the others.
TOKENDRAW_INLINE float round_kept(double value) {
  return static_cast<float>(value < static_cast<double>(-FLT_MAX) ? static_cast<double>(-FLT_MAX) : value);
}

// row [vocab] -> out [vocab]
static void write_scores(const RowView& row, Cutoff cutoff, double origin, double slope, double offset, float* out) {
  for_each_cut_tile(row, cutoff, [&](std::int64_t, const float* scores, TileRange range) {
    for (int i = 0; i < range.count; ++i) {
      const float value = round_kept((static_cast<double>(scores[i]) - origin) * slope - offset);
      out[range.begin + i] = scores[i] == kMinusInfinity ? kMinusInfinity : value;
    }
  });
}

// row [vocab] -> out [vocab]
static void write_probs(const RowView& row, const Scale& scale, const TileSummary* summaries, Cutoff cutoff,
                        const double* factors, float* out) {
  float weight[kTile];
  for_each_cut_tile(row, cutoff, [&](std::int64_t tile, const float* scores, TileRange range) {
    const float max = summaries[tile].max;
    if (max < cutoff.score) {
      for (int i = 0; i < range.count; ++i) out[range.begin + i] = 0.0f;
      return;
    }
    weights(scores, range.count, weight_constants(reference_of(max, scale), scale), weight);
    for (int i = 0; i < range.count; ++i) {
      out[range.begin + i] = static_cast<float>(static_cast<double>(weight[i]) * factors[tile]);
    }
  });
}

}  // namespace
}  // namespace tokendraw::cpu
