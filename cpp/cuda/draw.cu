// SPDX-License-Identifier: Apache-2.0
#include "cuda/draw.h"

#include "cuda/draw_rows.cuh"
#include "cuda/launcher.h"
#include "cuda/logprobs.cuh"
#include "cuda/top_p.h"
#include "cuda/workspace.h"

namespace tokendraw::cuda {
namespace {

static_assert(sizeof(DrawnRow) == kDrawnBytes, "the workspace holds one for each row");

bool describes(const DrawOutputs& out) {
  return out.logprobs || out.raw_logprobs || out.entropies || out.ranks || out.kept || out.top_count > 0;
}

/// Of any row.
bool may_have_nucleus(const Request& request) {
  const PerRow<double>& top_p = request.params.top_p;
  return top_p.device.data || !(top_p.value >= 1.0);
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
  task.arrivals = in_workspace<std::uint32_t>(context, layout.arrivals());
  task.tables = tables_in(context, layout);
  task.chunks = in_workspace<float>(context, layout.chunks());
  task.describes = describes(outputs);
  if (task.describes || may_have_nucleus(request)) task.drawn = in_workspace<DrawnRow>(context, layout.drawn());
  return task;
}

/// Rows are drawn by one geometry, those that top_p leaves open are finished by another.
cudaError_t launch_steps(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context,
                         const Geometry& geometry, const Geometry& of_open) {
  if (!only_edits(request)) return cudaErrorNotSupported;
  if (request.logits.rows == 0) return cudaSuccess;
  const DrawTask task = task_of(request, outputs, status, context, geometry);
  const RowEdits edits = edits_of(request.edits);
  const LaunchShape shape = shape_of(task.rows.rows, geometry, context);
  const Dtype dtype = request.logits.dtype;
  cudaError_t error = with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    return edits.any() ? launch(draw_rows<Element, RowEdits>, shape, task, edits)
                       : launch(draw_rows<Element, NoEdits>, shape, task, NoEdits{});
  });
  if (error == cudaSuccess && may_have_nucleus(request)) error = launch_top_p(task, dtype, edits, of_open, context);
  if (error != cudaSuccess || !task.describes) return error;
  return launch_descriptions(task, dtype, edits, outputs, context.stream);
}

}  // namespace

cudaError_t launch_draw(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context) {
  const std::int64_t rows = request.logits.rows, vocab = request.logits.vocab;
  const std::int64_t open = describes(outputs) ? rows : (rows + kRowsPerOpenRow - 1) / kRowsPerOpenRow;
  return launch_steps(request, outputs, status, context, choose_geometry(rows, vocab, context.device),
                      choose_geometry(open, vocab, context.device));
}

cudaError_t launch_draw(const Request& request, const DrawOutputs& outputs, RowStatus* status, const Context& context,
                        const Geometry& geometry) {
  return launch_steps(request, outputs, status, context, geometry, geometry);
}

}  // namespace tokendraw::cuda
