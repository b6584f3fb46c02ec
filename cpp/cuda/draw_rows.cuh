// SPDX-License-Identifier: Apache-2.0
// The kernel of draws: the steps of one row, one after another.
#pragma once

#include "cuda/draw.cuh"
#include "cuda/top_k.cuh"
#include "cuda/top_p.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

enum RealParameter : int { kTemperature, kTopP, kMinP, kRealParameters };
enum IntegerParameter : int { kTopK, kSeed, kStream, kStep, kIntegerParameters };

/// What a draw leaves of a row for its description.
struct DrawnRow {
  RowStatus status;
  bool is_nucleus;  // top_p was applied to what is no list
  float max;
  Candidate token;
  Cutoff cutoff;  // of the kept set
  Scale scale;
};

struct DrawTask {
  Rows rows;
  Geometry geometry;
  Values<double> reals[kRealParameters];
  Values<std::uint64_t> integers[kIntegerParameters];
  bool stream_is_row = false;
  void* tokens = nullptr;  // int32 or int64
  bool wide_tokens = false;
  RowStatus* status = nullptr;
  std::uint32_t* arrivals = nullptr;
  float* maxima = nullptr;
  double* sums = nullptr;
  double* kept = nullptr;
  float* chunks = nullptr;
  DrawnRow* drawn = nullptr;  // [rows], where rows are described

  __device__ TileTable table_of(std::int64_t row, std::int64_t tiles) const {
    return {maxima + row * tiles, sums + row * tiles, kept + 2 * row * tiles};
  }
};

/// What the steps of one row need, with the tolerances of the contract applied.
struct RowParams {
  bool legal;
  double temperature;
  std::int64_t top_k;
  double top_p_share;
  double min_p_ratio;
  RandomSource source;
  Scale scale;

  __device__ bool is_greedy() const { return !(temperature > 0.0); }
  __device__ bool has_top_k() const { return !is_greedy() && top_k > 0; }
  __device__ bool has_top_p() const { return top_p_share < 1.0; }
  __device__ bool lists() const { return has_top_k() && top_k <= kMaxListed; }
  __device__ bool has_min_p() const { return min_p_ratio > 0.0; }

  /// Whether some step, or the draw, asks what all finite tokens weigh.
  __device__ bool needs_sums() const { return !is_greedy() && !has_top_k() && (has_top_p() || !has_min_p()); }
};

/// By one warp. Each thread reads one parameter: they arrive together.
__device__ __forceinline__ void read_params(const DrawTask& task, std::int64_t row, RowParams* params) {
  const int own = lane_of_warp();
  double real = 0.0;
  std::uint64_t integer = 0;
  if (own < kRealParameters) real = task.reals[own].at(row);
  if (own >= kRealParameters && own < kRealParameters + kIntegerParameters) {
    integer = task.integers[own - kRealParameters].at(row);
  }
  const auto real_of = [&](int parameter) { return __shfl_sync(kWholeWarp, real, parameter); };
  const auto integer_of = [&](int parameter) {
    return static_cast<std::uint64_t>(
        __shfl_sync(kWholeWarp, static_cast<unsigned long long>(integer), kRealParameters + parameter));
  };
  const double temperature = real_of(kTemperature), top_p = real_of(kTopP), min_p = real_of(kMinP);
  const auto top_k = static_cast<std::int64_t>(integer_of(kTopK));
  const std::uint64_t seed = integer_of(kSeed), given_stream = integer_of(kStream), step = integer_of(kStep);
  const std::uint64_t stream = task.stream_is_row ? static_cast<std::uint64_t>(row) : given_stream;
  if (own != 0) return;
  params->legal = is_finite_not_negative(temperature) && is_share(top_p) && is_probability(min_p) &&
                  is_not_negative(top_k) && stream >> kStreamBits == 0 && step >> kStepBits == 0;
  params->temperature = temperature;
  params->top_k = limiting_top_k(top_k, task.rows.vocab);
  params->top_p_share = share_to_reach(top_p, false);
  params->min_p_ratio = lowered(min_p);
  params->source = {seed, stream, static_cast<std::uint32_t>(step)};
  params->scale = make_scale(temperature > 0.0 ? temperature : 1.0);
}

