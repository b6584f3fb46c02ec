// SPDX-License-Identifier: Apache-2.0
// The kernel of descriptions: what a draw has kept of a row, what the row says unmodified, and its best tokens.
#pragma once

#include "cuda/draw.cuh"
#include "cuda/draw_task.cuh"
#include "cuda/tile_sums.cuh"
#include "cuda/top_k_rows.cuh"

namespace tokendraw::cuda {

struct DescribeTask {
  DrawTask drawn;
  DrawOutputs out;
};

__device__ __forceinline__ Team one_block() { return {0, 1}; }

/// What a cutoff keeps.
struct KeptSet {
  std::uint32_t count;
  double mass;
  double entropy;
};

__device__ __forceinline__ void write_invalid_description(const DrawOutputs& out, std::int64_t row) {
  for (std::int64_t i = threadIdx.x; i < out.top_count; i += kThreads) {
    out.top_tokens[row * out.top_count + i] = -1;
    out.top_logprobs[row * out.top_count + i] = NAN;
  }
  if (threadIdx.x != 0) return;
  if (out.logprobs) out.logprobs[row] = NAN;
  if (out.raw_logprobs) out.raw_logprobs[row] = NAN;
  if (out.entropies) out.entropies[row] = NAN;
  if (out.ranks) out.ranks[row] = -1;
  if (out.kept) out.kept[row] = 0;
}

/// How many tokens the cutoff keeps, in every thread of the block.
template <class Element, class EditsOfRows>
__device__ __forceinline__ std::uint32_t count_kept(const RowReader<Element, EditsOfRows>& row, const TileTable& table,
                                                    Cutoff cutoff) {
  std::uint32_t own = 0;
  for_each_tile_from(
      cutoff.score, table, row.tiles, one_block(),
      [&](int tile, float) {
        Part part = row.tile(tile);
        own += static_cast<std::uint32_t>(count_kept_of_part(part, tile, cutoff));
      },
      [](int) {});
  return merged_in_block(own, [](std::uint32_t a, std::uint32_t b) { return a + b; });
}

/// The sum of weight * (score - origin) over a tile, which is never positive: lane by lane, line after line, then the
/// lanes by halves, all in float64.
__device__ __forceinline__ double moment_of_tile(const Part& part, float tile_max, const Scale& scale, double origin) {
  const Place place{};
  const WeightConstants constants = weight_constants(reference_of(tile_max, scale), scale);
  double sums[4] = {};
#pragma unroll
  for (int group = 0; group < kGroupsOfLines; ++group) {
    if (place.group() == group) {
#pragma unroll
      for (int line = 0; line < kLinesPerGroup; ++line) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float score = part.score[line][i];
          const double distance = static_cast<double>(larger(score, -FLT_MAX)) - origin;
          sums[i] += static_cast<double>(weight_of(score, constants)) * distance;
        }
      }
    }
    if (group == kGroupsOfLines - 1) break;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const double before = __shfl_up_sync(kWholeWarp, sums[i], kThreadsPerLine);
      if (place.group() == group + 1) sums[i] = before;
    }
  }
#pragma unroll
  for (int apart = kThreadsPerLine / 2; apart > 0; apart /= 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += __shfl_xor_sync(kWholeWarp, sums[i], apart);
  }
  return __shfl_sync(kWholeWarp, (sums[0] + sums[2]) + (sums[1] + sums[3]), kWarp - 1);
}

/// The sum of terms(0 .. count) in order; by one warp.
template <class Terms>
__device__ __forceinline__ double sum_of_terms(int count, Terms terms) {
  double total = 0.0;
  for (int first = 0; first < count; first += kWarp) {
    const int own = first + lane_of_warp();
    const double term = own < count ? terms(own) : 0.0;
    for (int i = 0; i < kWarp && first + i < count; ++i) total += __shfl_sync(kWholeWarp, term, i);
  }
  return total;
}

