// SPDX-License-Identifier: Apache-2.0
// The kernel of transforms: which tokens the steps keep, what they weigh together, and a row written from that.
#pragma once

#include "cuda/tile_sums.cuh"
#include "cuda/top_k.cuh"
#include "cuda/top_p.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

struct TransformTask {
  Rows rows;
  Transform transform = Transform::kScores;
  Values<double> temperature;
  Values<double> top_p;
  Values<double> min_p;
  Values<std::int64_t> top_k;
  float* out = nullptr;  // [rows, vocab]
  RowStatus* status = nullptr;
  TileTables tables;
  float* chunks = nullptr;
};

/// What the steps of one row need, with the tolerances of the contract applied.
struct FilterOfRow {
  bool legal;
  double temperature;
  std::int64_t top_k;  // 0: off
  double top_p_share;
  double min_p_ratio;
  Scale scale;

  __device__ bool is_greedy() const { return !(temperature > 0.0); }
  __device__ bool has_list() const { return top_k > 0 && top_k <= kMaxListed; }
};

/// By one thread.
__device__ __forceinline__ void read_filter(const TransformTask& task, std::int64_t row, FilterOfRow* filter) {
  const double temperature = task.temperature.at(row);
  const double top_p = task.top_p.at(row);
  const double min_p = task.min_p.at(row);
  const std::int64_t top_k = task.top_k.at(row);
  filter->legal =
      is_finite_not_negative(temperature) && is_not_negative(top_k) && is_share(top_p) && is_probability(min_p);
  filter->temperature = temperature;
  filter->top_k = limiting_top_k(top_k, task.rows.vocab);
  filter->top_p_share = share_to_reach(top_p, false);
  filter->min_p_ratio = lowered(min_p);
  filter->scale = make_scale(temperature > 0.0 ? temperature : 1.0);
}

/// Never at the same time.
union FilterSpace {
  TopKSpace top_k;
  NucleusScratch nucleus;
};

/// What is left of a row.
struct KeptTokens {
  Cutoff cutoff;
  double mass;
  bool is_one;  // token
};

// ---- lists ----

__device__ __forceinline__ double weight_in_row(const RowUnits& units, float score) {
  const auto weight = weight_parts<false>(score, weight_constants(units.reference, units.scale));
  return static_cast<double>(weight.fraction * weight.power);
}

/// How many of `count` tokens of an ordered list come before the share of the target is reached; by one warp.
__device__ __forceinline__ int count_top_p(const Candidate* list, int count, const RowUnits& units, double target) {
  double before_this = weight_in_row(units, list[0].score);
  int kept = 1;
  for (int first = 1; first < count; first += kWarp) {
    const int own = first + lane_of_warp();
    const double weight = own < count ? weight_in_row(units, list[own].score) : 0.0;
    for (int i = 0; i < kWarp && first + i < count; ++i) {
      if (!(before_this < target)) return kept;
      before_this += __shfl_sync(kWholeWarp, weight, i);
      ++kept;
    }
  }
  return kept;
}

__device__ __forceinline__ double mass_of_list(const Candidate* list, int count, const RowUnits& units) {
  return sum_of_tiles(count, [&](int slot) { return weight_in_row(units, list[slot].score); });
}

/// What top_p and min_p keep of an ordered list; by one warp.
__device__ __forceinline__ KeptTokens filter_list(const Candidate* list, int count, const FilterOfRow& filter,
                                                  const RowUnits& units) {
  if (filter.top_p_share < 1.0) {
    count = count_top_p(list, count, units, filter.top_p_share * mass_of_list(list, count, units));
  }
  const Cutoff after = cutoff_of_min_p(filter.min_p_ratio, units.scale, list[0].score);
  while (count > 1 && !keeps(after, list[count - 1].score, list[count - 1].token)) --count;
  return {through(list[count - 1]), mass_of_list(list, count, units), count == 1};
}

// ---- any sets ----

/// All tokens of one row that its steps keep; every function is for all threads of the block.
template <class Element, class EditsOfRows>
struct Filter {
  const RowReader<Element, EditsOfRows>& row;
  const FilterOfRow& params;
  const RowUnits& units;
  const TileTable& table;
  float max;
  float* chunks;
  FilterSpace& space;
  KeptTokens& shared;
  Team team{0, 1};

