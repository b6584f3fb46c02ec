// SPDX-License-Identifier: Apache-2.0
// What a kernel and its launcher use beyond plain CUDA: shared memory, clusters, ordered loads and stores, launching.
// One text for a GPU and for the host emulator of the tests, which brings its own <cuda_runtime.h> and device
// functions.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#if defined(TOKENDRAW_CUDA_EMULATED)

#include <emulated_device.h>

#else

/// A variable in the shared memory of the block: TOKENDRAW_SHARED(sums, float[32]);
#define TOKENDRAW_SHARED(name, ...) __shared__::tokendraw::cuda::Same<__VA_ARGS__> name

namespace tokendraw::cuda {

template <class Type>
using Same = Type;

/// The dynamic shared memory of the launch, aligned to 16 bytes.
template <class Type>
__device__ __forceinline__ Type* dynamic_shared() {
  extern __shared__ uint4 tokendraw_dynamic_shared_memory[];
  return reinterpret_cast<Type*>(tokendraw_dynamic_shared_memory);
}

/// A barrier for `threads` threads of the block, a multiple of 32; `id` is 1 to 15.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Clusters, from sm_90 on. Below, the functions see a cluster of one block.
__device__ __forceinline__ unsigned cluster_size() {
#if __CUDA_ARCH__ >= 900
  unsigned size;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
  return size;
#else
  return 1;
#endif
}

__device__ __forceinline__ unsigned cluster_rank() {
#if __CUDA_ARCH__ >= 900
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#else
  return 0;
#endif
}

/// Tells the cluster that this thread's writes so far may be read; cluster_wait() must follow.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#else
  __syncthreads();
#endif
}

/// A barrier for all threads of the cluster. Shared memory of another block may be touched after the first of these and
/// before the last: a block that has exited has none.
__device__ __forceinline__ void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

/// The address, in the block of this rank, of what `pointer` is in this block's shared memory.
template <class Type>
__device__ __forceinline__ Type* cluster_map(Type* pointer, unsigned rank) {
#if __CUDA_ARCH__ >= 900
  Type* mapped;
  asm("mapa.u64 %0, %1, %2;" : "=l"(mapped) : "l"(pointer), "r"(rank));
  return mapped;
#else
  static_cast<void>(rank);
  return pointer;
#endif
}

// Loads and stores of one aligned word that order the memory around them, for all threads of the device.
__device__ __forceinline__ std::uint32_t load_acquire(const std::uint32_t* address) {
  std::uint32_t value;
  asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

__device__ __forceinline__ void store_release(std::uint32_t* address, std::uint32_t value) {
  asm volatile("st.release.gpu.u32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
}

}  // namespace tokendraw::cuda

#endif

namespace tokendraw::cuda {

struct LaunchShape {
  dim3 grid = 1;
  dim3 block = 1;
  std::size_t shared = 0;  // bytes of dynamic shared memory
  unsigned cluster = 1;    // blocks per cluster, along x
  cudaStream_t stream = nullptr;
};

/// Enqueues the kernel. No allocation and no synchronisation, so that a stream under capture records it.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = shape.cluster;
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared;
  config.stream = shape.stream;
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace tokendraw::cuda
