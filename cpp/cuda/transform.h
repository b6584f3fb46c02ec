// SPDX-License-Identifier: Apache-2.0
// Whole rows: scores, log-probabilities or probabilities of what the steps keep.
#pragma once

#include "cuda/context.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Enqueues out [rows, vocab], row-major, as Backend::transform says. What may be asked for, and where it lies, is as
/// for launch_draw; one block per row. A row is read once, a second time to be written, and again for top_k and top_p.
/// Where min_p alone leaves few tokens the host adds their weights in another order: probabilities may differ by the
/// rounding of that. cudaErrorNotSupported for a history, or for rows at more than kMaxLeading strides.
cudaError_t launch_transform(const Request& request, Transform transform, float* out, RowStatus* status,
                             const Context& context);

}  // namespace tokendraw::cuda
