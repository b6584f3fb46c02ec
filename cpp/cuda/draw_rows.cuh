// SPDX-License-Identifier: Apache-2.0
// The kernel of draws: the steps of one row, one after another.
#pragma once

#include "cuda/draw.cuh"
#include "cuda/top_p.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

enum RealParameter : int { kTemperature, kTopP, kMinP, kRealParameters };
enum IntegerParameter : int { kTopK, kSeed, kStream, kStep, kIntegerParameters };

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
  __device__ bool has_top_k() const { return top_k > 0; }
  __device__ bool has_top_p() const { return top_p_share < 1.0; }
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

/// Writes what is known of the row; by one thread.
__device__ __forceinline__ void write_token(const DrawTask& task, std::int64_t row, std::int32_t token,
                                            RowStatus status) {
  if (task.status) task.status[row] = status;
  if (!task.tokens) return;
  if (task.wide_tokens) {
    static_cast<std::int64_t*>(task.tokens)[row] = token;
  } else {
    static_cast<std::int32_t*>(task.tokens)[row] = token;
  }
}

__device__ __forceinline__ void write_invalid(const DrawTask& task, std::int64_t row, RowStatus status) {
  write_token(task, row, -1, status);
}

/// The scores that min_p keeps, whatever was kept before: it always keeps the largest.
__device__ __forceinline__ Cutoff cutoff_of_min_p(const RowParams& params, float max) {
  if (!params.has_min_p()) return kKeepFinite;
  const double distance = -log_double(params.min_p_ratio) / log_slope(params.scale);
  return cutoff_from(static_cast<double>(max) - distance, max);
}

/// A token of a valid row: in the first warp, or in all threads of the team where top_p has its say.
template <class Element, class EditsOfRows>
__device__ __forceinline__ Candidate draw_token(const RowReader<Element, EditsOfRows>& row, const RowParams& params,
                                                const TileTable& table, const Team& team, float max,
                                                NucleusScratch& scratch) {
  const bool is_first_warp = warp_of_block() == 0;
  if (params.is_greedy()) return is_first_warp ? first_of_row(row, table, max) : Candidate{};
  const RowUnits units{params.scale, reference_of(max, params.scale)};
  const Cutoff after_top_p = cutoff_of_min_p(params, max);
  const Cutoff before_top_p = kKeepFinite;
  Cutoff cutoff = params.has_top_p() ? before_top_p : tighter(before_top_p, after_top_p);
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
    if (!params.has_top_p() || round > 0) return token;

    if (is_first_warp) {
      const double mass = sum_in_order(kept, row.tiles);
      if (lane_of_warp() == 0) scratch.token = token, scratch.target = params.top_p_share * mass;
    }
    __syncthreads();
    token = scratch.token;
    const double target = scratch.target;
    // The kept set is what min_p leaves of the nucleus: all of it, where it weighs less than the target.
    const bool survives = keeps(after_top_p, token.score, token.token);
    cutoff = tighter(before_top_p, survives ? up_to(token) : after_top_p);
    Nucleus<Element, EditsOfRows> nucleus(row, units, table, team, max, scratch);
    nucleus.weigh_both({cutoff, cutoff}, false);
    if (scratch.masses_of[0] < target) {
      if (survives) return token;
    } else {
      const float floor = floor_of_nucleus(units, max, row.vocab, params.top_p_share);
      cutoff = nucleus.find({kKeepNothing, cutoff}, 0.0, target, floor);
    }
    kept = table.kept + row.tiles;
  }
}

// logits [rows, vocab] -> tokens [rows]: the blocks of a row are a cluster, or never meet, or one
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads)
    draw_rows(const __grid_constant__ DrawTask task, const __grid_constant__ EditsOfRows edits) {
  TOKENDRAW_SHARED(params, RowParams);
  TOKENDRAW_SHARED(scratch, NucleusScratch);
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

  Team team{rank, blocks};
  if (params.needs_sums()) {
    summarize<true>(row, params.scale, table, team);
  } else {
    summarize<false>(row, params.scale, table, team);
  }
  if (task.geometry.meeting == Meeting::kSplit) {
    if (!is_last_block(task.arrivals + index, blocks)) return;
    team = {0, 1};
  }
  team.sync();

  const float max = max_of_row(table, row.tiles);
  const RowStatus status = status_of(max);
  if (status != RowStatus::kValid) {
    if (team.rank == 0 && threadIdx.x == 0) write_invalid(task, index, status);
    return;
  }
  const Candidate token = draw_token(row, params, table, team, max, scratch);
  if (team.rank == 0 && threadIdx.x == 0) write_token(task, index, token.token, RowStatus::kValid);
}

}  // namespace tokendraw::cuda
