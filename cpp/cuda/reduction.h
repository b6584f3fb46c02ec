// SPDX-License-Identifier: Apache-2.0
// What the losses of rows come to: their sum, their mean, or each by itself.
#pragma once

#include <cstdint>

#include "cuda/context.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Enqueues counted [1]: how many of `rows` targets are not to be ignored.
cudaError_t launch_count_targets(const Targets& targets, std::int64_t rows, double* counted, const Context& context);

/// Enqueues out: [rows] of them, or [1] for their sum, which for a mean is divided by targets.mean_of. All in the
/// memory of the device. Additions are in float64 and always in the same order.
cudaError_t launch_reduction(Reduction reduction, const Targets& targets, const double* losses, std::int64_t rows,
                             float* out, const Context& context);

}  // namespace tokendraw::cuda
