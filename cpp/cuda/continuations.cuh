// SPDX-License-Identifier: Apache-2.0
// The kernels of a beam step: the best tokens of every beam, then a rank among the tokens of all beams of a group.
#pragma once

#include "core/continuation.h"
#include "cuda/continuations.h"
#include "cuda/tile_sums.cuh"
#include "cuda/top_k_rows.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

/// Groups in the order of their beams: a list, or all like the first one.
struct Groups {
  BeamGroup first;
  const BeamGroup* listed = nullptr;  // [count]
  std::int64_t count = 0;

  __device__ BeamGroup at(std::int64_t index) const {
    if (listed != nullptr) return listed[index];
    return {first.first_row + index * first.beams, first.first_beam + index * first.beams, first.beams,
            first.first_slot + index * first.slots, first.slots};
  }

  /// The group of a beam.
  __device__ BeamGroup of(std::int64_t beam) const {
    if (listed == nullptr) return at((beam - first.first_beam) / first.beams);
    std::int64_t last = 0;  // the last one that begins at the beam or before it: those without beams end sooner
    for (std::int64_t end = count; end - last > 1;) {
      const std::int64_t middle = last + (end - last) / 2;
      (listed[middle].first_beam <= beam ? last : end) = middle;
    }
    return listed[last];
  }
};

/// A continuation whose beam is known by where it stands. Those of one beam are in the order of core/continuation.h.
struct RankedToken {
  double score;
  float logit;
  std::int32_t token;
};

struct ContinuationTask {
  Rows rows;
  unsigned blocks = 1;  // per beam
  Groups groups;
  Values<double> scores;       // by beam
  Values<double> temperature;  // by row
  bool renormalize = false;
  RowStatus* status = nullptr;  // [beams]
  std::uint32_t* arrivals = nullptr;
  TileTables tables;
  float* chunks = nullptr;
  RankedToken* candidates = nullptr;  // [beams, list]
  std::int64_t* counts = nullptr;     // [beams]
  std::int64_t list = 0;

  /// By one thread.
  __device__ void finish(std::int64_t beam, RowStatus beam_status, std::int64_t count) const {
    status[beam] = beam_status;
    counts[beam] = count;
  }
};

// ---- the tokens of a beam ----

/// The first look, the share of a team: what tiles weigh, and the largest score of every chunk that the mask leaves. It
/// leaves less of the weights too where log-probabilities are those of what is left.
template <class Element, class EditsOfRows>
__device__ __forceinline__ void summarize_beam(const RowReader<Element, EditsOfRows>& row, const Scale& scale,
                                               bool renormalize, const TileTable& table, float* chunks,
                                               const Team& team) {
  for (int tile = team.worker(); tile < row.tiles; tile += team.workers()) {
    Part part = row.raw(tile);
    const float unedited = max_of_part(part);
    apply_biases(part, tile, row.vocab, row.edits, row.index);
    if (renormalize) apply_mask(part, tile, row.vocab, row.edits, row.index);
    const float max = max_of_warp(valid_or_fault(max_of_part(part), unedited));
    const double sum = sum_of_tile(part, max, scale);
    if (!renormalize) apply_mask(part, tile, row.vocab, row.edits, row.index);
    __stcg(chunks + (tile * kChunksPerTile + lane_of_warp()), max_of_part(part));
    if (lane_of_warp() != 0) continue;
    __stcg(table.maxima + tile, max);
    __stcg(table.sums + tile, sum);
  }
}

/// The tokens of one beam as continuations, for write_best().
struct ListOfBeam {
  RankedToken* tokens;
  std::int64_t k;
  double score;
  Logprobs logprobs;

  /// The score never decreases with the logit, not even by rounding, so the order stays.
  __device__ std::int64_t write(const TopKSpace& space, std::int64_t written) const {
    const std::int64_t count = min(static_cast<std::int64_t>(space.count), k - written);
    for (std::int64_t slot = threadIdx.x; slot < count; slot += kThreads) {
      const Candidate c = space.list[slot];
      tokens[written + slot] = {score + logprobs.of(static_cast<double>(c.score)), c.score, c.token};
    }
    return written + count;
  }
};

// logits [rows, vocab] -> candidates [beams, list]: the blocks of a beam never meet, the last one lists its best
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    list_beams(const __grid_constant__ ContinuationTask task, const __grid_constant__ EditsOfRows edits) {
  TOKENDRAW_SHARED(space, TopKSpace);
  TOKENDRAW_SHARED(mass, double);
  const std::int64_t beam = blockIdx.x / task.blocks;
  const Team team{blockIdx.x % task.blocks, task.blocks};
  const BeamGroup group = task.groups.of(beam);
  const std::int64_t index = group.first_row + (beam - group.first_beam);
  const double score = task.scores.at(beam);
  const double temperature = task.temperature.at(index);
  const bool legal = score <= DBL_MAX && temperature > 0.0 && is_finite(temperature);
  if (!legal || score < -DBL_MAX) {
    const RowStatus status = legal ? RowStatus::kValid : RowStatus::kIllegal;
    if (team.rank == 0 && threadIdx.x == 0) task.finish(beam, status, 0);
    return;
  }

  const Scale scale = make_scale(temperature);
  const RowReader<Element, EditsOfRows> row(task.rows, index, edits);
  const RowOfChunks<Element, EditsOfRows> by_chunks(row);
  const TileTable table = task.tables.of(beam, row.tiles);
  float* const chunks = task.chunks + beam * by_chunks.chunks();
  summarize_beam(row, scale, task.renormalize, table, chunks, team);
  if (team.size > 1 && !is_last_block(task.arrivals + beam, team.size)) return;
  __syncthreads();

  const float max = max_of_row(table, row.tiles);
  const float max_left = max_of_chunks(chunks, by_chunks.chunks());
  RowStatus status = status_of(max);
  if (status == RowStatus::kValid) status = status_of(max_left);
  if (status != RowStatus::kValid) {
    if (threadIdx.x == 0) task.finish(beam, status, 0);
    return;
  }
  const RowUnits units{scale, reference_of(max, scale)};
  if (warp_of_block() == 0) {
    const double found = mass_of_row(table, row.tiles, units);
    if (lane_of_warp() == 0) mass = found;
  }
  __syncthreads();
  const ListOfBeam list{task.candidates + beam * task.list, min(group.slots, task.list), score, Logprobs(units, mass)};
  const std::int64_t count = list.k > 0 ? write_best(by_chunks, chunks, max_left, list, space) : 0;
  if (threadIdx.x == 0) task.finish(beam, status, count);
}

