// SPDX-License-Identifier: Apache-2.0
// What is reported about a row beside its token: log-probabilities before and after the steps, ranks, the best tokens.
#pragma once

#include "cuda/draw_task.cuh"

namespace tokendraw::cuda {

/// Enqueues the description of rows that `task` has drawn from, in whose order and memory it lies: all outputs but the
/// tokens.
cudaError_t launch_descriptions(const DrawTask& task, Dtype dtype, const RowEdits& edits, const DrawOutputs& outputs,
                                cudaStream_t stream);

}  // namespace tokendraw::cuda
