// SPDX-License-Identifier: Apache-2.0
// What a cutoff keeps of a row: sums of weights, counts, and the weights of single tokens.
#pragma once

#include "cpu/scan-inl.h"

namespace tokendraw::cpu {
namespace {

/// A cutoff inside one tile: kept are the scores >= floor, where the floor is `through` up to the token `last` of the
/// tile and the next float above it after that.
struct TileCut {
  float through;
  float after;
  std::int64_t last;
};

TOKENDRAW_INLINE TileCut cut_tile(Cutoff cutoff, std::int64_t tile) {
  return {cutoff.score, next_above(cutoff.score), cutoff.token - tile * kTile};
}

TOKENDRAW_INLINE Line floors_of(const TileCut& cut, int line) {
  const std::int64_t last = cut.last - line * kLanes;
  if (last >= kLanes - 1) return filled_line(cut.through);
  if (last < 0) return filled_line(cut.after);
  float floors[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) floors[lane] = lane <= last ? cut.through : cut.after;
  return load_line(floors);
}

/// -inf below the floors.
TOKENDRAW_INLINE Line keep_from(const Line& x, const Line& floors) {
  Line kept;
  for (int r = 0; r < kRegisters; ++r) {
    kept.v[r] = select(greater_equal(x.v[r], floors.v[r]), x.v[r], Vector(kMinusInfinity));
  }
  return kept;
}

template <bool kPlain, class Element>
TOKENDRAW_INLINE Line cut_lane_sums(const Element* elements, int count, const WeightConstants& constants,
                                    const TileCut& cut) {
  LaneSums sums;
  for_each_lines(elements, count, [&](int line, const Lines& x) TOKENDRAW_INLINED {
    Lines kept;
    for (int i = 0; i < kLinesInStep; ++i) kept.line[i] = keep_from(x.line[i], floors_of(cut, line + i));
    add_weights<kPlain>(sums, line, kept, constants);
  });
  close_group(sums);
  return sums.total;
}

/// As extreme_tile_sum.
static Line extreme_cut_lane_sums(const float* scores, int count, const WeightConstants& constants,
                                  const TileCut& cut) {
  return cut_lane_sums<false>(scores, count, constants, cut);
}

template <class Element>
TOKENDRAW_INLINE Line cut_lane_sums(const Element* elements, int count, const WeightConstants& constants,
                                    const TileCut& cut) {
  if (constants.plain) return cut_lane_sums<true>(elements, count, constants, cut);
  alignas(64) float scratch[kTile];
  return extreme_cut_lane_sums(as_floats(elements, count, scratch), count, constants, cut);
}

// row [vocab] -> sums [tiles]
static void cut_sums(const RowView& row, const Scale& scale, TileSpan tiles, const TileSummary* summaries,
                     Cutoff cutoff, double* sums) {
  with_source(row, [&](auto source) {
    for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      sums[tile] = 0.0;
      const float max = summaries[tile].max;
      if (max < cutoff.score) continue;
      const WeightConstants constants = weight_constants(reference_of(max, scale), scale);
      visit_tile(row, source, tile, [&](const auto* elements, int count) TOKENDRAW_INLINED {
        sums[tile] = sum_of_lanes(cut_lane_sums(elements, count, constants, cut_tile(cutoff, tile)));
      });
    }
  });
}

// row [vocab] -> number kept
static std::int64_t count_kept(const RowView& row, TileSpan tiles, const TileSummary* summaries, Cutoff cutoff) {
  return with_source(row, [&](auto source) {
    std::int64_t kept = 0;
    for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
      if (summaries[tile].max < cutoff.score) continue;
      const TileCut cut = cut_tile(cutoff, tile);
      visit_tile(row, source, tile, [&](const auto* elements, int count) TOKENDRAW_INLINED {
        for_each_line(elements, count, [&](int line, const Line& x) TOKENDRAW_INLINED {
          const Line floors = floors_of(cut, line);
          for (int r = 0; r < kRegisters; ++r) {
            kept += __builtin_popcount(bits(greater_equal(x.v[r], floors.v[r])));
          }
        });
      });
    }
    return kept;
  });
}

// scores [count] -> lanes [kLanes]
static void lane_sums(const float* scores, int count, const WeightConstants& constants, Cutoff cutoff, float* lanes) {
  store_line(lanes, cut_lane_sums(scores, count, constants, cut_tile(cutoff, 0)));
}

template <bool kPlain>
TOKENDRAW_INLINE void weigh_registers(const float* scores, std::int64_t count, const WeightConstants& constants,
                                      float* out) {
  for (std::int64_t i = 0; i < count; i += kWidth) {
    const auto weight = weight_parts<kPlain>(load(scores + i), constants);
    store(out + i, weight.fraction * weight.power);
  }
}

// scores [count] -> weights [count]
static void weights(const float* scores, std::int64_t count, const WeightConstants& constants, float* out) {
  const std::int64_t whole = count / kWidth * kWidth;
  float rest[kWidth];
  for (int i = 0; i < kWidth; ++i) rest[i] = whole + i < count ? scores[whole + i] : kMinusInfinity;
  if (constants.plain) {
    weigh_registers<true>(scores, whole, constants, out);
    weigh_registers<true>(rest, kWidth, constants, rest);
  } else {
    weigh_registers<false>(scores, whole, constants, out);
    weigh_registers<false>(rest, kWidth, constants, rest);
  }
  for (std::int64_t i = whole; i < count; ++i) out[i] = rest[i - whole];
}

}  // namespace
}  // namespace tokendraw::cpu
