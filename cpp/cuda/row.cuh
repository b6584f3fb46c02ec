// SPDX-License-Identifier: Apache-2.0
// One row on the device: its tiles' summaries in the workspace, who fills them in, and how the blocks of a row meet.
// Nothing that is found depends on how many blocks there are.
#pragma once

#include "cuda/tile.cuh"
#include "cuda/tuning.h"

namespace tokendraw::cuda {

__device__ __forceinline__ int lane_of_warp() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_of_block() { return static_cast<int>(threadIdx.x) / kWarp; }

// ---- who works on a row ----

/// The blocks that are left to work on a row: all of its cluster, or one.
struct Team {
  unsigned rank;
  unsigned size;

  /// Tiles are dealt to the warps of the team in turn, to those of all blocks alike.
  __device__ int worker() const { return warp_of_block() * static_cast<int>(size) + static_cast<int>(rank); }
  __device__ int workers() const { return kWarps * static_cast<int>(size); }

  /// What any thread of the team has written, to shared memory or elsewhere, all of them see.
  __device__ void sync() const {
    if (size > 1) {
      cluster_sync();
    } else {
      __syncthreads();
    }
  }
};

/// Whether this block is the last of `blocks` to come here; it then sees what the others have written to global memory.
__device__ __forceinline__ bool is_last_block(std::uint32_t* arrivals, unsigned blocks) {
  TOKENDRAW_SHARED(last, bool);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(arrivals, 1u) == blocks - 1;
    if (last) atomicExch(arrivals, 0u);  // for the next launch
    __threadfence();
  }
  __syncthreads();
  return last;
}

// ---- the row ----

/// A row of logits with its edits.
template <class Element, class EditsOfRows>
struct RowReader {
  const Element* logits;
  std::int64_t vocab;
  int tiles;
  std::int64_t index;
  const EditsOfRows& edits;
  bool aligned;

  __device__ RowReader(const Rows& rows, std::int64_t row, const EditsOfRows& edits_of_rows)
      : logits(rows.row<Element>(row)),
        vocab(rows.vocab),
        tiles(static_cast<int>((rows.vocab + kTile - 1) / kTile)),
        index(row),
        edits(edits_of_rows),
        aligned(is_aligned(logits)) {}

  /// The logits of one tile.
  __device__ __forceinline__ Part raw(int tile) const {
    return load_part(logits, vocab, tile, aligned && std::int64_t{tile + 1} * kTile <= vocab);
  }

  /// The scores of one tile.
  __device__ __forceinline__ Part tile(int tile) const {
    Part part = raw(tile);
    apply_edits(part, tile, vocab, edits, index);
    return part;
  }

  /// The score of one token, -inf past the row.
  __device__ __forceinline__ float score(std::int64_t token) const {
    if (token >= vocab) return -INFINITY;
    float score[1] = {widen(logits[token])};
    apply_edits_to_line(score, 1, static_cast<std::int32_t>(token), edits, index);
    return score[0];
  }
};

/// What is known of the tiles of one row. Other blocks fill it in too: read where they write, past the first-level
/// cache.
struct TileTable {
  float* maxima;  // [tiles]; NaN or +inf where the tile holds one
  double* sums;   // [tiles], in units of the tile
  double* kept;   // [2, tiles], in units of the row: what a cutoff keeps

  /// The same with the other half of `kept`.
  __device__ TileTable outer(int tiles) const { return {maxima, sums, kept + tiles}; }
};

/// Those of all rows, one behind the other.
struct TileTables {
  float* maxima = nullptr;
  double* sums = nullptr;
  double* kept = nullptr;

  __device__ TileTable of(std::int64_t row, int tiles) const {
    return {maxima + row * tiles, sums + row * tiles, kept + 2 * row * tiles};
  }
};

/// The first look: every warp of `workers` takes its tiles. kSums: what they weigh, too.
template <bool kSums, class Element, class EditsOfRows>
__device__ __forceinline__ void summarize(const RowReader<Element, EditsOfRows>& row, const Scale& scale,
                                          const TileTable& table, const Team& team) {
  for (int tile = team.worker(); tile < row.tiles; tile += team.workers()) {
    Part part = row.raw(tile);
    const float max = max_of_warp(max_of_edited(part, tile, row.vocab, row.edits, row.index));
    double sum = 0.0;
    if constexpr (kSums) sum = sum_of_tile(part, max, scale);
    if (lane_of_warp() == 0) {
      __stcg(table.maxima + tile, max);
      if constexpr (kSums) __stcg(table.sums + tile, sum);
    }
  }
}

/// The largest score of the row, NaN where it holds one; found by every warp.
__device__ __forceinline__ float max_of_row(const TileTable& table, int tiles) {
  float largest = -INFINITY;
  for (int tile = lane_of_warp(); tile < tiles; tile += kWarp) {
    largest = larger_or_nan(__ldcg(table.maxima + tile), largest);
  }
  return max_of_warp(largest);
}

