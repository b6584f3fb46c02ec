// SPDX-License-Identifier: Apache-2.0
// A token by three picks among integers: its tile, its lane, its line. One warp makes each of them, with the sums of
// core/fixed_point.h; four weigh the tile.
#pragma once

#include "core/fixed_point.h"
#include "core/philox.h"
#include "cuda/row.cuh"

namespace tokendraw::cuda {

// ---- 128 bits between the threads of a warp ----

__device__ __forceinline__ Uint128 shuffle(Uint128 value, int thread) {
  const auto low = static_cast<unsigned long long>(value);
  const auto high = static_cast<unsigned long long>(value >> 64);
  return static_cast<Uint128>(__shfl_sync(kWholeWarp, high, thread)) << 64 | __shfl_sync(kWholeWarp, low, thread);
}

/// The sum of the values of this thread and of all before it.
__device__ __forceinline__ Uint128 inclusive_sum(Uint128 value) {
#pragma unroll
  for (int apart = 1; apart < kWarp; apart *= 2) {
    const Uint128 before = shuffle(value, lane_of_warp() >= apart ? lane_of_warp() - apart : lane_of_warp());
    if (lane_of_warp() >= apart) value += before;
  }
  return value;
}

__device__ __forceinline__ int largest_of_warp(int value) {
#if __CUDA_ARCH__ >= 800
  return __reduce_max_sync(kWholeWarp, value);
#else
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) value = max(__shfl_xor_sync(kWholeWarp, value, apart), value);
  return value;
#endif
}

__device__ __forceinline__ int first_thread(bool holds) {
  return __ffs(static_cast<int>(__ballot_sync(kWholeWarp, holds))) - 1;
}

// ---- picks ----

/// The thread that `uniform` falls on, in proportion to the weights of all.
__device__ __forceinline__ int pick_thread(double weight, Uint128 uniform) {
  const int exponent = largest_of_warp(exponent_of(weight));
  const Uint128 through = inclusive_sum(to_fixed_point(weight, exponent));
  const Uint128 left = multiply_high(uniform, shuffle(through, kWarp - 1));
  return first_thread(left < through);
}

/// The index in [0, count) that `uniform` falls on: first which thread's share of them, then which of these.
template <class WeightOf>
__device__ __forceinline__ int pick_index(WeightOf weight_of, int count, Uint128 uniform) {
  const int share = (count + kWarp - 1) / kWarp;
  const int begin = lane_of_warp() * share;
  const int end = begin + share < count ? begin + share : count;
  double largest = 0.0;
  for (int i = begin; i < end; ++i) {
    const double weight = weight_of(i);
    largest = weight > largest ? weight : largest;
  }
  const int exponent = largest_of_warp(exponent_of(largest));
  Uint128 own = 0;
  for (int i = begin; i < end; ++i) own += to_fixed_point(weight_of(i), exponent);
  const Uint128 through = inclusive_sum(own);
  Uint128 left = multiply_high(uniform, shuffle(through, kWarp - 1));
  const int holder = first_thread(left < through);
  left -= shuffle(through - own, holder);
  for (int first = holder * share;; first += kWarp) {
    const int i = first + lane_of_warp();
    const bool is_inside = i < (holder + 1) * share && i < count;
    const Uint128 until = inclusive_sum(is_inside ? to_fixed_point(weight_of(i), exponent) : 0);
    if (__any_sync(kWholeWarp, left < until)) return first + first_thread(left < until);
    left -= shuffle(until, kWarp - 1);
  }
}

/// The three blocks of one draw, each found by another thread of a warp.
class Levels {
 public:
  __device__ Levels(const RandomSource& random, std::uint32_t round)
      : own_(uniform_bits(random, Purpose::kDraw, 3 * round + static_cast<std::uint32_t>(lane_of_warp() % 3))) {}

  __device__ Uint128 tile() const { return shuffle(own_, 0); }
  __device__ Uint128 lane() const { return shuffle(own_, 1); }
  __device__ Uint128 token() const { return shuffle(own_, 2); }

 private:
  Uint128 own_;
};

__device__ __forceinline__ float weight_of(float score, const WeightConstants& constants) {
  const auto weight = weight_parts<false>(score, constants);
  return weight.fraction * weight.power;
}

/// What the warps that draw from a tile tell each other.
struct LanesOfTile {
  float scores[kLinesPerTile][kLanes + 1];  // a lane's lie in different banks
  float totals[kGroupsOfLines][kLanes];
};

/// What the cutoff keeps of a tile, and what its lanes weigh: a warp for each group of lines, a thread for each lane.
template <class Element, class EditsOfRows>
__device__ __forceinline__ void weigh_lanes(const RowReader<Element, EditsOfRows>& row, int tile, Cutoff cutoff,
                                            const WeightConstants& constants, LanesOfTile& lanes) {
  const int group = warp_of_block();
  const int lane = lane_of_warp();
  if (group >= kGroupsOfLines) return;
  const int first_line = group * kLinesPerGroup;
  const std::int64_t first = std::int64_t{tile} * kTile + first_line * kLanes + lane;
  float scores[kLinesPerGroup];
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) scores[line] = row.score(first + line * kLanes);
  float total = 0.0f;
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) {
    const float score = keeps(cutoff, scores[line], first + line * kLanes) ? scores[line] : -INFINITY;
    const auto weight = weight_parts<false>(score, constants);
    total = fma(weight.fraction, weight.power, total);
    lanes.scores[first_line + line][lane] = score;
  }
  lanes.totals[group][lane] = total;
}
static_assert(kLanes == kWarp && kLinesPerTile == kWarp && kGroupsOfLines <= kWarps, "threads for lanes and for lines");

/// A token of the tile; by one warp.
__device__ __forceinline__ Candidate draw_from_lanes(const LanesOfTile& lanes, int tile,
                                                     const WeightConstants& constants, const Levels& levels) {
  float total = lanes.totals[0][lane_of_warp()];
#pragma unroll
  for (int group = 1; group < kGroupsOfLines; ++group) total += lanes.totals[group][lane_of_warp()];
  const int lane = pick_thread(static_cast<double>(total), levels.lane());
  const float score = lanes.scores[lane_of_warp()][lane];
  const int line = pick_thread(static_cast<double>(weight_of(score, constants)), levels.token());
  return {__shfl_sync(kWholeWarp, score, line), static_cast<std::int32_t>(tile * kTile + line * kLanes + lane)};
}

/// A token of those that the cutoff keeps, whose weights `kept` holds by tile: by the whole block, for its first warp.
template <class Element, class EditsOfRows>
__device__ __forceinline__ Candidate draw_within(const RowReader<Element, EditsOfRows>& row, const RowUnits& units,
                                                 const TileTable& table, const double* kept, Cutoff cutoff,
                                                 const Levels& levels, LanesOfTile& lanes) {
  TOKENDRAW_SHARED(picked, int);
  if (warp_of_block() == 0) {
    const auto weight_of = [&](int tile) { return __ldcg(kept + tile); };
    const int tile = row.tiles > 1 ? pick_index(weight_of, row.tiles, levels.tile()) : 0;
    if (lane_of_warp() == 0) picked = tile;
  }
  __syncthreads();
  const int tile = picked;
  const WeightConstants constants =
      weight_constants(reference_of(__ldcg(table.maxima + tile), units.scale), units.scale);
  weigh_lanes(row, tile, cutoff, constants, lanes);
  __syncthreads();
  return warp_of_block() == 0 ? draw_from_lanes(lanes, tile, constants, levels) : Candidate{};
}

}  // namespace tokendraw::cuda
