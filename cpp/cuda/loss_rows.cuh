// SPDX-License-Identifier: Apache-2.0
// The kernel of losses and gradients. What is computed once per row, one warp computes; the gradient is everybody's.
#pragma once

#include "cuda/tile_sums.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

struct LossTask {
  Rows rows;
  Values<double> temperature;
  Values<double> gradient_scale;
  Values<std::int64_t> tokens;
  std::int64_t ignore_index = -100;
  double smoothing = 0.0;
  double weight = 1.0;
  const double* mean_of = nullptr;
  double* losses = nullptr;
  void* gradient = nullptr;  // [rows, vocab], or null
  Leading gradient_leading;
  RowStatus* status = nullptr;
  TileTables tables;

  /// Of a row's loss in what is differentiated.
  __device__ double weight_of_rows() const { return mean_of == nullptr ? weight : 1.0 / at_least(*mean_of, 1.0); }
};

// ---- rows of gradients ----

/// What a thread writes of a line, at an address that is a multiple of its size, at most 16.
template <class Element>
__device__ __forceinline__ void store_elements(Element* to, const Elements<Element, kWidth>& elements) {
  constexpr int kBytes = kWidth * static_cast<int>(sizeof(Element));
  if constexpr (kBytes == 8) {
    *reinterpret_cast<uint2*>(to) = bit_cast<uint2>(elements);
  } else {
    const auto raw = bit_cast<Elements<uint4, kBytes / 16>>(elements);
#pragma unroll
    for (int i = 0; i < kBytes / 16; ++i) reinterpret_cast<uint4*>(to)[i] = raw.at[i];
  }
}

template <class Out>
__device__ __forceinline__ void fill_row(Out* out, std::int64_t vocab, float value) {
  for (std::int64_t token = threadIdx.x; token < vocab; token += kThreads) narrow(value, out + token);
}

// ---- one row ----

struct Target {
  std::int64_t token;
  float score;
  double smoothing;
  double gradient_scale;
};

/// What the gradient of a row is made of.
struct GradientUnits {
  float shift;  // of every token
  float own;    // the target's gradient
};

/// The target's score, or with smoothing the mean of the scores under the smoothed target: the loss is linear in it.
/// By one warp; values [tiles] hold the sums of the scores.
__device__ __forceinline__ double target_score(const Target& target, const double* values, int tiles,
                                               std::int64_t vocab) {
  const auto score = static_cast<double>(target.score);
  if (target.smoothing <= 0.0) return score;
  const double sum = sum_of_tiles(tiles, [&](int tile) { return __ldcg(values + tile); });
  const double mean = sum / static_cast<double>(vocab);
  if (mean < static_cast<double>(-FLT_MAX)) return mean;
  return (1.0 - target.smoothing) * score + target.smoothing * mean;
}

/// 1 - the target's probability, as a sum of the others': a difference would lose what little is left to learn. By one
/// warp.
template <class Element>
__device__ __forceinline__ double share_of_others(const RowReader<Element, NoEdits>& row, const TileTable& table,
                                                  const RowUnits& units, const Target& target, double mass) {
  if (target.score < -FLT_MAX) return 1.0;
  const auto own_tile = static_cast<int>(target.token / kTile);
  const float tile_max = __ldcg(table.maxima + own_tile);
  Part part = row.tile(own_tile);
  const int own = within_tile(target.token - first_token(own_tile));
  edit_each(part, [&](float& score, int offset) {
    if (offset == own) score = -INFINITY;
  });
  const double of_tile = sum_of_tile(part, tile_max, units.scale) * units.factor_of(tile_max);
  const double others = sum_of_tiles_after(of_tile, row.tiles, [&](int tile) {
    return tile == own_tile ? 0.0 : units.scaled(__ldcg(table.sums + tile), __ldcg(table.maxima + tile));
  });
  return others / mass;
}

/// What a thread writes of one tile: weight * factor - shift, the target's its own.
struct GradientOfTile {
  WeightConstants constants;
  float factor;
  bool empty;

  __device__ float of(float score, const GradientUnits& units) const {
    // Right for plain constants too; writing leaves the time.
    const auto weight = weight_parts<false>(score, constants);
    return empty ? -units.shift : fma(weight.fraction * weight.power, factor, -units.shift);
  }
};

/// The gradient of kWidth tokens from the token `first` on. They are read before they are written, as they may be the
/// same.
template <class Element, class Out>
__device__ __forceinline__ void write_gradient_of_line(const Element* logits, Out* out, std::int64_t first,
                                                       std::int64_t vocab, std::int64_t target,
                                                       const GradientOfTile& tile, const GradientUnits& units) {
  const bool whole = is_aligned(logits) && is_aligned(out) && first + kWidth <= vocab;
  Elements<Element, kWidth> elements{};
  if (whole) elements = load_elements(logits + first);
  Elements<Out, kWidth> gradient;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if (!whole && first + i < vocab) elements.at[i] = logits[first + i];
    const float value = tile.of(widen(elements.at[i]), units);
    narrow(first + i == target ? units.own : value, gradient.at + i);
    if (!whole && first + i < vocab) out[first + i] = gradient.at[i];
  }
  if (whole) store_elements(out + first, gradient);
}

