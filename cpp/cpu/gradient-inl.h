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
  for_each_lines(elements, count, [&](int line, const Lines& x) TOKENDRAW_INLINED {
    Lines gradient;
    in_parts(x, [&](int first, const Registers& scores) TOKENDRAW_INLINED {
      const auto weight = weight_parts<kPlain>(scores, constants);
      const Registers slope = fma(weight.fraction * weight.power, Registers(factor), Registers(-shift));
      for (int r = 0; r < kInStep; ++r) {
        gradient.line[(first + r) / kRegisters].v[(first + r) % kRegisters] = slope.v[r];
      }
    });
    for (int i = 0; i < kLinesInStep; ++i) {
      const int left = count - (line + i) * kLanes;
      if (left >= kLanes) {
        store_line(out + (line + i) * kLanes, gradient.line[i]);
      } else if (left > 0) {
        store_part(out + (line + i) * kLanes, left, gradient.line[i]);
      }
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
TOKENDRAW_INLINE void write_tile(const Element* elements, int count, float max, const Scale& scale, float factor,
                                 float shift, Out* out) {
  if (max < -FLT_MAX) {
    for (int i = 0; i < count; ++i) narrow(-shift, out + i);
    return;
  }
  const WeightConstants constants = weight_constants(reference_of(max, scale), scale);
  if (constants.plain) return write_tile_gradient<true>(elements, count, constants, factor, shift, out);
  alignas(64) float scratch[kTile];
  write_extreme_gradient(as_floats(elements, count, scratch), count, constants, factor, shift, out);
}

/// What the gradients of all tiles have in common.
struct GradientScale {
  const Scale& scale;
  const TileSummary* summaries;
  const double* factors;
  float shift;
};

template <class Element, class Out>
TOKENDRAW_INLINE void write_gradient_of(const RowView& row, const Element* logits, TileSpan tiles,
                                        const GradientScale& of, Out* out) {
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const auto [begin, count] = range_of(row, tile);
    const auto factor = static_cast<float>(of.factors[tile]);
    write_tile(logits + begin, count, of.summaries[tile].max, of.scale, factor, of.shift, out + begin);
  }
}

/// Past the caches where a register is whole and aligned.
TOKENDRAW_INLINE void stream_tile(const float* from, int count, float* to) {
  constexpr std::uint64_t kBytes = kWidth * sizeof(float);
  int i = 0;
  for (; i < count && reinterpret_cast<std::uint64_t>(to + i) % kBytes != 0; ++i) to[i] = from[i];
  for (; i + kWidth <= count; i += kWidth) stream(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

template <class Element>
TOKENDRAW_INLINE void stream_gradient_of(const RowView& row, const Element* logits, TileSpan tiles,
                                         const GradientScale& of, float* out) {
  alignas(64) float gradient[kTile];
  for (std::int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const auto [begin, count] = range_of(row, tile);
    const auto factor = static_cast<float>(of.factors[tile]);
    write_tile(logits + begin, count, of.summaries[tile].max, of.scale, factor, of.shift, gradient);
    stream_tile(gradient, count, out + begin);
  }
  finish_stream();
}

/// As the row's own type, where that is not float32.
template <class Element>
TOKENDRAW_INLINE void write_own_gradient_of(const RowView& row, const Element* logits, TileSpan tiles,
                                            const GradientScale& of, void* out) {
  write_gradient_of(row, logits, tiles, of, static_cast<Element*>(out));
}

TOKENDRAW_INLINE void write_own_gradient_of(const RowView&, const float*, TileSpan, const GradientScale&, void*) {}

template <class Element>
TOKENDRAW_INLINE void write_gradient_to(const RowView& row, const Element* logits, TileSpan tiles,
                                        const GradientScale& of, const GradientRow& out) {
  if (out.dtype != Dtype::kFloat32) return write_own_gradient_of(row, logits, tiles, of, out.data);
  if (out.past_cache) return stream_gradient_of(row, logits, tiles, of, static_cast<float*>(out.data));
  write_gradient_of(row, logits, tiles, of, static_cast<float*>(out.data));
}

/// An edited row has no gradient: it is of the logits.
TOKENDRAW_INLINE void write_gradient_to(const RowView&, EditedScores, TileSpan, const GradientScale&,
                                        const GradientRow&) {}

// row [vocab] -> out [vocab]
static void write_gradient(const RowView& row, const Scale& scale, TileSpan tiles, const TileSummary* summaries,
                           const double* factors, float shift, const GradientRow& out) {
  const GradientScale of{scale, summaries, factors, shift};
  with_source(row, [&](auto source) { write_gradient_to(row, source, tiles, of, out); });
}

}  // namespace
}  // namespace tokendraw::cpu
