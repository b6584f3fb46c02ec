// SPDX-License-Identifier: Apache-2.0
// What cuda/tile.cuh makes of rows, as kernels that a test can compare with the CPU's.
#pragma once

#include "cuda/tile.cuh"

namespace tokendraw::test {

using namespace tokendraw::cuda;

struct Summary {
  double sum;
  float max;
};

// logits [rows, vocab] -> summaries [rows, tiles], faults [rows]; one block per row, one warp per tile or two
template <class Element, int kWidth, class EditsOfRows>
__global__ void __launch_bounds__(128) summarize(const Rows rows, const EditsOfRows edits, const Scale scale,
                                                 const Cutoff cutoff, Summary* summaries, unsigned* row_faults) {
  using Where = Place<kWidth>;
  const Where place;
  const std::int64_t index = blockIdx.x;
  const Element* row = rows.row<Element>(index);
  const std::int64_t tiles = (rows.vocab + kTile - 1) / kTile;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const bool aligned = is_aligned(row);
  for (std::int64_t first = threadIdx.x / kWarp * Where::kTilesPerWarp; first < tiles;
       first += warps * Where::kTilesPerWarp) {
    const std::int64_t tile = first + place.tile();
    const bool whole = aligned && (first + Where::kTilesPerWarp) * kTile <= rows.vocab;
    Part<kWidth> part = load_part<kWidth>(row, rows.vocab, tile, whole);
    const unsigned faults = faults_of(part);
    apply_edits(part, tile, rows.vocab, edits, index);
    const float max = max_of_tile<kWidth>(max_of_part(part));
    apply_cutoff(part, tile, cutoff);
    const double sum = sum_of_tile(part, max, scale);
    if (faults != kNoFault) atomicOr(row_faults + index, faults);
    if (tile < tiles && place.thread % Where::kThreadsPerTile == 0) summaries[index * tiles + tile] = {sum, max};
  }
}

}  // namespace tokendraw::test
