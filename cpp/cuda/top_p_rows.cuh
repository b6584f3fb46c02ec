// SPDX-License-Identifier: Apache-2.0
// The kernel of what top_p has to add to draws: where a token was drawn that it does not keep, or where its nucleus is
// to be described.
#pragma once

#include "cuda/draw.cuh"
#include "cuda/draw_task.cuh"
#include "cuda/top_p.cuh"

namespace tokendraw::cuda {

/// What one thing after another is done in.
union NucleusSpace {
  NucleusScratch search;
  LanesOfTile lanes;
};

// rows of a draw -> tokens [rows] of those that are open: the blocks of a row are a cluster, or one
template <class Element, class EditsOfRows>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    top_p_rows(const __grid_constant__ DrawTask task, const __grid_constant__ EditsOfRows edits) {
  TOKENDRAW_SHARED(params, RowParams);
  TOKENDRAW_SHARED(space, NucleusSpace);
  TOKENDRAW_SHARED(drawn, DrawnRow);
  // Not in every thread's registers:
  TOKENDRAW_SHARED(units, RowUnits);
  TOKENDRAW_SHARED(team, Team);
  TOKENDRAW_SHARED(table, TileTable);
  const unsigned blocks = task.geometry.blocks;
  const std::int64_t index = blockIdx.x / blocks;
  if (threadIdx.x == 0) {
    drawn = task.drawn[index];
    team = {blockIdx.x % blocks, blocks};
  }
  __syncthreads();
  if (drawn.status != RowStatus::kValid || !drawn.is_nucleus) return;
  if (!drawn.is_open && !task.describes) return;
  const RowReader<Element, EditsOfRows> row(task.rows, index, edits);
  if (warp_of_block() == 0) {
    read_params(task, index, &params);
    if (lane_of_warp() == 0) {
      units = {params.scale, reference_of(drawn.max, params.scale)};
      table = task.tables.of(index, row.tiles);
    }
  }
  team.sync();  // all have read what one will write

  const Cutoff of_min_p = cutoff_of_min_p(params, drawn.max);
  Nucleus<Element, EditsOfRows> nucleus(row, units, table, team, drawn.max, space.search);

  Ends bracket{kKeepNothing, kept_before(drawn, of_min_p)};
  double inner_mass = 0.0;
  bool searches = !(drawn.mass < drawn.target);
  if (!drawn.is_open) {
    bracket = {bracket.outer, tighter(drawn.cutoff, of_min_p)};
    inner_mass = drawn.mass;
    searches = !(nucleus.mass_of(bracket.outer) < drawn.target);
  }
  Cutoff cutoff = bracket.outer;
  if (searches) {
    const float floor = floor_of_nucleus(units, drawn.max, row.vocab, params.top_p_share);
    cutoff = nucleus.find(bracket, inner_mass, drawn.target, floor);
  }
  if (team.rank != 0) return;
  Candidate token = drawn.token;
  if (drawn.is_open) {
    const double* kept = table.outer(row.tiles).kept;
    token = draw_within(row, units, table, kept, cutoff, Levels(params.source, 1), space.lanes);
  }
  if (threadIdx.x != 0) return;
  DrawnRow found = drawn;  // which other warps may still read
  found.token = token;
  found.cutoff = cutoff;
  write_drawn(task, index, found);
}

}  // namespace tokendraw::cuda
