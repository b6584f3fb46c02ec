// SPDX-License-Identifier: Apache-2.0
// How far rows are from their targets, and how that changes with their logits.
#pragma once

#include "cuda/context.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Enqueues the losses of `targets` at the request's temperature, as Backend::cross_entropy says; the gradient, float32
/// or of the logits' own type, may be the logits themselves. Values per row, outputs and status are in the memory of
/// the device; a row with an illegal temperature or target is invalid: its loss and gradient are NaN. One block reads a
/// row once, and a second time for the gradient, a third time where labels are smoothed. The workspace holds
/// workspace_bytes(); cudaErrorNotSupported for a request with edits or a history, or with rows at more than
/// kMaxLeading strides.
cudaError_t launch_cross_entropy(const Request& request, const Targets& targets, const LossOutputs& outputs,
                                 RowStatus* status, const Context& context);

}  // namespace tokendraw::cuda
