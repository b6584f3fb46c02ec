// SPDX-License-Identifier: Apache-2.0
// Small correct kernels, one for each thing that the emulator emulates. nvcc compiles them too.
#pragma once

#include "cuda/device.cuh"

namespace tokendraw::test {

using namespace tokendraw::cuda;

constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}

/// The sum over the block, for every thread; kThreads is a multiple of 32.
template <int kThreads, class T>
__device__ __forceinline__ T block_sum(T value) {
  TOKENDRAW_SHARED(sums, T[kThreads / 32]);
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  T total = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) total += sums[warp];
  __syncthreads();
  return total;
}

// values [blocks, n] -> sums [blocks], one block per row
template <int kThreads>
__global__ void __launch_bounds__(kThreads) row_sums(const unsigned* values, int n, unsigned* sums) {
  const unsigned* row = values + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(n);
  unsigned sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) sum += row[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// scores [rows, 4 * n4] -> largest [rows], sums [rows] of exp(score - largest); one block per row, 16-byte loads
template <int kThreads>
__global__ void __launch_bounds__(kThreads) row_softmax_sum(const float4* scores, int n4, float* largest, float* sums) {
  const float4* row = scores + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(n4);
  TOKENDRAW_SHARED(tops, float[kThreads / 32]);
  float top = -INFINITY;
  float sum = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < n4; i += kThreads) {
    const float4 four = __ldcs(row + i);
    const float next = fmaxf(fmaxf(four.x, four.y), fmaxf(four.z, four.w));
    if (next > top) {
      sum *= expf(top - next);
      top = next;
    }
    sum += (expf(four.x - top) + expf(four.y - top)) + (expf(four.z - top) + expf(four.w - top));
  }
  float all = top;
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) all = fmaxf(all, __shfl_xor_sync(kAllLanes, all, lanes));
  if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = all;
  __syncthreads();
  for (int warp = 0; warp < kThreads / 32; ++warp) all = fmaxf(all, tops[warp]);
  sum = block_sum<kThreads>(top == -INFINITY ? 0.0f : sum * expf(top - all));
  if (threadIdx.x == 0) {
    largest[blockIdx.x] = all;
    sums[blockIdx.x] = sum;
  }
}

// values [32 * warps] -> inclusive sums within each warp
__global__ void warp_scan(const unsigned* values, unsigned* sums) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const unsigned lane = threadIdx.x % 32;
  unsigned sum = values[i];
  for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
    const unsigned below = __shfl_up_sync(kAllLanes, sum, lanes);
    if (lane >= lanes) sum += below;
  }
  sums[i] = sum;
}

// values [n] -> total [1]: the last block that is done adds what the others have left, and resets the counter
template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    split_sum(const unsigned* values, int n, unsigned* partial, unsigned* counter, unsigned* total) {
  unsigned sum = 0;
  const int stride = kThreads * static_cast<int>(gridDim.x);
  for (int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x); i < n; i += stride) sum += values[i];
  sum = block_sum<kThreads>(sum);
  TOKENDRAW_SHARED(is_last, bool);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    is_last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  unsigned all = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x; i += kThreads) all += partial[i];
  all = block_sum<kThreads>(all);
  if (threadIdx.x == 0) *total = all;
}

// values [clusters, n] -> sums [clusters], one cluster per row; each block adds the parts of all others
template <int kThreads>
__global__ void __launch_bounds__(kThreads) cluster_sums(const unsigned* values, int n, unsigned* sums) {
  const unsigned blocks = cluster_size();
  const unsigned row = blockIdx.x / blocks;
  TOKENDRAW_SHARED(part, unsigned);
  unsigned sum = 0;
  for (int i = static_cast<int>(cluster_rank() * kThreads + threadIdx.x); i < n;
       i += kThreads * static_cast<int>(blocks)) {
    sum += values[row * static_cast<unsigned>(n) + static_cast<unsigned>(i)];
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) part = sum;
  cluster_sync();
  unsigned all = 0;
  for (unsigned rank = 0; rank < blocks; ++rank) all += *cluster_map(&part, rank);
  if (threadIdx.x == 0) sums[blockIdx.x] = all;
  cluster_sync();
}

// values [n] below bins -> counts [bins]; the bins lie in dynamic shared memory
__global__ void histogram(const unsigned* values, int n, int bins, unsigned* counts) {
  unsigned* local = dynamic_shared<unsigned>();
  for (int i = static_cast<int>(threadIdx.x); i < bins; i += static_cast<int>(blockDim.x)) local[i] = 0;
  __syncthreads();
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += stride) {
    atomicAdd(local + values[i], 1u);
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < bins; i += static_cast<int>(blockDim.x)) {
    atomicAdd(counts + i, local[i]);
  }
}

struct WarpResults {
  unsigned ballot, any, all, match, together, lowest_half, sum_of_segment, xor_segment, same_above, active;
};

