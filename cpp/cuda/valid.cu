// SPDX-License-Identifier: Apache-2.0
#include "cuda/valid.h"

#include "cuda/valid.cuh"

namespace tokendraw::cuda {

cudaError_t launch_valid(const RowStatus* status, std::int64_t rows, bool* valid, const Context& context) {
  if (rows == 0) return cudaSuccess;
  LaunchShape shape;
  shape.grid = static_cast<unsigned>((rows + kRowsPerBlock - 1) / kRowsPerBlock);
  shape.block = kRowsPerBlock;
  shape.stream = context.stream;
  return launch(mark_valid, shape, status, rows, valid);
}

bool has_kernels() {
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, mark_valid) == cudaSuccess) return true;
  static_cast<void>(cudaGetLastError());
  return false;
}

}  // namespace tokendraw::cuda
