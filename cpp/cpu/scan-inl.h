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

TOKENDRAW_INLINE void close_group(LaneSums& sums) {
  for (int r = 0; r < kRegisters; ++r) {
    sums.total.v[r] = sums.total.v[r] + sums.group.v[r];
    sums.group.v[r] = Vector(0.0f);
  }
}

/// Adds the weights of some lines; a group of lines joins the total when it is complete, which bounds the rounding.
template <bool kPlain>
TOKENDRAW_INLINE void add_weights(LaneSums& sums, int line, const Lines& x, const WeightConstants& constants) {
  in_parts(x, [&](int first, const Registers& scores) TOKENDRAW_INLINED {
    const auto weight = weight_parts<kPlain>(scores, constants);
    for (int r = 0; r < kInStep; ++r) {
      Vector& sum = sums.group.v[(first + r) % kRegisters];
      sum = fma(weight.fraction.v[r], weight.power.v[r], sum);
    }
  });
  if ((line + kLinesInStep) % kLinesPerGroup == 0) close_group(sums);
}

TOKENDRAW_INLINE double sum_of_lanes(const Line& line) {
  float lanes[kLanes];
  store_line(lanes, line);
  return sum_of_lanes(lanes);
}

template <bool kPlain, class Element>
TOKENDRAW_INLINE double tile_sum(const Element* elements, int count, const WeightConstants& constants) {
  LaneSums sums;
  for_each_lines(elements, count,
                 [&](int line, const Lines& x) TOKENDRAW_INLINED { add_weights<kPlain>(sums, line, x, constants); });
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

TOKENDRAW_INLINE void take_larger(const Line& x, Line& max) {
  for (int r = 0; r < kRegisters; ++r) max.v[r] = larger(x.v[r], max.v[r]);
}

/// NaN is not seen: the sum shows it.
template <class Element>
TOKENDRAW_INLINE Line largest_of(const Element* elements, int count) {
  Line max = filled_line(kMinusInfinity);
  for_each_line(elements, count, [&](int, const Line& x) TOKENDRAW_INLINED { take_larger(x, max); });
  return max;
}

TOKENDRAW_INLINE float fold_groups_of(const Line& max, float* group_max, std::int64_t tile) {
  float unused[kGroupsPerTile];
  return fold_groups(max, group_max ? group_max + tile * kGroupsPerTile : unused);
}

/// Fills in the sum of a tile whose largest score is known. False if the tile holds NaN or +inf.
template <class Element>
TOKENDRAW_INLINE bool sum_below_max(const Element* elements, int count, const Scale& scale, TileSummary& summary) {
  summary.sum = 0.0;
  if (summary.max > FLT_MAX) return false;
  if (!(summary.max >= -FLT_MAX)) return bits(tile_maxima(elements, count).nan) == 0;  // nothing, or only NaN
  summary.sum = tile_sum(elements, count, weight_constants(reference_of(summary.max, scale), scale));
  return !__builtin_isnan(summary.sum);
}

/// The sum of a whole tile, and the largest scores of the next: while the ports weigh one, the other arrives from the
/// second-level cache.
template <class Element>
TOKENDRAW_INLINE double sum_and_look_ahead(const Element* tile, const WeightConstants& constants, Line& max_of_next) {
  LaneSums sums;
  for_each_lines(tile, kTile, [&](int line, const Lines& x) TOKENDRAW_INLINED {
    const Lines next = load_lines(tile + kTile + line * kLanes);
    for (int i = 0; i < kLinesInStep; ++i) take_larger(next.line[i], max_of_next);
    add_weights<true>(sums, line, x, constants);
  });
  return sum_of_lanes(sums.total);
}

template <class Element>
TOKENDRAW_INLINE bool scan_sums_of(const RowView& row, const Element* logits, const Scale& scale, TileSpan tiles,
                                   TileSummary* summaries, float* group_max) {
  bool valid = true;
  bool seen = false;  // whether the largest score of the tile is known
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const TileRange range = range_of(row, tile);
    const Element* elements = logits + range.begin;
    TileSummary& summary = summaries[tile];
    if (!seen) summary.max = fold_groups_of(largest_of(elements, range.count), group_max, tile);
    const bool finite = summary.max >= -FLT_MAX && summary.max <= FLT_MAX;
    const WeightConstants constants = weight_constants(reference_of(finite ? summary.max : 0.0f, scale), scale);
    const bool next_is_whole = tile + 1 < tiles.end && row.vocab - range.begin >= 2 * kTile;
    seen = finite && constants.plain && next_is_whole;
    if (!seen) {
      valid &= sum_below_max(elements, range.count, scale, summary);
      continue;
    }
    Line max_of_next = filled_line(kMinusInfinity);
    summary.sum = sum_and_look_ahead(elements, constants, max_of_next);
    summaries[tile + 1].max = fold_groups_of(max_of_next, group_max, tile + 1);
    valid &= !__builtin_isnan(summary.sum);
  }
  return valid;
}

TOKENDRAW_INLINE bool scan_sums_of(const RowView& row, EditedScores source, const Scale& scale, TileSpan tiles,
                                   TileSummary* summaries, float* group_max) {
  bool valid = true;
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    valid &= visit_tile(row, source, tile, [&](const float* scores, int count) TOKENDRAW_INLINED {
      summaries[tile].max = fold_groups_of(largest_of(scores, count), group_max, tile);
      valid &= sum_below_max(scores, count, scale, summaries[tile]);
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
