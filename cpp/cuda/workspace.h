// SPDX-License-Identifier: Apache-2.0
// What lies where in the workspace of a launch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/weight.h"
#include "cuda/tuning.h"

namespace tokendraw::cuda {

inline std::int64_t count_tiles(std::int64_t vocab) { return (vocab + kTile - 1) / kTile; }

/// Parts of a tile whose largest scores are kept, at most.
inline constexpr std::size_t kMaxChunks = 32;

/// What a draw leaves of a row for top_p and for its description.
inline constexpr std::size_t kDrawnBytes = 72;

/// Counters come first, whatever the launch, and are zero between launches; nothing else outlives one.
class WorkspaceLayout {
 public:
  WorkspaceLayout(std::int64_t rows, std::int64_t vocab)
      : rows_(static_cast<std::size_t>(rows)),
        entries_(static_cast<std::size_t>(rows) * static_cast<std::size_t>(count_tiles(vocab))) {}

  std::size_t arrivals() const { return 0; }                                    // uint32_t [kMaxSplitRows]
  std::size_t sums() const { return kMaxSplitRows * sizeof(std::uint32_t); }    // double [rows, tiles]
  std::size_t kept() const { return sums() + entries_ * sizeof(double); }       // double [rows, 2, tiles]
  std::size_t drawn() const { return kept() + 2 * entries_ * sizeof(double); }  // kDrawnBytes [rows]
  std::size_t maxima() const { return drawn() + rows_ * kDrawnBytes; }          // float [rows, tiles]
  std::size_t chunks() const { return maxima() + entries_ * sizeof(float); }    // float [rows, tiles, kMaxChunks]
  std::size_t bytes() const { return chunks() + entries_ * kMaxChunks * sizeof(float); }

 private:
  std::size_t rows_;
  std::size_t entries_;
};

/// What a launch on as many rows needs at most; a larger workspace serves as well.
inline std::size_t workspace_bytes(std::int64_t rows, std::int64_t vocab) {
  return WorkspaceLayout(rows, vocab).bytes();
}

}  // namespace tokendraw::cuda
