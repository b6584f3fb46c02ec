// SPDX-License-Identifier: Apache-2.0
#include "cuda/continuations.h"

#include <algorithm>

#include "cuda/continuations.cuh"
#include "cuda/launcher.h"
#include "cuda/workspace.h"

namespace tokendraw::cuda {
namespace {

constexpr std::size_t aligned(std::size_t offset) { return (offset + 15) / 16 * 16; }

/// Blocks that rank the candidates of one group: a few rounds for each thread, as far as there is anything to gain.
constexpr std::int64_t kMostRankingBlocks = 64;

Groups groups_of(const Beams& beams, const Context& context, const ContinuationsLayout& layout) {
  Groups groups{beams.groups[0], nullptr, beams.count};
  if (!are_alike(beams)) groups.listed = in_workspace<BeamGroup>(context, layout.groups());
  return groups;
}

LaunchShape shape_of_blocks(std::int64_t blocks, const Context& context) {
  return shape_of(blocks, Geometry{}, context);
}

cudaError_t launch_lists(const Request& request, const Beams& beams, RowStatus* status, const Context& context,
                         const Geometry& geometry, const ContinuationsLayout& layout) {
  const WorkspaceLayout of_rows(layout.beams(), request.logits.vocab);
  ContinuationTask task;
  task.rows = rows_of(request.logits);
  task.blocks = geometry.blocks;
  task.groups = groups_of(beams, context, layout);
  task.scores = {0.0, beams.device_scores};
  task.temperature = values_of(request.params.temperature);
  task.renormalize = beams.renormalize;
  task.status = status;
  task.arrivals = in_workspace<std::uint32_t>(context, of_rows.arrivals());
  task.tables = tables_in(context, of_rows);
  task.chunks = in_workspace<float>(context, of_rows.chunks());
  task.candidates = in_workspace<RankedToken>(context, layout.candidates());
  task.counts = in_workspace<std::int64_t>(context, layout.counts());
  task.list = layout.list();
  const RowEdits edits = edits_of(request.edits);
  const LaunchShape shape = shape_of(layout.beams(), {Meeting::kSplit, geometry.blocks}, context);
  return with_element(request.logits.dtype, [&](auto element) {
    using Element = decltype(element);
    return edits.any() ? launch(list_beams<Element, RowEdits>, shape, task, edits)
                       : launch(list_beams<Element, NoEdits>, shape, task, NoEdits{});
  });
}

cudaError_t launch_ranks(const Beams& beams, Continuation* found, const Context& context,
                         const ContinuationsLayout& layout) {
  std::int64_t most = 0;
  for (std::int64_t i = 0; i < beams.count; ++i) most = std::max(most, beams.groups[i].beams * layout.list());
  const std::int64_t useful = (most + kThreads - 1) / kThreads;
  RankTask task;
  task.groups = groups_of(beams, context, layout);
  task.blocks = static_cast<unsigned>(std::clamp<std::int64_t>(useful, 1, kMostRankingBlocks));
  task.candidates = in_workspace<RankedToken>(context, layout.candidates());
  task.counts = in_workspace<std::int64_t>(context, layout.counts());
  task.list = layout.list();
  task.found = found;
  return launch(rank_continuations, shape_of_blocks(beams.count * task.blocks, context), task);
}

}  // namespace

bool are_alike(const Beams& beams) {
  for (std::int64_t i = 1; i < beams.count; ++i) {
    const BeamGroup& first = beams.groups[0];
    const BeamGroup& group = beams.groups[i];
    const bool alike = group.first_row == first.first_row + i * first.beams &&
                       group.first_beam == first.first_beam + i * first.beams && group.beams == first.beams &&
                       group.first_slot == first.first_slot + i * first.slots && group.slots == first.slots;
    if (!alike) return false;
  }
  return true;
}

ContinuationsLayout::ContinuationsLayout(const Beams& beams, std::int64_t vocab) {
  for (std::int64_t i = 0; i < beams.count; ++i) {
    const BeamGroup& group = beams.groups[i];
    beams_ = std::max(beams_, group.first_beam + group.beams);
    list_ = std::max(list_, std::min(group.slots, vocab));
  }
  const auto count = static_cast<std::size_t>(beams_);
  candidates_ = aligned(workspace_bytes(beams_, vocab));
  counts_ = candidates_ + count * static_cast<std::size_t>(list_) * sizeof(RankedToken);
  groups_ = counts_ + count * sizeof(std::int64_t);
  bytes_ = groups_ + static_cast<std::size_t>(beams.count) * sizeof(BeamGroup);
}

cudaError_t launch_top_continuations(const Request& request, const Beams& beams, Continuation* found, RowStatus* status,
                                     const Context& context) {
  const std::int64_t count = ContinuationsLayout(beams, request.logits.vocab).beams();
  return launch_top_continuations(request, beams, found, status, context,
                                  choose_geometry(count, request.logits.vocab, context.device));
}

cudaError_t launch_top_continuations(const Request& request, const Beams& beams, Continuation* found, RowStatus* status,
                                     const Context& context, const Geometry& geometry) {
  if (!only_edits(request) || beams.noise != Noise::kNone) return cudaErrorNotSupported;
  if (beams.count == 0) return cudaSuccess;
  const ContinuationsLayout layout(beams, request.logits.vocab);
  if (layout.beams() > 0) {
    const cudaError_t error = launch_lists(request, beams, status, context, geometry, layout);
    if (error != cudaSuccess) return error;
  }
  return launch_ranks(beams, found, context, layout);
}

cudaError_t launch_continuation_arrays(const Beams& beams, const Continuation* found, const RowStatus* status,
                                       const ContinuationArrays& arrays, const Context& context) {
  if (beams.count == 0) return cudaSuccess;
  if (!are_alike(beams)) return cudaErrorNotSupported;
  return launch(split_continuations, shape_of_blocks(beams.count, context),
                ArraysTask{{beams.groups[0], nullptr, beams.count}, found, status, arrays});
}

}  // namespace tokendraw::cuda
