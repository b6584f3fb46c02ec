// SPDX-License-Identifier: Apache-2.0
#include "cuda/top_p.h"

#include "cuda/launcher.h"
#include "cuda/top_p_rows.cuh"

namespace tokendraw::cuda {

cudaError_t launch_top_p(const DrawTask& task, Dtype dtype, const RowEdits& edits, const Context& context) {
  DrawTask of_clusters = task;
  if (task.geometry.meeting == Meeting::kSplit) of_clusters.geometry = {};
  const LaunchShape shape = shape_of(task.rows.rows, of_clusters.geometry, context);
  return with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    return edits.any() ? launch(top_p_rows<Element, RowEdits>, shape, of_clusters, edits)
                       : launch(top_p_rows<Element, NoEdits>, shape, of_clusters, NoEdits{});
  });
}

}  // namespace tokendraw::cuda