  __device__ __forceinline__ KeptTokens find() const {
    if (params.is_greedy()) return find_first();
    const RowOfChunks<Element, EditsOfRows> by_chunks(row);
    if (params.top_k > 0) {
      scan_chunks(by_chunks, chunks, 0, 1);
      __syncthreads();
    }
    if (params.has_list()) {
      const int count = select_top_k(by_chunks, chunks, max, static_cast<std::uint32_t>(params.top_k), space.top_k);
      if (warp_of_block() == 0) {
        const KeptTokens kept = filter_list(space.top_k.list, count, params, units);
        if (lane_of_warp() == 0) shared = kept;
      }
      __syncthreads();
      return shared;
    }
    Cutoff cutoff = kKeepFinite;
    if (params.top_k > 0) {
      cutoff = cutoff_of_top_k(by_chunks, chunks, max, static_cast<std::uint32_t>(params.top_k), space.top_k);
    }
    if (params.top_p_share < 1.0) cutoff = nucleus_of(cutoff);
    return weighed(tighter(cutoff, cutoff_of_min_p(params.min_p_ratio, units.scale, max)));
  }

 private:
  __device__ __forceinline__ KeptTokens find_first() const {
    if (warp_of_block() == 0) {
      const Candidate first = first_of_row(row, table, max);
      if (lane_of_warp() == 0) shared = {through(first), 1.0, true};
    }
    __syncthreads();
    return shared;
  }

  __device__ __forceinline__ double mass_of(Cutoff cutoff) const {
    weigh(row, units, table, team, cutoff);
    __syncthreads();
    if (warp_of_block() == 0) {
      const double mass = sum_in_order(table.kept, row.tiles);
      if (lane_of_warp() == 0) shared.mass = mass;
    }
    __syncthreads();
    return shared.mass;
  }

  __device__ __forceinline__ Cutoff nucleus_of(Cutoff base) const {
    const double target = params.top_p_share * mass_of(base);
    Nucleus<Element, EditsOfRows> nucleus(row, units, table, team, max, space.nucleus);
    const float floor = floor_of_nucleus(units, max, row.vocab, params.top_p_share);
    const Cutoff cutoff = nucleus.find({kKeepNothing, base}, 0.0, target, floor);
    __syncthreads();
    return cutoff;
  }

  __device__ __forceinline__ KeptTokens weighed(Cutoff cutoff) const {
    const double mass = mass_of(cutoff);
    // Others weigh next to nothing, or there are none: that is worth a look.
    const bool may_be_one = mass < 1.001 * weight_in_row(units, max);
    const bool is_one = may_be_one && count_in_block(cutoff) == 1;
    return {cutoff, mass, is_one};
  }

  __device__ __forceinline__ std::uint32_t count_in_block(Cutoff cutoff) const {
    std::uint32_t count = 0;
    for_each_tile_from(
        cutoff.score, table, row.tiles, team,
        [&](int tile, float) {
          Part part = row.tile(tile);
          count += static_cast<std::uint32_t>(count_kept_of_part(part, tile, cutoff));
        },
        [](int) {});
    return merged_in_block(count, [](std::uint32_t a, std::uint32_t b) { return a + b; });
  }
};

// ---- results ----

/// (score - origin) * slope - offset in float64, rounded once; a kept score is never -inf.
struct LineOfScores {
  double origin;
  double slope;
  double offset;

  __device__ float of(float score) const {
    if (score < -FLT_MAX) return -INFINITY;
    const double value = (static_cast<double>(score) - origin) * slope - offset;
    return static_cast<float>(value < static_cast<double>(-FLT_MAX) ? static_cast<double>(-FLT_MAX) : value);
  }
};

/// out of the scores of every tile that the cutoff keeps, -inf elsewhere: value_of(tile) is a function of them.
template <class Element, class EditsOfRows, class ValueOf>
__device__ __forceinline__ void write_row(const RowReader<Element, EditsOfRows>& row, Cutoff cutoff, float* out,
                                          ValueOf value_of) {
  const Team team{0, 1};
  const bool aligned = is_aligned(out);
  for (int tile = team.worker(); tile < row.tiles; tile += team.workers()) {
    Part part = row.tile(tile);
    apply_cutoff(part, tile, cutoff);
    const auto value = value_of(tile);
    const bool whole = aligned && std::int64_t{tile + 1} * kTile <= row.vocab;
    const std::int64_t first = first_token(tile);
#pragma unroll
    for (int line = 0; line < kLinesPerGroup; ++line) {
      const float (&scores)[4] = part.score[line];
      const std::int64_t token = first + line * kLanes;
      if (whole) {
        *reinterpret_cast<float4*>(out + token) =
            make_float4(value(scores[0]), value(scores[1]), value(scores[2]), value(scores[3]));
      } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (token + i < row.vocab) out[token + i] = value(scores[i]);
        }
      }
    }
  }
}

