// SPDX-License-Identifier: Apache-2.0
// The total order of tokens as the order of integers, and a sort of a few of them by one block.
#pragma once

#include "core/order.h"
#include "cuda/device.cuh"

namespace tokendraw::cuda {

/// Ascending keys are tokens in the total order.
__device__ __forceinline__ std::uint64_t key_of(Candidate candidate) {
  constexpr std::int64_t kAboveFinite = 0x7f800000;
  const auto from_top = static_cast<std::uint64_t>(kAboveFinite - float_rank(candidate.score));
  return from_top << 32 | static_cast<std::uint32_t>(candidate.token);
}

__device__ __forceinline__ Candidate candidate_of(std::uint64_t key) {
  constexpr std::int64_t kAboveFinite = 0x7f800000;
  return {float_of_rank(kAboveFinite - static_cast<std::int64_t>(key >> 32)),
          static_cast<std::int32_t>(static_cast<std::uint32_t>(key))};
}

/// Sorts keys[0 .. count) in shared memory ascending; all threads of the block. Batcher's odd-even merge sort
/// ("Sorting networks and their applications", 1968) needs no padding: what lies past the end counts as largest.
__device__ __forceinline__ void sort_in_block(std::uint64_t* keys, int count) {
  for (int sorted = 1; sorted < count; sorted *= 2) {
    for (int apart = sorted; apart > 0; apart /= 2) {
      for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
        const int other = i + apart;
        const bool is_first = apart == sorted
                                  ? i % (2 * sorted) < sorted
                                  : i % (2 * sorted) >= apart && (i % (2 * sorted) - apart) % (2 * apart) < apart;
        const bool is_same_run = i / (2 * sorted) == other / (2 * sorted);
        if (!is_first || !is_same_run || other >= count) continue;
        if (keys[other] < keys[i]) {
          const std::uint64_t larger_key = keys[i];
          keys[i] = keys[other];
          keys[other] = larger_key;
        }
      }
      __syncthreads();
    }
  }
}

}  // namespace tokendraw::cuda
