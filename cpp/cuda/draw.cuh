// SPDX-License-Identifier: Apache-2.0
// A token by three picks among integers: its tile, its lane, its line. One warp makes each of them, with the sums of
// core/fixed_point.h.
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

/// Of the scores of one lane, which is the same for all threads, the one in the line of this thread's number.
__device__ __forceinline__ float score_of_line(const Part& part, int lane) {
  const int column = lane % 4;
  float score = -INFINITY;
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) {
    const float (&scores)[4] = part.score[line];
    const float own = column < 2 ? (column == 0 ? scores[0] : scores[1]) : (column == 2 ? scores[2] : scores[3]);
    const int holder = lane_of_warp() / kLinesPerGroup * kThreadsPerLine + lane / 4;
    const float other = __shfl_sync(kWholeWarp, own, holder);
    if (lane_of_warp() % kLinesPerGroup == line) score = other;
  }
  return score;
}
static_assert(kThreadsPerLine == kLinesPerGroup && kLinesPerTile == kWarp, "a thread for each line");

__device__ __forceinline__ float weight_of(float score, const WeightConstants& constants) {
  const auto weight = weight_parts<false>(score, constants);
  return weight.fraction * weight.power;
}

/// A token of the tile that the cutoff keeps; by one warp.
template <class Element, class EditsOfRows>
__device__ __forceinline__ Candidate draw_in_tile(const RowReader<Element, EditsOfRows>& row, const Scale& scale,
                                                  int tile, float tile_max, Cutoff cutoff, const Levels& levels) {
  Part part = row.tile(tile);
  if (!keeps_all_finite(cutoff)) apply_cutoff(part, tile, cutoff);
  const WeightConstants constants = weight_constants(reference_of(tile_max, scale), scale);
  const float total = lane_total<false>(part, constants);
  const float of_lane = __shfl_sync(kWholeWarp, total, holder_of_total(lane_of_warp()));  // thread t takes lane t's
  const int lane = pick_thread(static_cast<double>(of_lane), levels.lane());
  const float score = score_of_line(part, lane);
  const int line = pick_thread(static_cast<double>(weight_of(score, constants)), levels.token());
  return {__shfl_sync(kWholeWarp, score, line), static_cast<std::int32_t>(tile * kTile + line * kLanes + lane)};
}

/// A token of those that the cutoff keeps, whose weights `kept` holds by tile; by one warp.
template <class Element, class EditsOfRows>
__device__ __forceinline__ Candidate draw_within(const RowReader<Element, EditsOfRows>& row, const RowUnits& units,
                                                 const TileTable& table, const double* kept, Cutoff cutoff,
                                                 const Levels& levels) {
  const auto weight_of = [&](int tile) { return __ldcg(kept + tile); };
  const int tile = row.tiles > 1 ? pick_index(weight_of, row.tiles, levels.tile()) : 0;
  return draw_in_tile(row, units.scale, tile, __ldcg(table.maxima + tile), cutoff, levels);
}

}  // namespace tokendraw::cuda
