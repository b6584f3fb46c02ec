// SPDX-License-Identifier: Apache-2.0
// The kernels after those of losses: one number for all rows, or one float for each.
#pragma once

#include <cmath>

#include "core/arithmetic.h"
#include "cuda/block.cuh"
#include "cuda/rows.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

/// value_of(row) of all rows, in every thread: each thread adds its own in order, then the block adds by halves.
template <class ValueOf>
__device__ __forceinline__ double sum_of_rows(std::int64_t rows, ValueOf value_of) {
  double sum = 0.0;
  for (std::int64_t row = threadIdx.x; row < rows; row += kThreads) sum += value_of(row);
  return merged_in_block(sum, [](double a, double b) { return a + b; });
}

/// A finite loss stays finite.
__device__ __forceinline__ float rounded_loss(double loss) {
  return is_finite(loss) ? finite_float(loss) : static_cast<float>(loss);
}

// tokens [rows] -> counted [1]; one block
static __global__ void __launch_bounds__(kThreads)
    count_targets(const __grid_constant__ Values<std::int64_t> tokens, std::int64_t ignore_index, std::int64_t rows,
                  double* counted) {
  const double count = sum_of_rows(rows, [&](std::int64_t row) { return tokens.at(row) == ignore_index ? 0.0 : 1.0; });
  if (threadIdx.x == 0) *counted = count;
}

// losses [rows] -> out [1], divided by a number or by 1; one block
static __global__ void __launch_bounds__(kThreads)
    add_losses(const double* losses, std::int64_t rows, const double* divisor, float* out) {
  const double total = sum_of_rows(rows, [&](std::int64_t row) { return losses[row]; });
  if (threadIdx.x == 0) *out = rounded_loss(divisor == nullptr ? total : total / *divisor);
}

// losses [rows] -> out [rows], a thread per row
static __global__ void __launch_bounds__(kThreads) round_losses(const double* losses, std::int64_t rows, float* out) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row < rows) out[row] = rounded_loss(losses[row]);
}

}  // namespace tokendraw::cuda
