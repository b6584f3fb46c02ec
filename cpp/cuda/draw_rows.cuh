// SPDX-License-Identifier: Apache-2.0
// The kernel of draws: the steps of one row, one after another. Of top_p on what is no list it makes the first draw.
#pragma once

#include <climits>

#include "cuda/draw_list.cuh"
#include "cuda/draw_task.cuh"

namespace tokendraw::cuda {

/// How many of the list top_p keeps: each token before which less than its share lies. Weights are added in the total
/// order; by one warp.
__device__ __forceinline__ int count_in_list(const Candidate* list, int count, double share, const RowUnits& units) {
  const WeightConstants constants = weight_constants(units.reference, units.scale);
  double total = 0.0;
  for (int first = 0; first < count; first += kWarp) {
    const int own = first + lane_of_warp();
    const float weight = own < count ? weight_of(list[own].score, constants) : 0.0f;
    for (int i = 0; i < kWarp; ++i) total += static_cast<double>(__shfl_sync(kWholeWarp, weight, i));
  }
  const double target = share * total;
  double before_this = 0.0;
  for (int first = 0; first < count; first += kWarp) {
    const int own = first + lane_of_warp();
    const float weight = own < count ? weight_of(list[own].score, constants) : 0.0f;
    for (int i = 0; i < kWarp; ++i) {
      if (first + i > 0 && first + i < count && !(before_this < target)) return first + i;
      before_this += static_cast<double>(__shfl_sync(kWholeWarp, weight, i));
    }
  }
  return count;
}

/// What top_k keeps, and of a list what top_p keeps; by the whole block, for all of its threads.
template <class Row>
__device__ __forceinline__ Cutoff cutoff_of_top_k(const Row& row, const float* chunks, const RowParams& params,
                                                  const RowUnits& units, float max, TopKSpace& space) {
  TOKENDRAW_SHARED(kept, int);
  const auto k = static_cast<std::uint32_t>(params.top_k);
  const Cutoff cutoff = list_top_k(row, chunks, max, k, space);
  if (!params.lists() || !params.has_top_p()) return cutoff;
  if (warp_of_block() == 0) {
    const auto count = static_cast<int>(min(space.count, k));
    const int of_list = count_in_list(space.list, count, params.top_p_share, units);
    if (lane_of_warp() == 0) kept = of_list;
  }
  __syncthreads();
  return through(space.list[kept - 1]);
}

/// table.maxima from those of chunks.
__device__ __forceinline__ void merge_chunks(const float* chunks, const TileTable& table, int tiles) {
#pragma unroll 4
  for (int tile = warp_of_block(); tile < tiles; tile += kWarps) {
    const float max = max_of_warp(chunks[tile * kChunksPerTile + lane_of_warp()]);
    if (lane_of_warp() == 0) __stcg(table.maxima + tile, max);
  }
  __syncthreads();
}

/// What one thing after another is done in.
union DrawSpace {
  TopKSpace top_k;
  LanesOfTile lanes;
};

// What is drawn is in `drawn`, which every block has and its first thread writes; the team's first one has all of it.

/// One of the first `count` listed tokens, at most kMaxCounted; by the whole block.
__device__ __forceinline__ void draw_listed(TopKSpace& space, int count, const RandomSource& source,
                                            const RowUnits& units, DrawnRow& drawn) {
  weigh_runs(space, count, units);
  if (warp_of_block() != 0) return;
  const Candidate token = draw_from_runs(space.runs, units.scale, Levels(source, 0));
  if (threadIdx.x == 0) drawn.token = token;
}

/// One of the tokens that drawn.cutoff keeps: all that the steps before top_p leave. Where there is a nucleus, what
/// lies before the token is weighed next, which says whether it is inside.
template <class Element, class EditsOfRows>
__device__ __forceinline__ void draw_from_tiles(const RowReader<Element, EditsOfRows>& row, const RowParams& params,
                                                const TileTable& table, const Team& team, const RowUnits& units,
                                                const Cutoff& of_min_p, LanesOfTile& lanes, DrawnRow& drawn) {
  TOKENDRAW_SHARED(weighed, Cutoff);  // not in every thread's registers
  const bool writes = threadIdx.x == 0;
  if (writes) weighed = drawn.cutoff;
  __syncthreads();
  double* kept = table.kept;
#pragma unroll 1
  for (bool is_drawn = false;; is_drawn = true) {
    if (is_drawn || !params.needs_sums()) {
      weigh(row, units, {table.maxima, table.sums, kept}, team, weighed);
    } else {
      weigh_all(table, row.tiles, units, team);
    }
    team.sync();
    if (is_drawn) break;
    if (params.has_nucleus() && warp_of_block() == 1) {  // while the first one picks a tile
      const double mass = sum_in_order(kept, row.tiles);
      if (lane_of_warp() == 0) drawn.target = params.top_p_share * mass;
    }
    const Candidate token = draw_within(row, units, table, kept, weighed, Levels(params.source, 0), lanes);
    if (writes) drawn.token = token;
    if (!params.has_nucleus()) return;
    __syncthreads();
    if (writes) weighed = kept_before(drawn, of_min_p);
    __syncthreads();
    kept += row.tiles;
  }
  if (team.rank != 0 || warp_of_block() != 0) return;
  const double mass = sum_in_order(kept, row.tiles);
  if (!writes) return;
  drawn.mass = mass;
  drawn.is_open = !(passes(of_min_p, drawn.token) && mass < drawn.target);
}

/// A token of a valid row.
template <class Element, class EditsOfRows>
__device__ __forceinline__ void draw_token(const RowReader<Element, EditsOfRows>& row, const RowParams& params,
                                           const TileTable& table, const float* chunks, const Team& team, float max,
                                           bool describes, DrawSpace& space, DrawnRow& drawn) {
  TOKENDRAW_SHARED(of_min_p, Cutoff);
  TOKENDRAW_SHARED(units, RowUnits);  // not in every thread's registers
  const bool writes = threadIdx.x == 0;
  if (writes) drawn = {RowStatus::kValid, params.has_nucleus(), false, max, {}, kKeepFinite, params.scale, 0.0, 0.0};
  if (params.is_greedy()) {
    if (warp_of_block() != 0) return;
    const Candidate first = first_of_row(row, table, max);
    if (writes) drawn.token = first, drawn.cutoff = through(first);
    return;
  }
  if (writes) units = {params.scale, reference_of(max, params.scale)};
  __syncthreads();
  Cutoff cutoff = kKeepFinite;
  if (params.has_top_k()) {
    const RowOfChunks<Element, EditsOfRows> row_of_chunks(row);
    cutoff = cutoff_of_top_k(row_of_chunks, chunks, params, units, max, space.top_k);
  }
  const Cutoff passing = cutoff_of_min_p(params, max);
  if (!params.has_nucleus()) cutoff = tighter(cutoff, passing);
  if (writes) drawn.cutoff = cutoff, of_min_p = passing;
  if (params.has_top_k()) {
    const int count = params.lists() ? count_listed(space.top_k, cutoff) : INT_MAX;
    const bool is_few = count <= kMaxCounted;
    if (!is_few || describes) merge_chunks(chunks, table, row.tiles);
    if (is_few) return draw_listed(space.top_k, count, params.source, units, drawn);
  }
  draw_from_tiles(row, params, table, team, units, of_min_p, space.lanes, drawn);
}

/// From now on the block is all of its team, which its threads share.
__device__ __forceinline__ void go_on_alone(Team& team) {
  __syncthreads();
  if (threadIdx.x == 0) team = {0, 1};
  __syncthreads();
}

// logits [rows, vocab] -> tokens [rows]: the blocks of a row are a cluster, or never meet, or one
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    draw_rows(const __grid_constant__ DrawTask task, const __grid_constant__ EditsOfRows edits) {
  TOKENDRAW_SHARED(params, RowParams);
  TOKENDRAW_SHARED(space, DrawSpace);
  TOKENDRAW_SHARED(drawn, DrawnRow);
  // Not in every thread's registers:
  TOKENDRAW_SHARED(table, TileTable);
  TOKENDRAW_SHARED(team, Team);
  const unsigned blocks = task.geometry.blocks;
  const std::int64_t index = blockIdx.x / blocks;
  const RowReader<Element, EditsOfRows> row(task.rows, index, edits);

  if (warp_of_block() == 0) read_params(task, index, &params);
  if (threadIdx.x == 0) {
    table = task.tables.of(index, row.tiles);
    team = {blockIdx.x % blocks, blocks};
  }
  __syncthreads();
  if (!params.legal) {
    if (team.rank == 0 && threadIdx.x == 0) write_invalid(task, index, RowStatus::kIllegal);
    return;
  }

  const RowOfChunks<Element, EditsOfRows> row_of_chunks(row);
  float* const chunks = task.chunks + index * row_of_chunks.chunks();

  if (params.has_top_k()) {
    scan_chunks(row_of_chunks, chunks, team.rank, blocks);
  } else if (params.needs_sums()) {
    summarize<true>(row, params.scale, table, team);
  } else {
    summarize<false>(row, params.scale, table, team);
  }
  if (task.geometry.meeting == Meeting::kSplit) {
    if (!is_last_block(task.arrivals + index, blocks)) return;
    go_on_alone(team);
  } else {
    team.sync();
  }
  if (!params.looks_again()) {
    if (team.rank != 0) return;
    go_on_alone(team);
  }
  const float max = params.has_top_k() ? max_of_chunks(chunks, row_of_chunks.chunks()) : max_of_row(table, row.tiles);
  const RowStatus status = status_of(max);
  if (status != RowStatus::kValid) {
    if (team.rank == 0 && threadIdx.x == 0) write_invalid(task, index, status);
    return;
  }
  draw_token(row, params, table, chunks, team, max, task.describes, space, drawn);
  if (team.rank == 0 && threadIdx.x == 0) write_drawn(task, index, drawn);
}

}  // namespace tokendraw::cuda
