// SPDX-License-Identifier: Apache-2.0
// Kernels with one bug each. test_planted.cpp says which build catches which.
#pragma once

#include "cuda/device.cuh"

namespace tokendraw::planted {

using namespace tokendraw::cuda;

constexpr unsigned kAllLanes = 0xffffffffu;

struct Pointers {
  const unsigned* in;
  unsigned* out;
};

// out = in, reversed in each block of 64 through shared memory; here without the barrier
__global__ void missing_barrier(const unsigned* in, unsigned* out) {
  TOKENDRAW_SHARED(buffer, unsigned[64]);
  const unsigned thread = threadIdx.x;
  buffer[thread] = in[thread];
  out[thread] = buffer[63 - thread];
}

// the same twice, with one barrier too few: the second write may come before the first read
__global__ void missing_second_barrier(const unsigned* in, unsigned* out) {
  TOKENDRAW_SHARED(buffer, unsigned[64]);
  const unsigned thread = threadIdx.x;
  buffer[thread] = in[thread];
  __syncthreads();
  const unsigned first = buffer[63 - thread];
  buffer[thread] = first + 1;
  __syncthreads();
  out[thread] = buffer[63 - thread] - 1;
}

// within a warp, where shuffles order no memory
__global__ void missing_syncwarp(const unsigned* in, unsigned* out) {
  TOKENDRAW_SHARED(buffer, unsigned[32]);
  const unsigned thread = threadIdx.x;
  buffer[thread] = __shfl_sync(kAllLanes, in[thread], static_cast<int>(thread));
  out[thread] = buffer[31 - thread];
}

__global__ void divergent_barrier(unsigned* out) {
  if (threadIdx.x < 32) {
    out[threadIdx.x] = 1;
    __syncthreads();
  } else {
    out[threadIdx.x] = 2;
    __syncthreads();
  }
}

// odd threads wait in a barrier, even ones for the odd ones of their warp
__global__ void barrier_in_a_branch(unsigned* out) {
  unsigned value = threadIdx.x;
  if (threadIdx.x % 2 == 1) {
    __syncthreads();
  } else {
    value = __shfl_xor_sync(kAllLanes, value, 1);
  }
  out[threadIdx.x] = value;
}

__global__ void shuffle_without_all_lanes(unsigned* out) {
  unsigned value = threadIdx.x;
  if (threadIdx.x % 32 < 16) value = __shfl_sync(kAllLanes, value, 0);
  out[threadIdx.x] = value;
}

__global__ void shuffle_without_itself(unsigned* out) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, threadIdx.x + 0u, 0);
}

__global__ void shuffle_from_a_stranger(unsigned* out) {
  unsigned value = threadIdx.x;
  if (threadIdx.x < 16) value = __shfl_down_sync(0x0000ffffu, value, 1);
  out[threadIdx.x] = value;
}

__global__ void two_masks(unsigned* out) {
  const unsigned mask = threadIdx.x < 16 ? kAllLanes : 0xffff0000u;
  out[threadIdx.x] = __ballot_sync(mask, 1);
}

__global__ void vote_with_a_lane_that_has_gone(unsigned* out) {
  if (threadIdx.x == 7) return;
  out[threadIdx.x] = __ballot_sync(kAllLanes, 1);
}

__global__ void write_past_shared(unsigned* out) {
  TOKENDRAW_SHARED(buffer, unsigned[32]);
  buffer[threadIdx.x + 1] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = buffer[threadIdx.x] * 0 + threadIdx.x;
}

__global__ void read_past_dynamic(unsigned* out, int n) {
  const unsigned* buffer = dynamic_shared<unsigned>();
  dynamic_shared<unsigned>()[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = buffer[threadIdx.x + static_cast<unsigned>(n)];
}

__global__ void write_past_global(unsigned* out, int n) { out[threadIdx.x + static_cast<unsigned>(n)] = 0; }

// a row of n floats read by fours, and n is no multiple of 4
__global__ void read_past_row(const float* row, int n, unsigned* out) {
  const float4* fours = reinterpret_cast<const float4*>(row);
  float sum = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < (n + 3) / 4; i += static_cast<int>(blockDim.x)) {
    const float4 four = fours[i];
    sum += four.x + four.y + four.z + four.w;
  }
  out[threadIdx.x] = sum > 0.0f ? threadIdx.x : 1000 + threadIdx.x;
}

__global__ void misaligned_row(const float* row, unsigned* out) {
  const float4* fours = reinterpret_cast<const float4*>(row + 1);
  const float4 four = fours[threadIdx.x];
  out[threadIdx.x] = four.x >= 0.0f ? threadIdx.x : 1000;
}

__global__ void misaligned_hint(const float* row, unsigned* out) {
  const float4 four = __ldcs(reinterpret_cast<const float4*>(row + 1) + threadIdx.x);
  out[threadIdx.x] = four.x >= 0.0f ? threadIdx.x : 1000;
}

// only the first warp writes what all read
__global__ void uninitialised_shared(unsigned* out) {
  TOKENDRAW_SHARED(buffer, unsigned[64]);
  if (threadIdx.x < 32) buffer[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = buffer[threadIdx.x];
}

__global__ void copy(const unsigned* in, unsigned* out) { out[threadIdx.x] = in[threadIdx.x]; }

__global__ void copy_struct(Pointers pointers) { pointers.out[threadIdx.x] = pointers.in[threadIdx.x]; }

// every block adds to the same word, not atomically
__global__ void race_between_blocks(unsigned* out) {
  if (threadIdx.x == 0) out[0] += 1;
}

// split_sum without the fences
__global__ void missing_fence(unsigned* partial, unsigned* counter, unsigned* total) {
  if (threadIdx.x != 0) return;
  partial[blockIdx.x] = 1;
  if (atomicAdd(counter, 1u) != gridDim.x - 1) return;
  unsigned sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
  *total = sum;
}

// fences, but those of a block
__global__ void fence_too_small(unsigned* partial, unsigned* counter, unsigned* total) {
  if (threadIdx.x != 0) return;
  partial[blockIdx.x] = 1;
  __threadfence_block();
  if (atomicAdd(counter, 1u) != gridDim.x - 1) return;
  __threadfence_block();
  unsigned sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += partial[i];
  *total = sum;
}

__global__ void missing_cluster_barrier(unsigned* out) {
  TOKENDRAW_SHARED(part, unsigned);
  if (threadIdx.x == 0) part = cluster_rank();
  __syncthreads();
  const unsigned next = *cluster_map(&part, (cluster_rank() + 1) % cluster_size());
  if (threadIdx.x == 0) out[blockIdx.x] = next;
  cluster_sync();
}

// a block leaves while another still reads its shared memory
__global__ void missing_last_cluster_barrier(unsigned* out) {
  TOKENDRAW_SHARED(part, unsigned);
  if (threadIdx.x == 0) part = cluster_rank();
  cluster_sync();
  const unsigned next = *cluster_map(&part, (cluster_rank() + 1) % cluster_size());
  if (threadIdx.x == 0) out[blockIdx.x] = next;
}

__global__ void local_memory_of_another(unsigned* out) {
  TOKENDRAW_SHARED(pointers, const unsigned* [32]);
  volatile unsigned mine = threadIdx.x;
  pointers[threadIdx.x] = const_cast<const unsigned*>(&mine);
  __syncwarp();
  out[threadIdx.x] = *pointers[31 - threadIdx.x];
  __syncwarp();
}

__global__ void waits_for_nobody(std::uint32_t* flag) {
  while (load_acquire(flag) == 0) {
  }
}

}  // namespace tokendraw::planted
