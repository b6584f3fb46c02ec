// SPDX-License-Identifier: Apache-2.0
// What a loss needs of a whole row: the sum of its logits, and its gradient, written while the row is still in cache.
#pragma once

#include "cpu/scan-inl.h"
#include "cpu/write-inl.h"

namespace tokendraw::cpu {
namespace {

// row [vocab] -> sum
static double sum_scores(const RowView& row) {
  return with_source(row, [&](auto source) {
    double total = 0.0;
    for (std::int64_t tile = 0; tile < count_tiles(row.vocab); ++tile) {
      visit_tile(row, source, tile, [&](const auto* elements, int count) TOKENDRAW_INLINED {
        double sums[kLanes] = {};
        for_each_line(elements, count, [&](int line, const Line& x) TOKENDRAW_INLINED {
          float scores[kLanes];
          store_line(scores, x);
          const int left = count - line * kLanes;
          for (int lane = left; lane < kLanes; ++lane) scores[lane] = 0.0f;  // the padding
          for (int lane = 0; lane < kLanes; ++lane) sums[lane] += static_cast<double>(scores[lane]);
        });
        total += sum_of_doubles(sums);
      });
    }
    return total;
  });
}

/// The first `count` < 32 elements of a line.
template <class Out>
TOKENDRAW_INLINE void store_part(Out* to, int count, const Line& line) {
  float lanes[kLanes];
  store_line(lanes, line);
  for (int lane = 0; lane < count; ++lane) narrow(lanes[lane], to + lane);
}

template <bool kPlain, class Element, class Out>
TOKENDRAW_INLINE void write_tile_gradient(const Element* elements, int count, const WeightConstants& constants,
                                          float factor, float shift, Out* out) {
  for_each_line(elements, count, [&](int line, const Line& x) TOKENDRAW_INLINED {
    Line gradient;
    for (int r = 0; r < kRegisters; ++r) {
      const auto weight = weight_parts<kPlain>(x.v[r], constants);
      gradient.v[r] = fma(weight.fraction * weight.power, Vector(factor), Vector(-shift));
    }
    const int left = count - line * kLanes;
    if (left >= kLanes) {
      store_line(out + line * kLanes, gradient);
    } else {
      store_part(out + line * kLanes, left, gradient);
    }
  });
}

/// As extreme_tile_sum.
template <class Out>
static void write_extreme_gradient(const float* scores, int count, const WeightConstants& constants, float factor,
                                   float shift, Out* out) {
  write_tile_gradient<false>(scores, count, constants, factor, shift, out);
}

template <class Element, class Out>
TOKENDRAW_INLINE void write_gradient_of(const RowView& row, const Element* logits, const Scale& scale, TileSpan tiles,
                                        const TileSummary* summaries, const double* factors, float shift, Out* out) {
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const auto [begin, count] = range_of(row, tile);
    const float max = summaries[tile].max;
    if (max < -FLT_MAX) {
      for (int i = 0; i < count; ++i) narrow(-shift, out + begin + i);
      continue;
    }
    const WeightConstants constants = weight_constants(reference_of(max, scale), scale);
    const auto factor = static_cast<float>(factors[tile]);
    if (constants.plain) {
      write_tile_gradient<true>(logits + begin, count, constants, factor, shift, out + begin);
    } else {
      alignas(64) float scratch[kTile];
      const float* scores = as_floats(logits + begin, count, scratch);
      write_extreme_gradient(scores, count, constants, factor, shift, out + begin);
    }
  }
}

/// call(out): as float32, or as elements of the row's own type.
template <class Element, class Call>
TOKENDRAW_INLINE void with_output(const Element*, Dtype dtype, void* out, Call call) {
  if (dtype == Dtype::kFloat32) return call(static_cast<float*>(out));
  call(static_cast<Element*>(out));
}

template <class Call>
TOKENDRAW_INLINE void with_output(const float*, Dtype, void* out, Call call) {
  call(static_cast<float*>(out));
}

/// An edited row has no gradient: it is of the logits.
template <class Call>
TOKENDRAW_INLINE void with_output(EditedScores, Dtype, void*, Call) {}

// row [vocab] -> out [vocab]
static void write_gradient(const RowView& row, const Scale& scale, TileSpan tiles, const TileSummary* summaries,
                           const double* factors, float shift, Dtype dtype, void* out) {
  with_source(row, [&](auto source) {
    with_output(source, dtype, out,
                [&](auto* to) { write_gradient_of(row, source, scale, tiles, summaries, factors, shift, to); });
  });
}

}  // namespace
}  // namespace tokendraw::cpu
