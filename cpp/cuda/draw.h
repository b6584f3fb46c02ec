// SPDX-License-Identifier: Apache-2.0
// One token per row, and what else a draw is asked for.
#pragma once

#include "cuda/context.h"
#include "cuda/tuning.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Enqueues the draws of a request whose arrays, outputs and status are in the memory of the device, but for the biases
/// of single tokens, at most kMaxTokenBiases. Parameters are one for all rows or in the memory of the device; a row
/// with an illegal one is invalid. Steps are in the default order, with the default rules, and end with min_p; no
/// history. The workspace holds workspace_bytes() of the request.
cudaError_t launch_draw(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context);

/// The same by a geometry that the device can run; every one draws the same tokens.
cudaError_t launch_draw(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context,
                        const Geometry& geometry);

}  // namespace tokendraw::cuda
