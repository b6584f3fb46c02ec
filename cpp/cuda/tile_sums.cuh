// SPDX-License-Identifier: Apache-2.0
// Sums over a row in float64, in the host's order of additions: a lane by one thread, token after token; the lanes of a
// tile by halves; tiles in the order of their index.
#pragma once

#include "cuda/row.cuh"

namespace tokendraw::cuda {

/// `total`, and value_of(tile) added for every tile in order; by one warp, for all of its threads.
template <class ValueOf>
__device__ __forceinline__ double sum_of_tiles_after(double total, int tiles, ValueOf value_of) {
  for (int first = 0; first < tiles; first += kWarp) {
    const int own = first + lane_of_warp();
    total = sum_of_warp_after(total, own < tiles ? value_of(own) : 0.0);
  }
  return total;
}

template <class ValueOf>
__device__ __forceinline__ double sum_of_tiles(int tiles, ValueOf value_of) {
  return sum_of_tiles_after(0.0, tiles, value_of);
}

/// What all finite tokens weigh, of the sums that the first look has left; by one warp.
__device__ __forceinline__ double mass_of_row(const TileTable& table, int tiles, const RowUnits& units) {
  return sum_of_tiles(tiles,
                      [&](int tile) { return units.scaled(__ldcg(table.sums + tile), __ldcg(table.maxima + tile)); });
}

/// The sum of add(sum, score) over the tokens of a tile that are in the row; by one warp.
template <class Element, class EditsOfRows, class Add>
__device__ __forceinline__ double sum_of_tokens(const RowReader<Element, EditsOfRows>& row, int tile, Add add) {
  double sum = 0.0;
#pragma unroll 4
  for (int line = 0; line < kLinesPerTile; ++line) {
    const std::int64_t token = std::int64_t{tile} * kTile + line * kLanes + lane_of_warp();
    if (token < row.vocab) sum = add(sum, row.score(token));
  }
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, apart);
  return sum;
}
static_assert(kLanes == kWarp, "a thread for each lane");

/// values[tile] of every tile of the team that reaches `score` = what value_of(tile, max) makes of it in all threads of
/// a warp; 0 of the others.
template <class ValueOf>
__device__ __forceinline__ void fill_tiles(float score, const TileTable& table, int tiles, const Team& team,
                                           double* values, ValueOf value_of) {
  for_each_tile_from(
      score, table, tiles, team,
      [&](int tile, float max) {
        const double value = value_of(tile, max);
        if (lane_of_warp() == 0) __stcg(values + tile, value);
      },
      [&](int tile) { __stcg(values + tile, 0.0); });
}

/// A distribution's logarithms, of scores.
struct Logprobs {
  double origin;
  double slope;
  double offset;

  __device__ Logprobs(const RowUnits& units, double mass)
      : origin(static_cast<double>(units.reference.base)),
        slope(log_slope(units.scale)),
        offset(log_offset(units.reference, mass)) {}

  __device__ double of(double score) const { return (score - origin) * slope - offset; }

  __device__ double sum() const { return origin * slope + offset; }
};

/// A log-probability as it is returned: -inf only where the score is.
__device__ __forceinline__ float rounded_logprob(const Logprobs& logprobs, float score) {
  if (score < -FLT_MAX) return -INFINITY;
  const double logprob = logprobs.of(static_cast<double>(score));
  return static_cast<float>(logprob < static_cast<double>(-FLT_MAX) ? static_cast<double>(-FLT_MAX) : logprob);
}

}  // namespace tokendraw::cuda
