// SPDX-License-Identifier: Apache-2.0
#include "cuda/logprobs.cuh"

#include "cuda/describe_rows.cuh"
#include "cuda/launcher.h"

namespace tokendraw::cuda {
namespace {

template <class Element, class EditsOfRows>
cudaError_t launch_rows(const DescribeTask& task, const EditsOfRows& edits, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(task.drawn.rows.rows);
  shape.block = kThreads;
  shape.stream = stream;
  return launch(describe_rows<Element, EditsOfRows>, shape, task, edits);
}

}  // namespace

cudaError_t launch_descriptions(const DrawTask& task, Dtype dtype, const RowEdits& edits, const DrawOutputs& outputs,
                                cudaStream_t stream) {
  const DescribeTask describe{task, outputs};
  return with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    return edits.any() ? launch_rows<Element>(describe, edits, stream)
                       : launch_rows<Element>(describe, NoEdits{}, stream);
  });
}

}  // namespace tokendraw::cuda
