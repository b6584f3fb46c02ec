// SPDX-License-Identifier: Apache-2.0
// What the threads of a block find out together. Every function is for all of the block's kThreads threads, ends with a
// barrier, and orders the shared memory that was written before it.
#pragma once

#include <cstdint>

#include "cuda/device.cuh"
#include "cuda/tuning.h"

namespace tokendraw::cuda {

/// merge(a, b) of the values of all threads, in every thread; merge is associative and commutative.
template <class Value, class Merge>
__device__ __forceinline__ Value merged_in_block(Value value, Merge merge) {
  TOKENDRAW_SHARED(of_warps, Value[kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int apart = 16; apart > 0; apart /= 2) value = merge(__shfl_xor_sync(0xffffffffu, value, apart), value);
  if (lane == 0) of_warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = of_warps[lane % kWarps];
#pragma unroll
  for (int apart = kWarps / 2; apart > 0; apart /= 2) {
    value = merge(__shfl_xor_sync(0xffffffffu, value, apart), value);
  }
  __syncthreads();
  return value;
}

/// The sum of the counts of the threads before this one.
__device__ __forceinline__ std::uint32_t count_before_in_block(std::uint32_t count) {
  TOKENDRAW_SHARED(of_warps, std::uint32_t[kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  std::uint32_t through = count;
#pragma unroll
  for (int apart = 1; apart < 32; apart *= 2) {
    const std::uint32_t earlier = __shfl_up_sync(0xffffffffu, through, static_cast<unsigned>(apart));
    if (lane >= apart) through += earlier;
  }
  if (lane == 31) of_warps[warp] = through;
  __syncthreads();
  std::uint32_t before = lane < warp && lane < kWarps ? of_warps[lane] : 0u;
#pragma unroll
  for (int apart = kWarps / 2; apart > 0; apart /= 2) before += __shfl_xor_sync(0xffffffffu, before, apart);
  before = __shfl_sync(0xffffffffu, before, 0);
  __syncthreads();
  return before + through - count;
}

}  // namespace tokendraw::cuda