/// The gradient of the thread's part of a tile.
template <class Element, class Out>
__device__ __forceinline__ void write_gradient_of_part(const RowReader<Element, NoEdits>& row, int tile,
                                                       std::int64_t target, const GradientOfTile& of_tile,
                                                       const GradientUnits& units, Out* out) {
  const std::int64_t first = first_token(tile);
#pragma unroll 2
  for (int line = 0; line < kLinesPerGroup; ++line) {
    write_gradient_of_line(row.logits, out, first + line * kLanes, row.vocab, target, of_tile, units);
  }
}

// logits [rows, vocab] -> losses [rows], gradient [rows, vocab]; one block per row
template <class Element, class Out>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) loss_rows(const __grid_constant__ LossTask task) {
  TOKENDRAW_SHARED(gradient, GradientUnits);
  TOKENDRAW_SHARED(shared_mass, double);
  const std::int64_t index = blockIdx.x;
  const NoEdits none{};
  const RowReader<Element, NoEdits> row(task.rows, index, none);
  const TileTable table = task.tables.of(index, row.tiles);
  Out* const out = task.gradient ? static_cast<Out*>(task.gradient) + task.gradient_leading.offset(index) : nullptr;
  const auto finish = [&](double loss, float filled, RowStatus status) {
    if (threadIdx.x == 0) {
      task.losses[index] = loss;
      task.status[index] = status;
    }
    if (out) fill_row(out, row.vocab, filled);
  };

  const std::int64_t token = task.tokens.at(index);
  if (token == task.ignore_index) return finish(0.0, 0.0f, RowStatus::kValid);
  const double temperature = task.temperature.at(index);
  const bool legal = temperature > 0.0 && is_finite(temperature) && token >= 0 && token < row.vocab;
  if (!legal) return finish(NAN, NAN, RowStatus::kIllegal);

  const Target target{token, widen(row.logits[token]), task.smoothing,
                      task.gradient_scale.at(index) * task.weight_of_rows()};
  const Scale scale = make_scale(temperature);
  const Team team{0, 1};
  summarize<true>(row, scale, table, team);
  __syncthreads();
  const float max = max_of_row(table, row.tiles);
  const RowStatus status = status_of(max);
  if (status != RowStatus::kValid) return finish(NAN, NAN, status);

  const RowUnits units{scale, reference_of(max, scale)};
  if (target.smoothing > 0.0) {
    for (int tile = team.worker(); tile < row.tiles; tile += team.workers()) {
      const double sum =
          sum_of_tokens(row, tile, [](double total, float score) { return total + static_cast<double>(score); });
      if (lane_of_warp() == 0) __stcg(table.kept + tile, sum);
    }
    __syncthreads();
  }

  const double whole = target.gradient_scale / temperature;
  if (warp_of_block() == 0) {
    const double mass = mass_of_row(table, row.tiles, units);
    const double loss = -Logprobs(units, mass).of(target_score(target, table.kept, row.tiles, row.vocab));
    const double share = target.smoothing / static_cast<double>(row.vocab);
    const double others = out ? share_of_others(row, table, units, target, mass) : 0.0;
    if (lane_of_warp() == 0) {
      task.losses[index] = loss < 0.0 ? 0.0 : loss;
      task.status[index] = RowStatus::kValid;
      shared_mass = mass;
      gradient = {static_cast<float>(share * whole), static_cast<float>(whole * (target.smoothing - share - others))};
    }
  }
  if (!out) return;
  __syncthreads();

  double* const factors = table.kept + row.tiles;
  for (int tile = static_cast<int>(threadIdx.x); tile < row.tiles; tile += kThreads) {
    const float tile_max = __ldcg(table.maxima + tile);
    __stcg(factors + tile, tile_max < -FLT_MAX ? 0.0 : units.factor_of(tile_max) / shared_mass * whole);
  }
  __syncthreads();
  for (int tile = team.worker(); tile < row.tiles; tile += team.workers()) {
    const float tile_max = __ldcg(table.maxima + tile);
    const bool empty = tile_max < -FLT_MAX;
    const GradientOfTile of_tile{weight_constants(reference_of(empty ? 0.0f : tile_max, scale), scale),
                                 static_cast<float>(__ldcg(factors + tile)), empty};
    write_gradient_of_part(row, tile, token, of_tile, gradient, out);
  }
}

}  // namespace tokendraw::cuda