template <class Element, class EditsOfRows>
__device__ __forceinline__ void write_probs(const RowReader<Element, EditsOfRows>& row, const RowUnits& units,
                                            const TileTable& table, const KeptTokens& kept, float* out) {
  for (int tile = static_cast<int>(threadIdx.x); tile < row.tiles; tile += kThreads) {
    const float max = __ldcg(table.maxima + tile);
    __stcg(table.kept + tile, max < -FLT_MAX ? 0.0 : units.factor_of(max) / kept.mass);
  }
  __syncthreads();
  write_row(row, kept.cutoff, out, [&](int tile) {
    const float max = __ldcg(table.maxima + tile);
    const double factor = __ldcg(table.kept + tile);
    const WeightConstants constants =
        weight_constants(reference_of(max < -FLT_MAX ? 0.0f : max, units.scale), units.scale);
    return [=](float score) {
      const auto weight = weight_parts<false>(score, constants);
      return static_cast<float>(static_cast<double>(weight.fraction * weight.power) * factor);
    };
  });
}

template <class Element, class EditsOfRows>
__device__ __forceinline__ void write_kept(Transform transform, const RowReader<Element, EditsOfRows>& row,
                                           const FilterOfRow& params, const RowUnits& units, const TileTable& table,
                                           float max, const KeptTokens& kept, float* out) {
  if (transform == Transform::kProbs && !kept.is_one) return write_probs(row, units, table, kept, out);
  if (kept.is_one) {
    const bool probs = transform == Transform::kProbs;
    return write_row(row, kept.cutoff, out, [=](int) {
      return [=](float score) {
        const float one = transform == Transform::kScores ? score - max : probs ? 1.0f : 0.0f;
        return score < -FLT_MAX ? (probs ? 0.0f : -INFINITY) : one;
      };
    });
  }
  LineOfScores line{static_cast<double>(max), 1.0 / params.temperature, 0.0};
  if (line.slope > DBL_MAX) line.slope = DBL_MAX;
  if (transform == Transform::kLogprobs) {
    line = {static_cast<double>(units.reference.base), log_slope(units.scale), log_offset(units.reference, kept.mass)};
  }
  write_row(row, kept.cutoff, out, [=](int) { return [=](float score) { return line.of(score); }; });
}

// logits [rows, vocab] -> out [rows, vocab]; one block per row
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    transform_rows(const __grid_constant__ TransformTask task, const __grid_constant__ EditsOfRows edits) {
  TOKENDRAW_SHARED(space, FilterSpace);
  TOKENDRAW_SHARED(shared, KeptTokens);
  TOKENDRAW_SHARED(params, FilterOfRow);
  TOKENDRAW_SHARED(units, RowUnits);  // not in every thread's registers
  const std::int64_t index = blockIdx.x;
  const RowReader<Element, EditsOfRows> row(task.rows, index, edits);
  const TileTable table = task.tables.of(index, row.tiles);
  float* const out = task.out + index * row.vocab;
  if (threadIdx.x == 0) read_filter(task, index, &params);
  __syncthreads();
  RowStatus status = RowStatus::kIllegal;
  float max = 0.0f;
  if (params.legal) {
    summarize<false>(row, params.scale, table, Team{0, 1});
    __syncthreads();
    max = max_of_row(table, row.tiles);
    status = status_of(max);
  }
  if (threadIdx.x == 0) task.status[index] = status;
  if (status != RowStatus::kValid) {
    for (std::int64_t token = threadIdx.x; token < row.vocab; token += kThreads) out[token] = NAN;
    return;
  }
  if (threadIdx.x == 0) units = {params.scale, reference_of(max, params.scale)};
  __syncthreads();
  float* const chunks = task.chunks + index * count_chunks(row.vocab);
  const Filter<Element, EditsOfRows> filter{row, params, units, table, max, chunks, space, shared};
  write_kept(task.transform, row, params, units, table, max, filter.find(), out);
}

}  // namespace tokendraw::cuda