__device__ __forceinline__ RowStatus status_of(float max) {
  if (max != max) return RowStatus::kNan;
  if (max > FLT_MAX) return RowStatus::kInfinite;
  return max < -FLT_MAX ? RowStatus::kNothingLeft : RowStatus::kValid;
}

/// How weights are measured in a row.
struct RowUnits {
  Scale scale;
  TileReference reference;  // of the row's largest score

  /// The units of a tile's weights in units of the row.
  __device__ double factor_of(float tile_max) const {
    return exp2_double(exponent_between(reference_of(tile_max, scale), reference, scale));
  }
  __device__ double scaled(double sum, float tile_max) const { return sum > 0.0 ? sum * factor_of(tile_max) : 0.0; }
};

/// The scores that min_p keeps of a set with this largest one, which it always keeps.
__device__ __forceinline__ Cutoff cutoff_of_min_p(double ratio, const Scale& scale, float max) {
  if (!(ratio > 0.0)) return kKeepFinite;
  return cutoff_from(static_cast<double>(max) + log_double(ratio) / log_slope(scale), max);
}

/// visit(tile, max) for those of the warp's tiles whose largest score reaches `score`; skip(tile) by one thread for
/// the others.
template <class Visit, class Skip>
__device__ __forceinline__ void for_each_tile_from(float score, const TileTable& table, int tiles, const Team& team,
                                                   Visit visit, Skip skip) {
  const int apart = team.workers();
  for (int first = team.worker(); first < tiles; first += kWarp * apart) {
    const int own = first + lane_of_warp() * apart;
    const float max = own < tiles ? __ldcg(table.maxima + own) : -INFINITY;
    const bool reaches = own < tiles && max >= score;
    if (own < tiles && !reaches) skip(own);
    for (unsigned left = __ballot_sync(kWholeWarp, reaches); left != 0; left &= left - 1) {
      const int holder = __ffs(static_cast<int>(left)) - 1;
      visit(first + holder * apart, __shfl_sync(kWholeWarp, max, holder));
    }
  }
}

/// table.kept[tile] = what the cutoff keeps of the tile.
template <class Element, class EditsOfRows>
__device__ __forceinline__ void weigh(const RowReader<Element, EditsOfRows>& row, const RowUnits& units,
                                      const TileTable& table, const Team& team, const Cutoff& cutoff) {
  for_each_tile_from(
      cutoff.score, table, row.tiles, team,
      [&](int tile, float max) {
        Part part = row.tile(tile);
        apply_cutoff(part, tile, cutoff);
        const double sum = units.scaled(sum_of_tile(part, max, units.scale), max);
        if (lane_of_warp() == 0) __stcg(table.kept + tile, sum);
      },
      [&](int tile) { __stcg(table.kept + tile, 0.0); });
}

/// The same of all finite tokens, whose sums the first look has left.
__device__ __forceinline__ void weigh_all(const TileTable& table, int tiles, const RowUnits& units, const Team& team) {
  for (int tile = team.worker() * kWarp + lane_of_warp(); tile < tiles; tile += team.workers() * kWarp) {
    __stcg(table.kept + tile, units.scaled(__ldcg(table.sums + tile), __ldcg(table.maxima + tile)));
  }
}

/// `total`, and the values of a warp's threads added one after another; 0 of those that have none, which changes
/// nothing. Values are fetched ahead of the additions: their latency counts, not theirs and a shuffle's.
__device__ __forceinline__ double sum_of_warp_after(double total, double value) {
  if (!__any_sync(kWholeWarp, value != 0.0)) return total;
#pragma unroll 8
  for (int thread = 0; thread < kWarp; ++thread) total += __shfl_sync(kWholeWarp, value, thread);
  return total;
}

/// The sum of values[0 .. count) in the order of their index; none is negative. By one warp, for all of its threads.
__device__ __forceinline__ double sum_in_order(const double* values, int count) {
  double total = 0.0;
  for (int first = 0; first < count; first += kWarp) {
    const int own = first + lane_of_warp();
    total = sum_of_warp_after(total, own < count ? __ldcg(values + own) : 0.0);
  }
  return total;
}

/// The first token of the total order; by one warp.
template <class Element, class EditsOfRows>
__device__ __forceinline__ Candidate first_of_row(const RowReader<Element, EditsOfRows>& row, const TileTable& table,
                                                  float max) {
  int tile = 0;
  for (;; tile += kWarp) {
    const int own = tile + lane_of_warp();
    const unsigned holders = __ballot_sync(kWholeWarp, own < row.tiles && __ldcg(table.maxima + own) == max);
    if (holders == 0) continue;
    tile += __ffs(static_cast<int>(holders)) - 1;
    break;
  }
  Part part = row.tile(tile);
  const int own = Place().token();
  int first = kTile;
  edit_each(part, [&](float& score, int offset) {
    if (score == max && own + offset < first) first = own + offset;
  });
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    const int other = __shfl_xor_sync(kWholeWarp, first, apart);
    first = other < first ? other : first;
  }
  return {max, static_cast<std::int32_t>(tile * kTile + first)};
}

}  // namespace tokendraw::cuda