// ---- the tokens of a group ----

struct RankTask {
  Groups groups;
  unsigned blocks = 1;  // per group
  const RankedToken* candidates = nullptr;
  const std::int64_t* counts = nullptr;
  std::int64_t list = 0;
  Continuation* found = nullptr;

  __device__ Continuation at(const BeamGroup& group, std::int64_t parent, std::int64_t slot) const {
    const RankedToken c = candidates[(group.first_beam + parent) * list + slot];
    return {c.score, c.score, c.logit, static_cast<std::int32_t>(parent), c.token};
  }

  /// How many continuations of a beam outrank another beam's.
  __device__ std::int64_t count_before(const BeamGroup& group, std::int64_t parent, const Continuation& other) const {
    std::int64_t low = 0;
    std::int64_t high = counts[group.first_beam + parent];
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (outranks(at(group, parent, middle), other)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  /// The rank in its group of a beam's continuation; not below group.slots where it is not among the best.
  __device__ std::int64_t rank_of(const BeamGroup& group, std::int64_t slot, const Continuation& own) const {
    std::int64_t rank = slot;
    for (std::int64_t parent = 0; parent < group.beams && rank < group.slots; ++parent) {
      if (parent != own.parent) rank += count_before(group, parent, own);
    }
    return rank;
  }
};

/// What stands past the last continuation, by one block.
__device__ __forceinline__ void write_past_last(const RankTask& task, const BeamGroup& group) {
  std::int64_t total = 0;
  for (std::int64_t parent = threadIdx.x; parent < group.beams; parent += kThreads) {
    total += task.counts[group.first_beam + parent];
  }
  total = merged_in_block(total, [](std::int64_t a, std::int64_t b) { return a + b; });
  for (std::int64_t slot = total + threadIdx.x; slot < group.slots; slot += kThreads) {
    task.found[group.first_slot + slot] = {-INFINITY, -INFINITY, -INFINITY, -1, -1};
  }
}

// candidates [beams, list] -> found [slots]: a thread per candidate, neighbours equally deep in their lists
static __global__ void __launch_bounds__(kThreads) rank_continuations(const __grid_constant__ RankTask task) {
  const BeamGroup group = task.groups.at(blockIdx.x / task.blocks);
  const unsigned rank_of_block = blockIdx.x % task.blocks;
  const std::int64_t all = group.beams * min(task.list, group.slots);
  const std::int64_t step = std::int64_t{task.blocks} * kThreads;
  for (std::int64_t i = std::int64_t{rank_of_block} * kThreads + threadIdx.x; i < all; i += step) {
    const std::int64_t parent = i % group.beams;
    const std::int64_t slot = i / group.beams;
    if (slot >= task.counts[group.first_beam + parent]) continue;
    const Continuation own = task.at(group, parent, slot);
    const std::int64_t rank = task.rank_of(group, slot, own);
    if (rank < group.slots) task.found[group.first_slot + rank] = own;
  }
  if (rank_of_block == 0) write_past_last(task, group);
}

// ---- arrays ----

struct ArraysTask {
  Groups groups;
  const Continuation* found = nullptr;
  const RowStatus* status = nullptr;
  ContinuationArrays out;
};

// found [slots], status [beams] -> scores, parents, tokens [slots]; one block per group
static __global__ void __launch_bounds__(kThreads) split_continuations(const __grid_constant__ ArraysTask task) {
  const BeamGroup group = task.groups.at(blockIdx.x);
  int invalid = 0;
  for (std::int64_t beam = threadIdx.x; beam < group.beams; beam += kThreads) {
    if (task.status[group.first_beam + beam] != RowStatus::kValid) invalid = 1;
  }
  invalid = merged_in_block(invalid, [](int a, int b) { return a | b; });
  for (std::int64_t i = threadIdx.x; i < group.slots; i += kThreads) {
    const std::int64_t slot = group.first_slot + i;
    const Continuation c = task.found[slot];
    task.out.scores[slot] = invalid != 0 ? NAN : c.token < 0 ? -INFINITY : finite_float(c.score);
    task.out.parents[slot] = invalid != 0 ? -1 : c.parent;
    task.out.tokens[slot] = invalid != 0 ? -1 : c.token;
  }
}

}  // namespace tokendraw::cuda
