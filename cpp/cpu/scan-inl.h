// SPDX-License-Identifier: Apache-2.0
// The first look at a row: the largest score of every tile, and the sum of its weights.
#pragma once

#include "cpu/lines-inl.h"

namespace tokendraw::cpu {
namespace {

/// One register of lane sums per register of a line.
struct LaneSums {
  Line total = filled_line(0.0f);
  Line group = filled_line(0.0f);
};

/// Adds a line's weights; a group of lines joins the total when it is complete, which bounds the rounding.
TOKENDRAW_INLINE void close_group(LaneSums& sums) {
  for (int r = 0; r < kRegisters; ++r) {
    sums.total.v[r] = sums.total.v[r] + sums.group.v[r];
    sums.group.v[r] = Vector(0.0f);
  }
}

template <bool kPlain>
TOKENDRAW_INLINE void add_weights(LaneSums& sums, int line, const Line& x, const WeightConstants& constants) {
  for (int r = 0; r < kRegisters; ++r) {
    const auto weight = weight_parts<kPlain>(x.v[r], constants);
    sums.group.v[r] = fma(weight.fraction, weight.power, sums.group.v[r]);
  }
  if ((line + 1) % kLinesPerGroup == 0) close_group(sums);
}

/// Lanes added in float64 by halves: lane i with lane i + 16, then 8, 4, 2, 1.
TOKENDRAW_INLINE double sum_of_lanes(const Line& line) {
  float lanes[kLanes];
  store_line(lanes, line);
  double sums[kLanes / 2];
  for (int i = 0; i < kLanes / 2; ++i) sums[i] = static_cast<double>(lanes[i]) + static_cast<double>(lanes[i + 16]);
  for (int half = kLanes / 4; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

template <bool kPlain, class Element>
TOKENDRAW_INLINE double tile_sum(const Element* elements, int count, const WeightConstants& constants) {
  LaneSums sums;
  for_each_line(elements, count,
                [&](int line, const Line& x) TOKENDRAW_INLINED { add_weights<kPlain>(sums, line, x, constants); });
  close_group(sums);
  return sum_of_lanes(sums.total);
}

/// The tile as floats: itself, or widened into `scratch` [kTile].
TOKENDRAW_INLINE const float* as_floats(const float* elements, int, float*) { return elements; }

template <class Element>
TOKENDRAW_INLINE const float* as_floats(const Element* elements, int count, float* scratch) {
  widen_tile(elements, count, scratch);
  return scratch;
}

/// Out of line and for floats only: extreme temperatures and scores are rare.
static double extreme_tile_sum(const float* scores, int count, const WeightConstants& constants) {
  return tile_sum<false>(scores, count, constants);
}

template <class Element>
TOKENDRAW_INLINE double tile_sum(const Element* elements, int count, const WeightConstants& constants) {
  if (constants.plain) return tile_sum<true>(elements, count, constants);
  alignas(64) float scratch[kTile];
  return extreme_tile_sum(as_floats(elements, count, scratch), count, constants);
}

struct LineMaxima {
  Line max = filled_line(kMinusInfinity);
  Mask nan = no_lanes();
};

template <class Element>
TOKENDRAW_INLINE LineMaxima tile_maxima(const Element* elements, int count) {
  LineMaxima maxima;
  for_each_line(elements, count, [&](int, const Line& x) TOKENDRAW_INLINED {
    for (int r = 0; r < kRegisters; ++r) {
      maxima.max.v[r] = larger(x.v[r], maxima.max.v[r]);
      maxima.nan = either(maxima.nan, is_nan(x.v[r]));
    }
  });
  return maxima;
}

TOKENDRAW_INLINE float fold_groups(const Line& line, float* groups) {
  float lanes[kLanes];
  store_line(lanes, line);
  for (int i = 0; i < kGroupsPerTile; ++i) {
    groups[i] = larger(larger(lanes[i], lanes[i + 8]), larger(lanes[i + 16], lanes[i + 24]));
  }
  float max = groups[0];
  for (int i = 1; i < kGroupsPerTile; ++i) max = larger(groups[i], max);
  return max;
}

/// The tile's largest score; false if it is no number or infinite.
TOKENDRAW_INLINE bool finish_maxima(const LineMaxima& maxima, float* groups, float* max) {
  *max = fold_groups(maxima.max, groups);
  return bits(maxima.nan) == 0 && *max <= FLT_MAX;
}

// row [vocab] -> summaries [tiles], group_max [tiles, kGroupsPerTile]
static bool scan_max(const RowView& row, TileSummary* summaries, float* group_max) {
  return with_source(row, [&](auto source) {
    float unused[kGroupsPerTile];
    bool valid = true;
    for (std::int64_t tile = 0; tile < count_tiles(row.vocab); ++tile) {
      float* groups = group_max ? group_max + tile * kGroupsPerTile : unused;
      valid &= visit_tile(row, source, tile, [&](const auto* elements, int count) TOKENDRAW_INLINED {
        valid &= finish_maxima(tile_maxima(elements, count), groups, &summaries[tile].max);
      });
    }
    return valid;
  });
}

/// False if the tile's largest score is no number or infinite.
template <class Element>
TOKENDRAW_INLINE bool summarize_tile(const Element* elements, int count, const Scale& scale, TileSummary* summary,
                                     float* groups) {
  summary->sum = 0.0;
  if (!finish_maxima(tile_maxima(elements, count), groups, &summary->max)) return false;
  if (summary->max == kMinusInfinity) return true;
  summary->sum = tile_sum(elements, count, weight_constants(reference_of(summary->max, scale), scale));
  return true;
}

// row [vocab] -> summaries [tiles], group_max [tiles, kGroupsPerTile]
static bool scan_sums(const RowView& row, const Scale& scale, TileSummary* summaries, float* group_max) {
  return with_source(row, [&](auto source) {
    float unused[kGroupsPerTile];
    bool valid = true;
    for (std::int64_t tile = 0; tile < count_tiles(row.vocab); ++tile) {
      float* groups = group_max ? group_max + tile * kGroupsPerTile : unused;
      valid &= visit_tile(row, source, tile, [&](const auto* elements, int count) TOKENDRAW_INLINED {
        valid &= summarize_tile(elements, count, scale, &summaries[tile], groups);
      });
    }
    return valid;
  });
}

}  // namespace
}  // namespace tokendraw::cpu
