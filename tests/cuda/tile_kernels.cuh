// SPDX-License-Identifier: Apache-2.0
// What cuda/tile.cuh and cuda/draw_list.cuh make of rows, as kernels that a test can compare with the CPU's.
#pragma once

#include "cuda/draw_list.cuh"
#include "cuda/tile.cuh"

namespace tokendraw::test {

using namespace tokendraw::cuda;

struct Summary {
  double sum;
  float max;
};

// logits [rows, vocab] -> summaries [rows, tiles]; one block per row, one warp per tile
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(128)
    summarize(const Rows rows, const EditsOfRows edits, const Scale scale, const Cutoff cutoff, Summary* summaries) {
  const std::int64_t index = blockIdx.x;
  const Element* row = rows.row<Element>(index);
  const auto tiles = static_cast<int>((rows.vocab + kTile - 1) / kTile);
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const bool aligned = is_aligned(row);
  for (int tile = warp_of_block(); tile < tiles; tile += warps) {
    const bool whole = aligned && std::int64_t{tile + 1} * kTile <= rows.vocab;
    Part part = load_part(row, rows.vocab, tile, whole);
    const float max = max_of_warp(max_of_edited(part, tile, rows.vocab, edits, index));
    apply_cutoff(part, tile, cutoff);
    const double sum = sum_of_tile(part, max, scale);
    if (lane_of_warp() == 0) summaries[index * tiles + tile] = {sum, max};
  }
}

/// What a run of listed tokens weighs in units of the row, and its tile.
struct RunSum {
  double sum;
  int tile;
};

// list [count], of a row in its order -> runs [count], of which *found are written; one block
static __global__ void __launch_bounds__(kThreads)
    sum_runs(const Candidate* list, const int count, const Scale scale, RunSum* runs, int* found) {
  TOKENDRAW_SHARED(space, TopKSpace);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) space.list[i] = list[i];
  __syncthreads();
  weigh_runs(space, count, {scale, reference_of(list[0].score, scale)});
  for (int run = static_cast<int>(threadIdx.x); run < space.runs.count; run += kThreads) {
    runs[run] = {space.runs.sums[run], space.runs.tokens[space.runs.begin[run]].token / kTile};
  }
  if (threadIdx.x == 0) *found = space.runs.count;
}

}  // namespace tokendraw::test