/// By one thread.
__device__ __forceinline__ void write_drawn(const DrawTask& task, std::int64_t row, const DrawnRow& drawn) {
  const std::int32_t token = drawn.token.token;
  if (task.status) task.status[row] = drawn.status;
  if (task.drawn) task.drawn[row] = drawn;
  if (!task.tokens) return;
  if (task.wide_tokens) {
    static_cast<std::int64_t*>(task.tokens)[row] = token;
  } else {
    static_cast<std::int32_t*>(task.tokens)[row] = token;
  }
}

__device__ __forceinline__ void write_invalid(const DrawTask& task, std::int64_t row, RowStatus status) {
  DrawnRow drawn{};
  drawn.status = status;
  drawn.token.token = -1;
  write_drawn(task, row, drawn);
}

/// The scores that min_p keeps, whatever was kept before: it always keeps the largest.
__device__ __forceinline__ Cutoff cutoff_of_min_p(const RowParams& params, float max) {
  if (!params.has_min_p()) return kKeepFinite;
  const double distance = -log_double(params.min_p_ratio) / log_slope(params.scale);
  return cutoff_from(static_cast<double>(max) - distance, max);
}

/// What the threads of a block tell each other.
union DrawScratch {
  TopKSpace top_k;
  NucleusScratch nucleus;
};

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
  if (!params.lists()) return cutoff_of_top_k(row, chunks, max, k, space);
  const int count = select_top_k(row, chunks, max, k, space);
  if (!params.has_top_p()) return through(space.list[count - 1]);
  if (warp_of_block() == 0) {
    const int of_list = count_in_list(space.list, count, params.top_p_share, units);
    if (lane_of_warp() == 0) kept = of_list;
  }
  __syncthreads();
  return through(space.list[kept - 1]);
}

/// table.maxima from those of chunks.
template <int kWidth>
__device__ __forceinline__ void merge_chunks(const float* chunks, const TileTable& table, std::int64_t tiles) {
  constexpr int kChunks = kChunksPerTile<kWidth>;
  for (std::int64_t tile = warp_of_block(); tile < tiles; tile += kWarps) {
    const float max = max_of_warp(chunks[tile * kChunks + lane_of_warp() % kChunks]);
    if (lane_of_warp() == 0) __stcg(table.maxima + tile, max);
  }
  __syncthreads();
}

struct DrawnToken {
  Candidate token;
  Cutoff cutoff;  // of the kept set, where it was asked for
};

