// SPDX-License-Identifier: Apache-2.0
#include "cuda/reduction.h"

#include "cuda/reduction.cuh"

namespace tokendraw::cuda {
namespace {

LaunchShape blocks_on(std::int64_t blocks, const Context& context) {
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(blocks);
  shape.block = kThreads;
  shape.stream = context.stream;
  return shape;
}

}  // namespace

cudaError_t launch_count_targets(const Targets& targets, std::int64_t rows, double* counted, const Context& context) {
  return launch(count_targets, blocks_on(1, context), values_of(targets.tokens), targets.ignore_index, rows, counted);
}

cudaError_t launch_reduction(Reduction reduction, const Targets& targets, const double* losses, std::int64_t rows,
                             float* out, const Context& context) {
  if (reduction != Reduction::kNone) {
    const double* divisor = reduction == Reduction::kMean ? targets.mean_of : nullptr;
    return launch(add_losses, blocks_on(1, context), losses, rows, divisor, out);
  }
  if (rows == 0) return cudaSuccess;
  return launch(round_losses, blocks_on((rows + kThreads - 1) / kThreads, context), losses, rows, out);
}

}  // namespace tokendraw::cuda
