// SPDX-License-Identifier: Apache-2.0
#include "cuda/transform.h"

#include "cuda/launcher.h"
#include "cuda/transform_rows.cuh"
#include "cuda/workspace.h"

namespace tokendraw::cuda {

cudaError_t launch_transform(const Request& request, Transform transform, float* out, RowStatus* status,
                             const Context& context) {
  if (!only_edits(request)) return cudaErrorNotSupported;
  if (request.logits.rows == 0) return cudaSuccess;
  const WorkspaceLayout layout(request.logits.rows, request.logits.vocab);
  TransformTask task;
  task.rows = rows_of(request.logits);
  task.transform = transform;
  task.temperature = values_of(request.params.temperature);
  task.top_p = values_of(request.params.top_p);
  task.min_p = values_of(request.params.min_p);
  task.top_k = values_of(request.params.top_k);
  task.out = out;
  task.status = status;
  task.tables = tables_in(context, layout);
  task.chunks = in_workspace<float>(context, layout.chunks());
  const RowEdits edits = edits_of(request.edits);
  const LaunchShape shape = shape_of(task.rows.rows, Geometry{}, context);
  return with_element(request.logits.dtype, [&](auto element) {
    using Element = decltype(element);
    return edits.any() ? launch(transform_rows<Element, RowEdits>, shape, task, edits)
                       : launch(transform_rows<Element, NoEdits>, shape, task, NoEdits{});
  });
}

}  // namespace tokendraw::cuda
