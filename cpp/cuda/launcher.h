// SPDX-License-Identifier: Apache-2.0
// What launchers have in common: what they refuse, where their memory is, which element type they are for.
#pragma once

#include <cstddef>

#include "core/half.h"
#include "cuda/context.h"
#include "cuda/row.cuh"
#include "cuda/rows.cuh"
#include "cuda/tuning.h"
#include "cuda/workspace.h"
#include "plan/request.h"

namespace tokendraw::cuda {

/// Whether kernels can follow the leading strides of the rows.
inline bool has_few_strides(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  Leading leading;
  return join_leading(shape, strides, &leading);
}

/// Whether a kernel that knows edits, but no history, reads what is asked for.
inline bool only_edits(const Request& request) {
  return !request.history.offsets && request.edits.token_bias_count <= kMaxTokenBiases &&
         has_few_strides(request.logits.leading_shape, request.logits.leading_strides);
}

/// The same for one that knows no edits.
inline bool only_logits(const Request& request) {
  const Edits& edits = request.edits;
  return only_edits(request) && !edits.allowed && !edits.allowed_bits && !edits.bias && !edits.token_bias;
}

template <class T>
T* in_workspace(const Context& context, std::size_t offset) {
  return reinterpret_cast<T*>(static_cast<char*>(context.workspace.data) + offset);
}

inline TileTables tables_in(const Context& context, const WorkspaceLayout& layout) {
  return {in_workspace<float>(context, layout.maxima()), in_workspace<double>(context, layout.sums()),
          in_workspace<double>(context, layout.kept())};
}

/// Blocks for every row, in clusters where the blocks of a row meet.
inline LaunchShape shape_of(std::int64_t rows, const Geometry& geometry, const Context& context) {
  LaunchShape shape;
  shape.grid = static_cast<unsigned>(rows * geometry.blocks);
  shape.block = kThreads;
  shape.cluster = geometry.meeting == Meeting::kCluster ? geometry.blocks : 1;
  shape.stream = context.stream;
  return shape;
}

/// call(Element{}) for the element type of logits.
template <class Call>
cudaError_t with_element(Dtype dtype, Call call) {
  switch (dtype) {
    case Dtype::kFloat32: return call(float{});
    case Dtype::kFloat16: return call(Float16{});
    case Dtype::kBfloat16: return call(Bfloat16{});
    case Dtype::kFloat64: return call(double{});
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace tokendraw::cuda
