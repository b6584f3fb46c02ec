// SPDX-License-Identifier: Apache-2.0
#include "cuda/top_k.h"

#include "cuda/launcher.h"
#include "cuda/top_k_rows.cuh"
#include "cuda/workspace.h"

namespace tokendraw::cuda {
cudaError_t launch_top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens, RowStatus* status,
                         const Context& context) {
  return launch_top_k(request, k, values, tokens, status, context,
                      choose_geometry(request.logits.rows, request.logits.vocab, context.device));
}

cudaError_t launch_top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens, RowStatus* status,
                         const Context& context, const Geometry& geometry) {
  if (!only_logits(request)) return cudaErrorNotSupported;
  if (request.logits.rows == 0) return cudaSuccess;
  const WorkspaceLayout layout(request.logits.rows, request.logits.vocab);
  TopKTask task;
  task.rows = rows_of(request.logits);
  task.blocks = geometry.blocks;
  task.k = k;
  task.values = values;
  task.tokens = tokens;
  task.status = status;
  task.arrivals = in_workspace<std::uint32_t>(context, layout.arrivals());
  task.maxima = in_workspace<float>(context, layout.chunks());
  const Geometry apart{Meeting::kSplit, geometry.blocks};
  return with_element(request.logits.dtype, [&](auto element) {
    return launch(top_k_of_rows<decltype(element)>, shape_of(task.rows.rows, apart, context), task);
  });
}

}  // namespace tokendraw::cuda
