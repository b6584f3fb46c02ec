// SPDX-License-Identifier: Apache-2.0
// Which rows could be drawn from, as the caller sees it.
#pragma once

#include <cstdint>

#include "cuda/context.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// valid [rows], from status [rows].
cudaError_t launch_valid(const RowStatus* status, std::int64_t rows, bool* valid, const Context& context);

/// Whether this build holds kernels that run on the current device.
bool has_kernels();

}  // namespace tokendraw::cuda
