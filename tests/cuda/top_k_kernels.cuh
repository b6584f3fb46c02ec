// SPDX-License-Identifier: Apache-2.0
// What cuda/top_k.cuh selects, as a kernel that a test can compare with a sorted row.
#pragma once

#include "cuda/top_k.cuh"

namespace tokendraw::test {

using namespace tokendraw::cuda;

// logits [rows, vocab] -> list [rows, k], counts [rows], cutoffs [rows]; one block per row; maxima [rows, chunks]
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads)
    select(const Rows rows, const __grid_constant__ EditsOfRows edits, const int k, const std::uint32_t cutoff_k,
           float* maxima, Candidate* list, int* counts, Cutoff* cutoffs) {
  TOKENDRAW_SHARED(space, TopKSpace);
  const std::int64_t index = blockIdx.x;
  const RowOfChunks<Element, EditsOfRows> row(RowReader<Element, EditsOfRows>(rows, index, edits));
  maxima += index * row.chunks();
  scan_chunks(row, maxima, 0, 1);
  __syncthreads();
  const float max = max_of_chunks(maxima, row.chunks());
  if (status_of(max) != RowStatus::kValid) {
    if (threadIdx.x == 0) counts[index] = -static_cast<int>(status_of(max));
    return;
  }
  const int count = select_top_k(row, maxima, max, static_cast<std::uint32_t>(k), space);
  for (int slot = static_cast<int>(threadIdx.x); slot < count; slot += kThreads) {
    list[index * k + slot] = space.list[slot];
  }
  const Cutoff cutoff = cutoff_of_top_k(row, maxima, max, cutoff_k, space);
  if (threadIdx.x == 0) {
    counts[index] = count;
    cutoffs[index] = cutoff;
  }
}

}  // namespace tokendraw::test
