// SPDX-License-Identifier: Apache-2.0
// The best tokens of every row, in order.
#pragma once

#include <cstdint>

#include "cuda/context.h"
#include "cuda/tuning.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Enqueues the first k >= 0 tokens of the total order of every row of logits: values, tokens [rows, k], -inf and -1
/// past the last; NaN and -1 where the row is invalid. Reads a row once and chunks of it a second time for k <= 1024;
/// for every further thousand tokens, a few times more. The workspace holds workspace_bytes(); cudaErrorNotSupported
/// for a request with edits or a history, or with rows at more than kMaxLeading strides.
cudaError_t launch_top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens, RowStatus* status,
                         const Context& context);

/// The same by a geometry that the device can run. Clusters are taken for blocks that never meet.
cudaError_t launch_top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens, RowStatus* status,
                         const Context& context, const Geometry& geometry);

}  // namespace tokendraw::cuda
