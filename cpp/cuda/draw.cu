// SPDX-License-Identifier: Apache-2.0
#include "cuda/draw.h"

#include "cuda/draw_rows.cuh"
#include "cuda/workspace.h"

namespace tokendraw::cuda {
namespace {

template <class T>
T* at(const Workspace& workspace, std::size_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(workspace.data) + offset);
}

Values<std::uint64_t> unsigned_values(const PerRow<std::int64_t>& per_row) {
  return {static_cast<std::uint64_t>(per_row.value), per_row.device};
}

DrawTask task_of(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context,
                 const Geometry& geometry) {
  const WorkspaceLayout layout(request.logits.rows, request.logits.vocab);
  DrawTask task;
  task.rows = rows_of(request.logits);
  task.geometry = geometry;
  task.reals[kTemperature] = values_of(request.params.temperature);
  task.reals[kTopP] = values_of(request.params.top_p);
  task.reals[kMinP] = values_of(request.params.min_p);
  task.integers[kTopK] = unsigned_values(request.params.top_k);
  task.integers[kSeed] = values_of(request.randomness.seed);
  task.integers[kStream] = values_of(request.randomness.stream);
  task.integers[kStep] = values_of(request.randomness.step);
  task.stream_is_row = request.randomness.stream_is_row;
  task.tokens = outputs.tokens;
  task.wide_tokens = context.wide_tokens;
  task.status = status;
  task.arrivals = at<std::uint32_t>(context.workspace, layout.arrivals());
  task.maxima = at<float>(context.workspace, layout.maxima());
  task.sums = at<double>(context.workspace, layout.sums());
  task.kept = at<double>(context.workspace, layout.kept());
  task.chunks = at<float>(context.workspace, layout.chunks());
  return task;
}

template <class Element, class EditsOfRows>
cudaError_t launch_rows(const DrawTask& task, const EditsOfRows& edits, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(task.rows.rows * task.geometry.blocks);
  shape.block = kThreads;
  shape.cluster = task.geometry.meeting == Meeting::kCluster ? task.geometry.blocks : 1;
  shape.stream = stream;
  return launch(draw_rows<Element, EditsOfRows>, shape, task, edits);
}

template <class Element>
cudaError_t launch_elements(const DrawTask& task, const Edits& edits, cudaStream_t stream) {
  const RowEdits row_edits = edits_of(edits);
  return row_edits.any() ? launch_rows<Element>(task, row_edits, stream)
                         : launch_rows<Element>(task, NoEdits{}, stream);
}

}  // namespace

cudaError_t launch_draw(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context) {
  return launch_draw(request, outputs, status, context,
                     choose_geometry(request.logits.rows, request.logits.vocab, context.device));
}

cudaError_t launch_draw(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context,
                        const Geometry& geometry) {
  if (request.logits.rows == 0) return cudaSuccess;
  const DrawTask task = task_of(request, outputs, status, context, geometry);
  switch (request.logits.dtype) {
    case Dtype::kFloat32: return launch_elements<float>(task, request.edits, context.stream);
    case Dtype::kFloat16: return launch_elements<Float16>(task, request.edits, context.stream);
    case Dtype::kBfloat16: return launch_elements<Bfloat16>(task, request.edits, context.stream);
    case Dtype::kFloat64: return launch_elements<double>(task, request.edits, context.stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace tokendraw::cuda
