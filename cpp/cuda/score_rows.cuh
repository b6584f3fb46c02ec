// SPDX-License-Identifier: Apache-2.0
// The kernel of scores: one look at every row, and a second one at its tiles for ranks and entropies.
#pragma once

#include "cuda/tile_sums.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

struct ScoreTask {
  Rows rows;
  Geometry geometry;
  Values<double> temperature;
  Values<std::int64_t> tokens;
  ScoreOutputs out;
  RowStatus* status = nullptr;
  std::uint32_t* arrivals = nullptr;
  TileTables tables;

  __device__ bool names_tokens() const { return out.logprobs || out.ranks; }
};

__device__ __forceinline__ void write_invalid_scores(const ScoreTask& task, std::int64_t row, RowStatus status) {
  task.status[row] = status;
  if (task.out.logprobs) task.out.logprobs[row] = NAN;
  if (task.out.ranks) task.out.ranks[row] = -1;
  if (task.out.logsumexps) task.out.logsumexps[row] = NAN;
  if (task.out.entropies) task.out.entropies[row] = NAN;
}

/// How many tokens of a part the cutoff keeps, in the whole warp.
__device__ __forceinline__ int count_in_part(Part part, int tile, Cutoff cutoff) {
  int count = count_kept_of_part(part, tile, cutoff);
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) count += __shfl_xor_sync(kWholeWarp, count, apart);
  return count;
}

/// values[tile] = how many of its tokens the cutoff keeps.
template <class Element>
__device__ void count_tiles_kept(const RowReader<Element, NoEdits>& row, const TileTable& table, const Team& team,
                                 Cutoff cutoff, double* values) {
  fill_tiles(cutoff.score, table, row.tiles, team, values,
             [&](int tile, float) { return static_cast<double>(count_in_part(row.tile(tile), tile, cutoff)); });
}

/// values[tile] = the sum of weight * (score - max) over its finite tokens, in units of the row; never above 0.
template <class Element>
__device__ void find_moments(const RowReader<Element, NoEdits>& row, const RowUnits& units, const TileTable& table,
                             const Team& team, float max, double* values) {
  const double origin = static_cast<double>(max);
  fill_tiles(-FLT_MAX, table, row.tiles, team, values, [&](int tile, float tile_max) {
    const WeightConstants constants = weight_constants(reference_of(tile_max, units.scale), units.scale);
    const double moment = sum_of_tokens(row, tile, [&](double sum, float score) {
      const auto weight =
          constants.plain ? weight_parts<true>(score, constants) : weight_parts<false>(score, constants);
      const double distance = static_cast<double>(larger(score, -FLT_MAX)) - origin;
      return sum + static_cast<double>(weight.fraction * weight.power) * distance;
    });
    return moment < 0.0 ? moment * units.factor_of(tile_max) : 0.0;
  });
}

/// -ln of the largest probability, and what the others add: distances from the largest score keep rounding small.
__device__ __forceinline__ double entropy_of(const Logprobs& logprobs, float max, double moment, double mass) {
  const double entropy = -logprobs.of(static_cast<double>(max)) - logprobs.slope * moment / mass;
  return entropy < 0.0 ? 0.0 : entropy;
}

/// What the looks at the row have found; by one warp. The moments of tiles come first in table.kept, then their counts.
__device__ __forceinline__ void write_scores(const ScoreTask& task, std::int64_t row, const TileTable& table, int tiles,
                                             const RowUnits& units, float max, float score) {
  const double mass = mass_of_row(table, tiles, units);
  const Logprobs logprobs(units, mass);
  const bool writes = lane_of_warp() == 0;
  if (writes && task.out.logprobs) task.out.logprobs[row] = rounded_logprob(logprobs, score);
  if (writes && task.out.logsumexps) task.out.logsumexps[row] = finite_float(logprobs.sum());
  if (!task.out.entropies) return;
  const double moment = sum_of_tiles(tiles, [&](int tile) { return __ldcg(table.kept + tile); });
  if (writes) task.out.entropies[row] = static_cast<float>(entropy_of(logprobs, max, moment, mass));
}

/// At temperature 0, where all is the first token's; by one warp.
template <class Element>
__device__ __forceinline__ void write_greedy_scores(const ScoreTask& task, const RowReader<Element, NoEdits>& row,
                                                    const TileTable& table, float max, std::int64_t token) {
  const Candidate first = first_of_row(row, table, max);
  if (lane_of_warp() != 0) return;
  if (task.out.logprobs) task.out.logprobs[row.index] = token == first.token ? 0.0f : -INFINITY;
  if (task.out.entropies) task.out.entropies[row.index] = 0.0f;
}

// logits [rows, vocab] -> scores [rows]: the blocks of a row are a cluster, or never meet, or one
template <class Element>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    score_rows(const __grid_constant__ ScoreTask task) {
  const unsigned blocks = task.geometry.blocks;
  const std::int64_t index = blockIdx.x / blocks;
  const NoEdits none{};
  const RowReader<Element, NoEdits> row(task.rows, index, none);
  const TileTable table = task.tables.of(index, row.tiles);
  Team team{blockIdx.x % blocks, blocks};

  const double temperature = task.temperature.at(index);
  const std::int64_t token = task.names_tokens() ? task.tokens.at(index) : 0;
  if (!is_finite_not_negative(temperature) || token < 0 || token >= row.vocab) {
    if (team.rank == 0 && threadIdx.x == 0) write_invalid_scores(task, index, RowStatus::kIllegal);
    return;
  }
  const bool greedy = !(temperature > 0.0);
  const Scale scale = make_scale(greedy ? 1.0 : temperature);
  if (greedy) {
    summarize<false>(row, scale, table, team);
  } else {
    summarize<true>(row, scale, table, team);
  }
  if (task.geometry.meeting == Meeting::kSplit) {
    if (!is_last_block(task.arrivals + index, blocks)) return;
    team = {0, 1};
  }
  team.sync();

  const float max = max_of_row(table, row.tiles);
  const RowStatus status = status_of(max);
  if (status != RowStatus::kValid) {
    if (team.rank == 0 && threadIdx.x == 0) write_invalid_scores(task, index, status);
    return;
  }
  const RowUnits units{scale, reference_of(max, scale)};
  const float score = widen(row.logits[token]);
  double* const counts = table.kept + row.tiles;
  if (task.out.ranks) {
    count_tiles_kept(row, table, team, up_to({score, static_cast<std::int32_t>(token)}), counts);
  }
  if (task.out.entropies && !greedy) find_moments(row, units, table, team, max, table.kept);
  team.sync();

  if (team.rank != 0 || warp_of_block() != 0) return;
  if (task.out.ranks) {
    const double rank = sum_of_tiles(row.tiles, [&](int tile) { return __ldcg(counts + tile); });
    if (lane_of_warp() == 0) task.out.ranks[index] = static_cast<std::int64_t>(rank);
  }
  if (greedy) {
    write_greedy_scores(task, row, table, max, token);
  } else {
    write_scores(task, index, table, row.tiles, units, max, score);
  }
  if (lane_of_warp() == 0) task.status[index] = RowStatus::kValid;
}

}  // namespace tokendraw::cuda
