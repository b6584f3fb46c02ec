// SPDX-License-Identifier: Apache-2.0
// The first look at a row: the largest score of every tile, and the sum of its weights.
#pragma once

#include "cpu/lanes.h"
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

TOKENDRAW_INLINE double sum_of_lanes(const Line& line) {
  float lanes[kLanes];
  store_line(lanes, line);
  return sum_of_lanes(lanes);
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
    for (int r = 0; r < kRegisters; ++r) maxima.max.v[r] = larger(x.v[r], maxima.max.v[r]);
    for (int r = 0; r < kRegisters; r += 2) maxima.nan = either(maxima.nan, unordered(x.v[r], x.v[r + 1]));
  });
  return maxima;
}

using Quad = float __attribute__((vector_size(16)));

TOKENDRAW_INLINE Quad larger_quad(Quad a, Quad b) { return a > b ? a : b; }
TOKENDRAW_INLINE Quad load_quad(const float* from) { return Quad{from[0], from[1], from[2], from[3]}; }

TOKENDRAW_INLINE float fold_groups(const Line& line, float* groups) {
  float lanes[kLanes];
  store_line(lanes, line);
  Quad folded[2];
  for (int half = 0; half < 2; ++half) {
    const float* at = lanes + 4 * half;
    folded[half] =
        larger_quad(larger_quad(load_quad(at), load_quad(at + 8)), larger_quad(load_quad(at + 16), load_quad(at + 24)));
    for (int i = 0; i < 4; ++i) groups[4 * half + i] = folded[half][i];
  }
  const Quad largest = larger_quad(folded[0], folded[1]);
  return larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
}

/// The tile's largest score; false if it is no number or infinite.
TOKENDRAW_INLINE bool finish_maxima(const LineMaxima& maxima, float* groups, float* max) {
  *max = fold_groups(maxima.max, groups);
  return bits(maxima.nan) == 0 && *max <= FLT_MAX;
}

// row [vocab] -> summaries [tiles], group_max [tiles, kGroupsPerTile]
static bool scan_max(const RowView& row, TileSpan tiles, TileSummary* summaries, float* group_max) {
  return with_source(row, [&](auto source) {
    float unused[kGroupsPerTile];
    bool valid = true;
    for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
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
TOKENDRAW_INLINE bool find_max(const Element* elements, int count, float* max, float* groups) {
  float unused[kGroupsPerTile];
  return finish_maxima(tile_maxima(elements, count), groups ? groups : unused, max);
}

template <class Element>
TOKENDRAW_INLINE double sum_below(const Element* elements, int count, const Scale& scale, float max) {
  if (!(max >= -FLT_MAX && max <= FLT_MAX)) return 0.0;
  return tile_sum(elements, count, weight_constants(reference_of(max, scale), scale));
}

TOKENDRAW_INLINE float* groups_of(float* group_max, std::int64_t tile) {
  return group_max ? group_max + tile * kGroupsPerTile : nullptr;
}

/// The largest score of the next tile is found before this tile is summed: neither the end of its reduction nor memory
/// is waited for.
template <class Element>
TOKENDRAW_INLINE bool scan_sums_of(const RowView& row, const Element* logits, const Scale& scale, TileSpan tiles,
                                   TileSummary* summaries, float* group_max) {
  bool valid = true;
  for (std::int64_t ahead = tiles.begin; ahead <= tiles.end; ++ahead) {
    if (ahead < tiles.end) {
      const TileRange range = range_of(row, ahead);
      valid &= find_max(logits + range.begin, range.count, &summaries[ahead].max, groups_of(group_max, ahead));
    }
    if (ahead == tiles.begin) continue;
    TileSummary& summary = summaries[ahead - 1];
    const TileRange range = range_of(row, ahead - 1);
    summary.sum = sum_below(logits + range.begin, range.count, scale, summary.max);
  }
  return valid;
}

TOKENDRAW_INLINE bool scan_sums_of(const RowView& row, EditedScores source, const Scale& scale, TileSpan tiles,
                                   TileSummary* summaries, float* group_max) {
  bool valid = true;
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    TileSummary& summary = summaries[tile];
    valid &= visit_tile(row, source, tile, [&](const float* scores, int count) TOKENDRAW_INLINED {
      valid &= find_max(scores, count, &summary.max, groups_of(group_max, tile));
      summary.sum = sum_below(scores, count, scale, summary.max);
    });
  }
  return valid;
}

// row [vocab] -> summaries [tiles], group_max [tiles, kGroupsPerTile]
static bool scan_sums(const RowView& row, const Scale& scale, TileSpan tiles, TileSummary* summaries,
                      float* group_max) {
  return with_source(row, [&](auto source) { return scan_sums_of(row, source, scale, tiles, summaries, group_max); });
}

}  // namespace
}  // namespace tokendraw::cpu