/// Of a few tokens: weights in units of the row, added in the total order.
template <class Element, class EditsOfRows>
__device__ __forceinline__ KeptSet describe_list(const RowReader<Element, EditsOfRows>& row, const RowUnits& units,
                                                 const TileTable& table, Cutoff cutoff, std::uint32_t count,
                                                 TopKSpace& space) {
  TOKENDRAW_SHARED(set, KeptSet);
  clear_count(space);
  for_each_tile_from(
      cutoff.score, table, row.tiles, one_block(),
      [&](int tile, float) {
        Part part = row.tile(tile);
        const CutoffOfPart of_part(cutoff, tile);
        const auto first = static_cast<std::int32_t>(first_token(tile));
        edit_each(part, [&](float& score, int offset) {
          if (of_part.keeps(score, offset)) add_to_list(space, score, first + offset);
        });
      },
      [](int) {});
  __syncthreads();
  sort_list(space);
  if (warp_of_block() == 0) {
    const WeightConstants constants = weight_constants(units.reference, units.scale);
    const auto size = static_cast<int>(count);
    const auto weight = [&](int i) { return static_cast<double>(weight_of(space.list[i].score, constants)); };
    const double mass = sum_of_terms(size, weight);
    const Logprobs logprobs(units, mass);
    const double moment = sum_of_terms(size, [&](int i) { return weight(i) * logprobs.of(space.list[i].score); });
    if (lane_of_warp() == 0) set = {count, mass, -moment / mass};
  }
  __syncthreads();
  return set;
}

/// Of many: sums of their tiles, in order.
template <class Element, class EditsOfRows>
__device__ __forceinline__ KeptSet describe_tiles(const RowReader<Element, EditsOfRows>& row, const RowUnits& units,
                                                  const TileTable& table, Cutoff cutoff, float max,
                                                  std::uint32_t count) {
  TOKENDRAW_SHARED(set, KeptSet);
  double* masses = table.kept;
  double* moments = table.kept + row.tiles;
  for_each_tile_from(
      cutoff.score, table, row.tiles, one_block(),
      [&](int tile, float tile_max) {
        Part part = row.tile(tile);
        apply_cutoff(part, tile, cutoff);
        const double mass = units.scaled(sum_of_tile(part, tile_max, units.scale), tile_max);
        const double moment = moment_of_tile(part, tile_max, units.scale, static_cast<double>(max));
        if (lane_of_warp() != 0) return;
        __stcg(masses + tile, mass);
        __stcg(moments + tile, units.scaled(-moment, tile_max));
      },
      [&](int tile) {
        __stcg(masses + tile, 0.0);
        __stcg(moments + tile, 0.0);
      });
  __syncthreads();
  if (warp_of_block() == 0) {
    const double mass = sum_in_order(masses, row.tiles);
    const double moment = 0.0 - sum_in_order(moments, row.tiles);
    const Logprobs logprobs(units, mass);
    if (lane_of_warp() == 0) set = {count, mass, -logprobs.of(max) - logprobs.slope * moment / mass};
  }
  __syncthreads();
  return set;
}

/// A description of the kept set: as a list where the steps have left one, or few tokens.
template <class Element, class EditsOfRows>
__device__ __forceinline__ KeptSet describe_kept(const RowReader<Element, EditsOfRows>& row, const DrawnRow& drawn,
                                                 const TileTable& table, TopKSpace& space) {
  const RowUnits units{drawn.scale, reference_of(drawn.max, drawn.scale)};
  const std::uint32_t count = count_kept(row, table, drawn.cutoff);
  const bool is_list = !drawn.is_nucleus && drawn.cutoff.score > -FLT_MAX && count <= kMaxListed;
  return is_list ? describe_list(row, units, table, drawn.cutoff, count, space)
                 : describe_tiles(row, units, table, drawn.cutoff, drawn.max, count);
}

