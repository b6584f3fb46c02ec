// SPDX-License-Identifier: Apache-2.0
// The kernels of the emulator's tests, compiled by nvcc: what they are written in is CUDA.
#include "kernels.cuh"
#include "planted.cuh"

namespace tokendraw::test {

template __global__ void row_sums<256>(const unsigned*, int, unsigned*);
template __global__ void row_softmax_sum<512>(const float4*, int, float*, float*);
template __global__ void split_sum<128>(const unsigned*, int, unsigned*, unsigned*, unsigned*);
template __global__ void cluster_sums<128>(const unsigned*, int, unsigned*);
template __global__ void fence_then_meet<64>(unsigned*, unsigned*, unsigned*);

/// The launch is the same text as in the emulator.
cudaError_t launch_cluster_sums(const unsigned* values, int n, unsigned* sums, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = 8;
  shape.block = 128;
  shape.cluster = 4;
  shape.stream = stream;
  return launch(cluster_sums<128>, shape, values, n, sums);
}

}  // namespace tokendraw::test
