// SPDX-License-Identifier: Apache-2.0
// What CUDA says when it fails, as an exception.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace tokendraw::cuda {

/// Throws std::runtime_error where `error` is one; `doing` completes "CUDA failed ...".
inline void expect(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw std::runtime_error(std::string("CUDA failed ") + doing + ": " + cudaGetErrorString(error) + " (" +
                           cudaGetErrorName(error) + ")");
}

}  // namespace tokendraw::cuda