// values [32] -> results [32]: what the lanes of a warp learn from each other
__global__ void warp_collectives(const unsigned* values, WarpResults* results) {
  const unsigned lane = threadIdx.x;
  const unsigned value = values[lane];
  WarpResults mine;
  mine.ballot = __ballot_sync(kAllLanes, value % 2 == 0);
  mine.any = static_cast<unsigned>(__any_sync(kAllLanes, value > 100));
  mine.all = static_cast<unsigned>(__all_sync(kAllLanes, value < 100));
  mine.match = __match_any_sync(kAllLanes, value);
  int is_same = 0;
  mine.together = __match_all_sync(kAllLanes, value / 1000, &is_same);
  mine.lowest_half = lane < 16 ? __shfl_sync(0x0000ffffu, value, 3) : __shfl_sync(0xffff0000u, value, 20);
  mine.sum_of_segment = value;
  for (int lanes = 4; lanes > 0; lanes /= 2) {
    mine.sum_of_segment += __shfl_down_sync(kAllLanes, mine.sum_of_segment, static_cast<unsigned>(lanes), 8);
  }
  mine.xor_segment = __shfl_xor_sync(kAllLanes, value, 8, 8);
  mine.same_above = __shfl_up_sync(kAllLanes, value, 1, 4);
  mine.active = __activemask() >> lane & 1u;
  __syncwarp();
  results[lane] = mine;
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define TOKENDRAW_HAS_WARP_REDUCTIONS 1
#endif

// values [32] -> results [7]
__global__ void warp_reductions(const unsigned* values, unsigned* results) {
#if defined(TOKENDRAW_HAS_WARP_REDUCTIONS)
  const unsigned value = values[threadIdx.x];
  const unsigned found[] = {__reduce_add_sync(kAllLanes, value),
                            __reduce_min_sync(kAllLanes, value),
                            __reduce_max_sync(kAllLanes, value),
                            __reduce_and_sync(kAllLanes, value | 64u),
                            __reduce_or_sync(kAllLanes, value),
                            __reduce_xor_sync(kAllLanes, value),
                            static_cast<unsigned>(__reduce_min_sync(kAllLanes, -static_cast<int>(value)))};
  if (threadIdx.x < 7) results[threadIdx.x] = found[threadIdx.x];
#else
  static_cast<void>(values);
  static_cast<void>(results);
#endif
}

// results [3]: how many threads have an odd number, whether any is 5, whether all are below 1000
__global__ void counting_barriers(int* results) {
  const unsigned thread = threadIdx.x;
  const int odd = __syncthreads_count(thread % 2 == 1);
  const int any = __syncthreads_or(thread == 5);
  const int all = __syncthreads_and(thread < 1000);
  if (thread == blockDim.x - 1) {
    results[0] = odd;
    results[1] = any;
    results[2] = all;
  }
}

// values [rounds, 32] -> sums [rounds]: warp 0 fills two buffers in turn, warp 1 empties them
__global__ void two_warps(const unsigned* values, int rounds, unsigned* sums) {
  TOKENDRAW_SHARED(buffers, unsigned[2][32]);
  const unsigned lane = threadIdx.x % 32;
  const bool is_producer = threadIdx.x < 32;
  for (int round = 0; round < rounds; ++round) {
    unsigned* buffer = buffers[round % 2];
    if (is_producer) buffer[lane] = values[static_cast<unsigned>(round) * 32 + lane];
    named_barrier_sync(1 + round % 2, 64);
    if (!is_producer) {
      const unsigned sum = warp_sum(buffer[lane]);
      if (lane == 0) sums[round] = sum;
    }
    named_barrier_sync(3 + round % 2, 64);
  }
}

// value [1], flag [1] zero at first -> result [1]: warp 0 writes plainly and raises a flag, warp 1 waits for it
__global__ void flag(unsigned* value, std::uint32_t* raised, unsigned* result) {
  if (threadIdx.x == 0) {
    *value = 42;
    store_release(raised, 1);
  }
  if (threadIdx.x == 32) {
    while (load_acquire(raised) == 0) {
    }
    *result = *value;
  }
}

// count [1] and lock [1] zero at first: every block adds 1 under a lock
__global__ void locked_count(unsigned* lock, unsigned* count) {
  if (threadIdx.x != 0) return;
  while (atomicCAS(lock, 0u, 1u) != 0u) {
  }
  __threadfence();
  *count += 1;
  __threadfence();
  atomicExch(lock, 0u);
}

// scratch [blocks, kThreads] -> total [1]; every thread fences, then the block meets, then one of it counts up
template <int kThreads>
__global__ void __launch_bounds__(kThreads) fence_then_meet(unsigned* scratch, unsigned* counter, unsigned* total) {
  TOKENDRAW_SHARED(is_last, bool);
  scratch[blockIdx.x * kThreads + threadIdx.x] = 1;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(counter, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  unsigned sum = 0;
  for (unsigned i = threadIdx.x; i < gridDim.x * kThreads; i += kThreads) sum += scratch[i];
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) *total = sum;
}

// out [grid, block] = where each thread stands, in three dimensions
__global__ void places(uint4* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned size = blockDim.x * blockDim.y * blockDim.z;
  out[block * size + thread] = make_uint4(threadIdx.x, threadIdx.y, threadIdx.z, block);
}

}  // namespace tokendraw::test
