// SPDX-License-Identifier: Apache-2.0
// The loops over a row, one table per ISA. Every table computes the same bits; none allocates, checks or throws.
#pragma once

#include <cstdint>

#include "core/order.h"
#include "core/weight.h"
#include "cpu/row_view.h"

namespace tokendraw::cpu {

struct TileSummary {
  double sum;  // of the tile's weights, relative to reference_of(max); not set by scan_max
  float max;   // -inf: nothing in the tile can be drawn
};

/// Maxima of kGroupsPerTile interleaved parts of a tile: group = token index mod kGroupsPerTile.
inline constexpr int kGroupsPerTile = 8;

TOKENDRAW_INLINE constexpr std::int64_t count_tiles(std::int64_t vocab) { return (vocab + kTile - 1) / kTile; }

/// Some consecutive tiles of a row; not empty.
struct TileSpan {
  std::int64_t begin;
  std::int64_t end;
};

/// Of kept scores, relative to an origin.
struct ScoreMoments {
  std::int64_t count;
  double sum;
  double squares;
};

struct Kernels {
  /// summaries[tile].max, and group_max [tiles, kGroupsPerTile] unless null. False if the logits hold NaN or +inf.
  bool (*scan_max)(const RowView& row, TileSpan tiles, TileSummary* summaries, float* group_max);

  /// summaries[tile] whole, and group_max as of scan_max. False if the logits hold NaN or +inf.
  bool (*scan_sums)(const RowView& row, const Scale& scale, TileSpan tiles, TileSummary* summaries, float* group_max);

  /// sums[tile] = what the kept tokens of the tile weigh, in the units of the tile.
  void (*cut_sums)(const RowView& row, const Scale& scale, TileSpan tiles, const TileSummary* summaries, Cutoff cutoff,
                   double* sums);

  /// How many tokens of the tiles the cutoff keeps.
  std::int64_t (*count_kept)(const RowView& row, TileSpan tiles, const TileSummary* summaries, Cutoff cutoff);

  /// Appends the tokens with floor <= score <= ceiling from `tile` on, in index order, while `capacity` holds another
  /// tile. Returns how many; `tile` becomes the first tile not read.
  std::int64_t (*collect)(const RowView& row, const TileSummary* summaries, float floor, float ceiling,
                          std::int64_t* tile, Candidate* found, std::int64_t capacity);

  /// As scan_max; also lists, in index order, at least the tokens within `distance` of the row's largest score. `count`
  /// is their number, or -1 where `capacity`, which is above kTile, did not hold them.
  bool (*scan_near_max)(const RowView& row, float distance, TileSummary* summaries, Candidate* found,
                        std::int64_t capacity, std::int64_t* count);

  /// How many of values[0 .. count) are >= floor.
  std::int64_t (*count_at_least)(const float* values, std::int64_t count, float floor);

  /// The scores of one tile, -inf where forbidden and past the vocabulary. scores [kTile].
  void (*tile_scores)(const RowView& row, std::int64_t tile, float* scores);

  /// lanes[lane] = sum of the weights of scores[line * kLanes + lane] that the cutoff keeps. scores [count <= kTile].
  void (*lane_sums)(const float* scores, int count, const WeightConstants& constants, Cutoff cutoff, float* lanes);

  /// weights[i] of scores[i].
  void (*weights)(const float* scores, std::int64_t count, const WeightConstants& constants, float* weights);

  /// sums[tile] = sum of weight * (score - origin) over the kept tokens of the tile, in the units of the tile.
  void (*cut_score_sums)(const RowView& row, const Scale& scale, const TileSummary* summaries, Cutoff cutoff,
                         double origin, double* sums);

  /// Of the kept scores, relative to `origin`.
  ScoreMoments (*score_moments)(const RowView& row, const TileSummary* summaries, Cutoff cutoff, double origin);

  /// out[i] = (score - origin) * slope - offset in double, rounded once and at least -FLT_MAX, where kept; -inf
  /// elsewhere.
  void (*write_scores)(const RowView& row, Cutoff cutoff, double origin, double slope, double offset, float* out);

  /// out[i] = weight * factors[tile] where kept; 0 elsewhere.
  void (*write_probs)(const RowView& row, const Scale& scale, const TileSummary* summaries, Cutoff cutoff,
                      const double* factors, float* out);

  /// probs[i] = weight * factor of the kept tokens of one tile, 0 elsewhere. probs [kTile].
  void (*tile_probs)(const RowView& row, std::int64_t tile, const WeightConstants& constants, Cutoff cutoff,
                     double factor, double* probs);

  /// p[i] = max(p[i] - q[i] * draft_scale, 0) * scale. p, q [count].
  void (*take_residual)(const double* q, double draft_scale, double scale, int count, double* p);

  /// lanes[lane] = the sum of values[line * kLanes + lane], in the order of lines. values [kTile], lanes [kLanes].
  void (*prob_lanes)(const double* values, double* lanes);
};

}  // namespace tokendraw::cpu
