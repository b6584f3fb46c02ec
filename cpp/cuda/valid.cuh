// SPDX-License-Identifier: Apache-2.0
// Of every row, whether its status is that of a valid one.
#pragma once

#include "cuda/device.cuh"
#include "plan/request.h"

namespace tokendraw::cuda {

inline constexpr int kRowsPerBlock = 256;

// status [rows], one thread per row
static __global__ void __launch_bounds__(kRowsPerBlock)
    mark_valid(const RowStatus* status, std::int64_t rows, bool* valid) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x;
  if (row < rows) valid[row] = status[row] == RowStatus::kValid;
}

}  // namespace tokendraw::cuda