/// The best tokens of the row before any step, and their log-probabilities over the kept set.
template <class Element, class EditsOfRows>
__device__ __forceinline__ void describe_best(const DescribeTask& task, const RowReader<Element, EditsOfRows>& row,
                                              const DrawnRow& drawn, const KeptSet& set, TopKSpace& space) {
  const RowOfChunks<Element, EditsOfRows> row_of_chunks(row);
  float* chunks = task.drawn.chunks + row.index * row_of_chunks.chunks();
  scan_chunks(row_of_chunks, chunks, 0, 1);
  __syncthreads();
  const std::int64_t count = task.out.top_count;
  const TopKOfRow out{task.out.top_logprobs + row.index * count, task.out.top_tokens + row.index * count, count};
  const std::int64_t written = write_best(row_of_chunks, chunks, drawn.max, out, space);
  __syncthreads();
  const Logprobs logprobs(RowUnits{drawn.scale, reference_of(drawn.max, drawn.scale)}, set.mass);
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) {
    const float score = i < written ? out.values[i] : -INFINITY;
    if (i >= written) out.tokens[i] = -1;
    const bool is_kept = i < written && keeps(drawn.cutoff, score, out.tokens[i]);
    out.values[i] = !is_kept ? -INFINITY : set.count == 1 ? 0.0f : rounded_logprob(logprobs, score);
  }
  __syncthreads();
}

/// The unmodified logits, at temperature 1.
template <class Element>
__device__ __forceinline__ void describe_raw(const DescribeTask& task, std::int64_t index, const TileTable& table,
                                             std::int32_t token) {
  const NoEdits none{};
  const RowReader<Element, NoEdits> row(task.drawn.rows, index, none);
  const Scale scale = make_scale(1.0);
  summarize<true>(row, scale, table, one_block());
  __syncthreads();
  const float max = max_of_row(table, row.tiles);
  const RowUnits units{scale, reference_of(max, scale)};
  const Candidate drawn{widen(row.logits[token]), token};
  weigh_all(table, row.tiles, units, one_block());
  const std::uint32_t rank = count_kept(row, table, up_to(drawn));
  if (warp_of_block() != 0) return;
  const double mass = sum_in_order(table.kept, row.tiles);
  if (lane_of_warp() != 0) return;
  if (task.out.raw_logprobs) task.out.raw_logprobs[index] = rounded_logprob(Logprobs(units, mass), drawn.score);
  if (task.out.ranks) task.out.ranks[index] = rank;
}

// logits [rows, vocab], drawn [rows] -> outputs [rows], the best [rows, top_count]; one block per row
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    describe_rows(const __grid_constant__ DescribeTask task, const __grid_constant__ EditsOfRows edits) {
  TOKENDRAW_SHARED(space, TopKSpace);
  const std::int64_t index = blockIdx.x;
  const DrawnRow drawn = task.drawn.drawn[index];
  if (drawn.status != RowStatus::kValid) return write_invalid_description(task.out, index);
  const RowReader<Element, EditsOfRows> row(task.drawn.rows, index, edits);
  const TileTable table = task.drawn.tables.of(index, row.tiles);
  const DrawOutputs& out = task.out;

  const KeptSet set = describe_kept(row, drawn, table, space);
  if (threadIdx.x == 0) {
    const Logprobs logprobs(RowUnits{drawn.scale, reference_of(drawn.max, drawn.scale)}, set.mass);
    const bool is_certain = set.count == 1;
    if (out.logprobs) out.logprobs[index] = is_certain ? 0.0f : rounded_logprob(logprobs, drawn.token.score);
    if (out.kept) out.kept[index] = set.count;
    if (out.entropies)
      out.entropies[index] = is_certain ? 0.0f : static_cast<float>(set.entropy < 0.0 ? 0.0 : set.entropy);
  }
  __syncthreads();
  if (out.top_count > 0) describe_best(task, row, drawn, set, space);
  if (out.raw_logprobs || out.ranks) describe_raw<Element>(task, index, table, drawn.token.token);
}

}  // namespace tokendraw::cuda
