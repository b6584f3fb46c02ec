// SPDX-License-Identifier: Apache-2.0
// Tokens picked out of a row by score, and the scores of one tile.
#pragma once

#include "cpu/lines-inl.h"

namespace tokendraw::cpu {
namespace {

/// Appends the lanes of one register that are hit.
TOKENDRAW_INLINE Candidate* append_hits(Vector x, std::uint32_t hits, std::int64_t first, Candidate* found) {
  float scores[kWidth];
  store(scores, x);
  for (; hits != 0; hits &= hits - 1) {
    const int lane = __builtin_ctz(hits);
    *found++ = {scores[lane], static_cast<std::int32_t>(first + lane)};
  }
  return found;
}

/// Most lines hold nothing: they cost one comparison per register and one branch.
template <class Element>
TOKENDRAW_INLINE Candidate* collect_tile(const Element* elements, int count, float floor, float ceiling,
                                         std::int64_t begin, Candidate* found) {
  for_each_line(elements, count, [&](int line, const Line& x) TOKENDRAW_INLINED {
    Mask hits[kRegisters];
    Mask any = no_lanes();
    for (int r = 0; r < kRegisters; ++r) {
      hits[r] = greater_equal(x.v[r], Vector(floor));
      any = either(any, hits[r]);
    }
    if (bits(any) == 0) return;
    for (int r = 0; r < kRegisters; ++r) {
      const std::uint32_t inside = bits(hits[r]) & bits(greater_equal(Vector(ceiling), x.v[r]));
      if (inside != 0) found = append_hits(x.v[r], inside, begin + line * kLanes + r * kWidth, found);
    }
  });
  return found;
}

// row [vocab] -> found [<= capacity]
static std::int64_t collect(const RowView& row, const TileSummary* summaries, float floor, float ceiling,
                            std::int64_t* tile, Candidate* found, std::int64_t capacity) {
  return with_source(row, [&](auto source) {
    Candidate* end = found;
    for (; *tile < count_tiles(row.vocab) && capacity - (end - found) >= kTile; ++*tile) {
      if (summaries[*tile].max < floor) continue;
      visit_tile(row, source, *tile, [&](const auto* elements, int count) TOKENDRAW_INLINED {
        end = collect_tile(elements, count, floor, ceiling, *tile * kTile, end);
      });
    }
    return static_cast<std::int64_t>(end - found);
  });
}

// values [count] -> number >= floor
static std::int64_t count_at_least(const float* values, std::int64_t count, float floor) {
  std::int64_t hits = 0;
  std::int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    hits += __builtin_popcount(bits(greater_equal(load(values + i), Vector(floor))));
  }
  for (; i < count; ++i) hits += values[i] >= floor;
  return hits;
}

// row [vocab] -> scores [kTile]
static void tile_scores(const RowView& row, std::int64_t tile, float* scores) {
  edit_tile(row, range_of(row, tile), scores);
}

}  // namespace
}  // namespace tokendraw::cpu
