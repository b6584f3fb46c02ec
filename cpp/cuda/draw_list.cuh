// SPDX-License-Identifier: Apache-2.0
// A token of a few that are listed: no tile is read again. Sums are those of the tiles, without their zeros.
#pragma once

#include "cuda/draw.cuh"
#include "cuda/top_k.cuh"

namespace tokendraw::cuda {

/// How many of the ordered list the cutoff keeps; by the whole block.
__device__ __forceinline__ int count_listed(const TopKSpace& space, Cutoff cutoff) {
  const auto found = static_cast<int>(min(space.count, static_cast<std::uint32_t>(kMaxFound)));
  int own = 0;
  for (int i = static_cast<int>(threadIdx.x); i < found; i += kThreads) {
    own += keeps(cutoff, space.list[i].score, space.list[i].token) ? 1 : 0;
  }
  return merged_in_block(own, [](int a, int b) { return a + b; });
}

/// Puts the first `count` of space.list, at most kMaxCounted, into space.runs; by the whole block.
__device__ __forceinline__ void find_runs(TopKSpace& space, int count) {
  RunsOfTokens& runs = space.runs;
  order_by_counting(space.list, count, runs.tokens, [](Candidate a, Candidate b) { return a.token < b.token; });
  const auto own = static_cast<int>(threadIdx.x);
  const auto tile_of = [&](int i) { return runs.tokens[i].token / kTile; };
  const bool begins = own < count && (own == 0 || tile_of(own - 1) != tile_of(own));
  const auto run = static_cast<int>(count_before_in_block(begins ? 1u : 0u));
  if (begins) runs.begin[run] = own;
  if (own == count - 1) {
    runs.count = begins ? run + 1 : run;
    runs.begin[runs.count] = count;
  }
  __syncthreads();
}

/// The tokens of one tile, as a warp works on them: a thread for each lane.
class TileOfList {
 public:
  __device__ __forceinline__ TileOfList(const RunsOfTokens& runs, int run, const Scale& scale)
      : tokens_(runs.tokens + runs.begin[run]), count_(runs.begin[run + 1] - runs.begin[run]) {
    float max = -INFINITY;
    for (int i = lane_of_warp(); i < count_; i += kWarp) max = larger(tokens_[i].score, max);
    max_ = max_of_warp(max);  // the tile's too: what is kept is a beginning of the order
    constants_ = weight_constants(reference_of(max_, scale), scale);
  }

  __device__ float max() const { return max_; }

  /// What the thread's lane weighs, with the additions of lane_total() of a tile.
  __device__ __forceinline__ float lane_total() const {
    float total = 0.0f, of_group = 0.0f;
    int group = 0;
    for (int i = 0; i < count_; ++i) {
      const Candidate listed = tokens_[i];
      if (listed.token % kLanes != lane_of_warp()) continue;
      const int own_group = line_of(listed) / kLinesPerGroup;
      if (own_group != group) total += of_group, of_group = 0.0f;
      group = own_group;
      const auto weight = weight_parts<false>(listed.score, constants_);
      of_group = fma(weight.fraction, weight.power, of_group);
    }
    return total + of_group;
  }

  /// One of the tokens.
  __device__ __forceinline__ Candidate draw(const Levels& levels) const {
    const int lane = pick_thread(static_cast<double>(lane_total()), levels.lane());
    Candidate own{-INFINITY, 0};
    for (int i = 0; i < count_; ++i) {
      const Candidate listed = tokens_[i];
      if (listed.token % kLanes == lane && line_of(listed) == lane_of_warp()) own = listed;
    }
    const int line = pick_thread(static_cast<double>(weight_of(own.score, constants_)), levels.token());
    return {__shfl_sync(kWholeWarp, own.score, line), __shfl_sync(kWholeWarp, own.token, line)};
  }

 private:
  __device__ static int line_of(Candidate listed) { return listed.token % kTile / kLanes; }

  const Candidate* tokens_;
  int count_;
  float max_;
  WeightConstants constants_;
};
static_assert(kLinesPerTile == kWarp && kLanes == kWarp, "a thread for each lane, and for each line of one");

/// What a token weighs in units of the row, alone in its tile.
__device__ __forceinline__ double weight_alone(float score, const RowUnits& units) {
  const WeightConstants constants = weight_constants(reference_of(score, units.scale), units.scale);
  return units.scaled(static_cast<double>(weight_of(score, constants)), score);
}

/// Finds the runs of the first `count` of space.list, at most kMaxCounted, and what they weigh; by the whole block.
__device__ __forceinline__ void weigh_runs(TopKSpace& space, int count, const RowUnits& units) {
  find_runs(space, count);
  RunsOfTokens& runs = space.runs;
  for (int run = static_cast<int>(threadIdx.x); run < runs.count; run += kThreads) {
    if (runs.is_one(run)) runs.sums[run] = weight_alone(runs.first(run).score, units);
  }
  for (int run = warp_of_block(); run < runs.count; run += kWarps) {
    if (runs.is_one(run)) continue;
    const TileOfList tile(runs, run, units.scale);
    auto sum = static_cast<double>(tile.lane_total());
#pragma unroll
    for (int apart = kWarp / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, apart);
    if (lane_of_warp() == 0) runs.sums[run] = units.scaled(sum, tile.max());
  }
  __syncthreads();
}

/// One of the tokens in the runs; by one warp.
__device__ __forceinline__ Candidate draw_from_runs(const RunsOfTokens& runs, const Scale& scale,
                                                    const Levels& levels) {
  const auto sum_of = [&](int run) { return runs.sums[run]; };
  const int run = runs.count > 1 ? pick_index(sum_of, runs.count, levels.tile()) : 0;
  return runs.is_one(run) ? runs.first(run) : TileOfList(runs, run, scale).draw(levels);
}

}  // namespace tokendraw::cuda
