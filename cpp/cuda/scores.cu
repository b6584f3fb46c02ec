// SPDX-License-Identifier: Apache-2.0
#include "cuda/scores.h"

#include "cuda/launcher.h"
#include "cuda/score_rows.cuh"
#include "cuda/workspace.h"

namespace tokendraw::cuda {

cudaError_t launch_score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
                         RowStatus* status, const Context& context) {
  return launch_score(request, tokens, outputs, status, context,
                      choose_geometry(request.logits.rows, request.logits.vocab, context.device));
}

cudaError_t launch_score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& outputs,
                         RowStatus* status, const Context& context, const Geometry& geometry) {
  if (!only_logits(request)) return cudaErrorNotSupported;
  if (request.logits.rows == 0) return cudaSuccess;
  const WorkspaceLayout layout(request.logits.rows, request.logits.vocab);
  ScoreTask task;
  task.rows = rows_of(request.logits);
  task.geometry = geometry;
  task.temperature = values_of(request.params.temperature);
  task.tokens = values_of(tokens);
  task.out = outputs;
  task.status = status;
  task.arrivals = in_workspace<std::uint32_t>(context, layout.arrivals());
  task.tables = tables_in(context, layout);
  return with_element(request.logits.dtype, [&](auto element) {
    return launch(score_rows<decltype(element)>, shape_of(task.rows.rows, geometry, context), task);
  });
}

}  // namespace tokendraw::cuda
