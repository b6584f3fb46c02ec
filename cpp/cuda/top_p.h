// SPDX-License-Identifier: Apache-2.0
// The second launch of a draw whose top_p may be below 1.
#pragma once

#include "cuda/context.h"
#include "cuda/tuning.h"
#include "plan/request.h"

namespace tokendraw::cuda {

struct DrawTask;
struct RowEdits;

/// Enqueues what top_p has to add to the draw of `task`, in whose order and memory it lies: tokens it does not keep are
/// drawn anew, and cutoffs of rows that are described become those of the nucleus. The blocks of a row are a cluster,
/// or it has one.
cudaError_t launch_top_p(const DrawTask& task, Dtype dtype, const RowEdits& edits, const Geometry& geometry,
                         const Context& context);

}  // namespace tokendraw::cuda
