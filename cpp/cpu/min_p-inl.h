// SPDX-License-Identifier: Apache-2.0
// The first look of min_p: its tokens are listed while their tile is in the first-level cache.
#pragma once

#include "cpu/collect-inl.h"
#include "cpu/cut-inl.h"

namespace tokendraw::cpu {
namespace {

TOKENDRAW_INLINE float next_below(float x) { return -next_above(-x); }

/// Below every score that lies within `distance` of the largest, whatever the subtraction rounds.
TOKENDRAW_INLINE float floor_near(float largest, float distance) {
  const float floor = largest - distance;
  return floor > -FLT_MAX ? next_below(floor) : -FLT_MAX;
}

/// Keeps candidates from `floor` on; returns their end.
TOKENDRAW_INLINE Candidate* drop_below(Candidate* begin, Candidate* end, float floor) {
  Candidate* kept = begin;
  for (const Candidate* c = begin; c != end; ++c) {
    if (c->score >= floor) *kept++ = *c;
  }
  return kept;
}

// row [vocab] -> summaries [tiles], found [<= capacity]
static bool scan_near_max(const RowView& row, float distance, TileSummary* summaries, Candidate* found,
                          std::int64_t capacity, std::int64_t* count) {
  return with_source(row, [&](auto source) {
    float unused[kGroupsPerTile];
    bool valid = true;
    bool fits = true;
    float largest = -FLT_MAX;
    Candidate* end = found;
    for (std::int64_t tile = 0; tile < count_tiles(row.vocab); ++tile) {
      valid &= visit_tile(row, source, tile, [&](const auto* elements, int elements_count) TOKENDRAW_INLINED {
        float& max = summaries[tile].max;
        valid &= finish_maxima(tile_maxima(elements, elements_count), unused, &max);
        largest = larger(max, largest);
        const float floor = floor_near(largest, distance);
        if (!fits || !(max >= floor)) return;
        if (capacity - (end - found) < kTile) end = drop_below(found, end, floor);
        fits = capacity - (end - found) >= kTile;
        if (fits) end = collect_tile(elements, elements_count, floor, FLT_MAX, tile * kTile, end);
      });
    }
    *count = fits ? static_cast<std::int64_t>(end - found) : -1;
    return valid;
  });
}

}  // namespace
}  // namespace tokendraw::cpu
