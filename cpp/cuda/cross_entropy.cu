// SPDX-License-Identifier: Apache-2.0
#include "cuda/cross_entropy.h"

#include <type_traits>

#include "cuda/launcher.h"
#include "cuda/loss_rows.cuh"
#include "cuda/workspace.h"

namespace tokendraw::cuda {

cudaError_t launch_cross_entropy(const Request& request, const Targets& targets, const LossOutputs& outputs,
                                 RowStatus* status, const Context& context) {
  const OutputRows& gradient = outputs.gradient;
  if (!only_logits(request)) return cudaErrorNotSupported;
  if (gradient.data && !has_few_strides(gradient.leading_shape, gradient.leading_strides)) return cudaErrorNotSupported;
  if (request.logits.rows == 0) return cudaSuccess;
  const WorkspaceLayout layout(request.logits.rows, request.logits.vocab);
  LossTask task;
  task.rows = rows_of(request.logits);
  task.temperature = values_of(request.params.temperature);
  task.gradient_scale = values_of(targets.gradient_scale);
  task.tokens = values_of(targets.tokens);
  task.ignore_index = targets.ignore_index;
  task.smoothing = targets.label_smoothing;
  task.weight = targets.weight;
  task.mean_of = targets.mean_of;
  task.losses = outputs.losses;
  task.gradient = gradient.data;
  if (gradient.data) join_leading(gradient.leading_shape, gradient.leading_strides, &task.gradient_leading);
  task.status = status;
  task.tables = tables_in(context, layout);
  const LaunchShape shape = shape_of(task.rows.rows, Geometry{}, context);
  return with_element(request.logits.dtype, [&](auto element) {
    using Element = decltype(element);
    if (!gradient.data || gradient.dtype == Dtype::kFloat32) return launch(loss_rows<Element, float>, shape, task);
    if constexpr (!std::is_same_v<Element, float>) {
      if (gradient.dtype == request.logits.dtype) return launch(loss_rows<Element, Element>, shape, task);
    }
    return cudaErrorInvalidValue;
  });
}

}  // namespace tokendraw::cuda
