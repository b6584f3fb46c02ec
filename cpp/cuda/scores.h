// SPDX-License-Identifier: Apache-2.0
// What rows say of given tokens, and of all.
#pragma once

#include "cuda/context.h"
#include "cuda/tuning.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Enqueues the scores of `tokens` at the request's temperature, as Backend::score says. Values per row, outputs and
/// status are in the memory of the device; a row with an illegal temperature or token is invalid. At temperature 0
/// there is no logsumexp. The workspace holds workspace_bytes(); cudaErrorNotSupported for a request with edits or a
/// history, or with rows at more than kMaxLeading strides.
cudaError_t launch_score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
                         RowStatus* status, const Context& context);

/// The same by a geometry that the device can run.
cudaError_t launch_score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
                         RowStatus* status, const Context& context, const Geometry& geometry);

}  // namespace tokendraw::cuda
