// SPDX-License-Identifier: Apache-2.0
// How many threads a block has, and how many blocks share a row. Nothing here changes a result.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/weight.h"
#include "cuda/context.h"

namespace tokendraw::cuda {

/// Two blocks share a multiprocessor's registers, 128 for each thread: while one finishes its row, which is a few
/// warps' work, the other reads.
inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kBlocksPerMultiprocessor = 2;

/// The largest cluster that every device with clusters can run.
inline constexpr unsigned kMaxCluster = 8;

/// Rows that can be split over blocks without a cluster at once: each has a counter in the workspace.
inline constexpr std::int64_t kMaxSplitRows = 1024;

/// Of so many rows about one draws a token that top_p does not keep, where it keeps most of the mass.
inline constexpr std::int64_t kRowsPerOpenRow = 16;

enum class Meeting : std::uint8_t {
  kBlock,    // a row is one block's
  kCluster,  // the blocks of a row finish it together
  kSplit,    // the last block of a row that is done finishes it alone
};

struct Geometry {
  Meeting meeting = Meeting::kBlock;
  unsigned blocks = 1;  // per row
};

/// As many blocks per row as multiprocessors have room for, while every warp has a tile.
inline Geometry choose_geometry(std::int64_t rows, std::int64_t vocab, const Device& device) {
  const std::int64_t tiles = (vocab + kTile - 1) / kTile;
  const std::int64_t room = kBlocksPerMultiprocessor * device.multiprocessors / std::max<std::int64_t>(rows, 1);
  const std::int64_t useful = std::min<std::int64_t>({room, (tiles + kWarps - 1) / kWarps, kMaxCluster});
  unsigned blocks = 1;
  while (2 * blocks <= useful) blocks *= 2;
  if (blocks == 1 || rows > kMaxSplitRows) return {};
  return {device.has_clusters() ? Meeting::kCluster : Meeting::kSplit, blocks};
}

}  // namespace tokendraw::cuda
