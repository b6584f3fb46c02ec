// SPDX-License-Identifier: Apache-2.0
#include "cuda/top_p.h"

#include "cuda/launcher.h"
#include "cuda/top_p_rows.cuh"

namespace tokendraw::cuda {

cudaError_t launch_top_p(const DrawTask& task, Dtype dtype, const RowEdits& edits, const Geometry& geometry,
                         const Context& context) {
  DrawTask of_team = task;
  of_team.geometry = geometry.meeting == Meeting::kCluster ? geometry : Geometry{};
  const LaunchShape shape = shape_of(task.rows.rows, of_team.geometry, context);
  return with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    return edits.any() ? launch(top_p_rows<Element, RowEdits>, shape, of_team, edits)
                       : launch(top_p_rows<Element, NoEdits>, shape, of_team, NoEdits{});
  });
}

}  // namespace tokendraw::cuda
