// SPDX-License-Identifier: Apache-2.0
// Tokens picked out of a row by score, and the scores of one tile.
#pragma once

#include "cpu/lines-inl.h"

namespace tokendraw::cpu {
namespace {

TOKENDRAW_INLINE bool reaches(const Line& x, float floor) {
  Vector largest = x.v[0];
  for (int r = 1; r < kRegisters; ++r) largest = larger(largest, x.v[r]);
  return bits(greater_equal(largest, Vector(floor))) != 0;
}

/// Bit i: lane i lies between the two.
TOKENDRAW_INLINE std::uint32_t lanes_between(const Line& x, float floor, float ceiling) {
  std::uint32_t lanes = 0;
  for (int r = 0; r < kRegisters; ++r) {
    const std::uint32_t inside =
        bits(greater_equal(x.v[r], Vector(floor))) & bits(greater_equal(Vector(ceiling), x.v[r]));
    lanes |= inside << (r * kWidth);
  }
  return lanes;
}

/// Appends what lies between. Which lines hold any is found first, without a branch: a mispredicted one costs as much
/// as five lines.
template <class Element>
TOKENDRAW_INLINE Candidate* collect_tile(const Element* elements, int count, float floor, float ceiling,
                                         std::int64_t begin, Candidate* found) {
  std::uint32_t lines = 0;
  for_each_line(elements, count, [&](int line, const Line& x) TOKENDRAW_INLINED {
    lines |= static_cast<std::uint32_t>(reaches(x, floor)) << line;
  });
  for (; lines != 0; lines &= lines - 1) {
    const int line = __builtin_ctz(lines);
    const Line x = line_of(elements, count, line);
    float scores[kLanes];
    store_line(scores, x);
    for (std::uint32_t lanes = lanes_between(x, floor, ceiling); lanes != 0; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      *found++ = {scores[lane], static_cast<std::int32_t>(begin + line * kLanes + lane)};
    }
  }
  return found;
}
static_assert(kLinesPerTile == 32 && kLanes == 32, "a bit for each");

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