/// A token of a valid row: in the first warp, or in all threads of the team where top_p has its say.
template <class Element, class EditsOfRows>
__device__ __forceinline__ DrawnToken draw_token(const RowReader<Element, EditsOfRows>& row, const RowParams& params,
                                                 const TileTable& table, const float* chunks, const Team& team,
                                                 float max, bool describes, DrawScratch& scratch) {
  const bool is_first_warp = warp_of_block() == 0;
  if (params.is_greedy()) {
    const Candidate first = is_first_warp ? first_of_row(row, table, max) : Candidate{};
    return {first, through(first)};
  }
  const RowUnits units{params.scale, reference_of(max, params.scale)};
  const Cutoff after_top_p = cutoff_of_min_p(params, max);
  Cutoff before_top_p = kKeepFinite;
  if (params.has_top_k()) {
    const RowOfChunks<Element, EditsOfRows> row_of_chunks(row);
    before_top_p = cutoff_of_top_k(row_of_chunks, chunks, params, units, max, scratch.top_k);
    merge_chunks<kWidthOf<Element>>(chunks, table, row.tiles);
  }
  const bool waits = params.has_top_p() && !params.lists();
  Cutoff cutoff = waits ? before_top_p : tighter(before_top_p, after_top_p);
  if (params.needs_sums()) {
    weigh_all(table, row.tiles, units, team);
  } else {
    weigh(row, units, table, team, cutoff);
  }
  team.sync();

  const double* kept = table.kept;
  for (std::uint32_t round = 0;; ++round) {
    Candidate token{};
    if (is_first_warp) token = draw_within(row, units, table, kept, cutoff, Levels(params.source, round));
    if (!waits || round > 0) return {token, cutoff};

    if (is_first_warp) {
      const double mass = sum_in_order(kept, row.tiles);
      if (lane_of_warp() == 0) scratch.nucleus.token = token, scratch.nucleus.target = params.top_p_share * mass;
    }
    __syncthreads();
    token = scratch.nucleus.token;
    const double target = scratch.nucleus.target;
    // The kept set is what min_p leaves of the nucleus: all of it, where it weighs less than the target.
    const bool survives = keeps(after_top_p, token.score, token.token);
    cutoff = tighter(before_top_p, survives ? up_to(token) : after_top_p);
    Nucleus<Element, EditsOfRows> nucleus(row, units, table, team, max, scratch.nucleus);
    nucleus.weigh_both({cutoff, cutoff}, false);
    const double mass = scratch.nucleus.masses_of[0];
    const float floor = floor_of_nucleus(units, max, row.vocab, params.top_p_share);
    if (!(mass < target)) {
      cutoff = nucleus.find({kKeepNothing, cutoff}, 0.0, target, floor);
    } else if (survives) {
      if (describes) cutoff = nucleus.find_in({cutoff, tighter(before_top_p, after_top_p)}, mass, target, floor);
      return {token, cutoff};
    }
    kept = table.kept + row.tiles;
  }
}

// logits [rows, vocab] -> tokens [rows]: the blocks of a row are a cluster, or never meet, or one
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads)
    draw_rows(const __grid_constant__ DrawTask task, const __grid_constant__ EditsOfRows edits) {
  TOKENDRAW_SHARED(params, RowParams);
  TOKENDRAW_SHARED(scratch, DrawScratch);
  const unsigned blocks = task.geometry.blocks;
  const std::int64_t index = blockIdx.x / blocks;
  const unsigned rank = blockIdx.x % blocks;
  const RowReader<Element, EditsOfRows> row(task.rows, index, edits);
  const TileTable table = task.table_of(index, row.tiles);

  if (warp_of_block() == 0) read_params(task, index, &params);
  __syncthreads();
  if (!params.legal) {
    if (rank == 0 && threadIdx.x == 0) write_invalid(task, index, RowStatus::kIllegal);
    return;
  }

  const RowOfChunks<Element, EditsOfRows> row_of_chunks(row);
  float* chunks = task.chunks + index * row_of_chunks.chunks();

  Team team{rank, blocks};
  if (params.has_top_k()) {
    scan_chunks(row_of_chunks, chunks, rank, blocks);
  } else if (params.needs_sums()) {
    summarize<true>(row, params.scale, table, team);
  } else {
    summarize<false>(row, params.scale, table, team);
  }
  if (task.geometry.meeting == Meeting::kSplit) {
    if (!is_last_block(task.arrivals + index, blocks)) return;
    team = {0, 1};
  }
  team.sync();

  if (params.has_top_k()) {  // what is left of the chunks is one block's work
    if (team.rank != 0) return;
    team = {0, 1};
  }
  const float max = params.has_top_k() ? max_of_chunks(chunks, row_of_chunks.chunks()) : max_of_row(table, row.tiles);
  const RowStatus status = status_of(max);
  if (status != RowStatus::kValid) {
    if (team.rank == 0 && threadIdx.x == 0) write_invalid(task, index, status);
    return;
  }
  const bool describes = task.drawn != nullptr;
  const DrawnToken drawn = draw_token(row, params, table, chunks, team, max, describes, scratch);
  if (team.rank != 0 || threadIdx.x != 0) return;
  const bool is_nucleus = params.has_top_p() && !params.is_greedy() && !params.lists();
  write_drawn(task, index, {RowStatus::kValid, is_nucleus, max, drawn.token, drawn.cutoff, params.scale});
}

}  // namespace tokendraw::cuda
