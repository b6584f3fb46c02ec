// SPDX-License-Identifier: Apache-2.0
// The kernel that lists the best tokens of rows.
#pragma once

#include "cuda/top_k.cuh"

namespace tokendraw::cuda {

struct TopKTask {
  Rows rows;
  unsigned blocks = 1;  // per row
  std::int64_t k = 0;
  float* values = nullptr;
  std::int32_t* tokens = nullptr;
  RowStatus* status = nullptr;
  std::uint32_t* arrivals = nullptr;
  float* maxima = nullptr;  // [rows, chunks]
};

/// values, tokens [k] of one row.
struct TopKOfRow {
  float* values;
  std::int32_t* tokens;
  std::int64_t k;

  /// Writes what the list holds after the first `written`; returns how many there are now.
  __device__ std::int64_t write(const TopKSpace& space, std::int64_t written) const {
    const std::int64_t count = min(static_cast<std::int64_t>(space.count), k - written);
    for (std::int64_t slot = threadIdx.x; slot < count; slot += kThreads) {
      values[written + slot] = space.list[slot].score;
      tokens[written + slot] = space.list[slot].token;
    }
    return written + count;
  }

  __device__ void fill(std::int64_t written, float value) const {
    for (std::int64_t slot = written + threadIdx.x; slot < k; slot += kThreads) {
      values[slot] = value;
      tokens[slot] = -1;
    }
  }
};

/// The first out.k >= 1 tokens, a list after another: each is the beginning of what those before it have left. Returns
/// how many there are.
template <class Row, class Out>
__device__ std::int64_t write_best(const Row& row, const float* maxima, float max, const Out& out, TopKSpace& space) {
  select_top_k(row, maxima, max, static_cast<std::uint32_t>(min(out.k, std::int64_t{kMaxListed})), space);
  std::int64_t written = out.write(space, 0);
  while (written < out.k && space.count >= kMaxListed) {
    const Candidate last = space.list[space.count - 1];
    const RestOfRow<Row> rest{row, through(last)};
    list_in(rest, maxima, {kLowestFiniteKey, key_of(last.score), 0, 0}, kMaxListed, space);
    sort_list(space);
    written = out.write(space, written);
  }
  return written;
}

// logits [rows, vocab] -> values, tokens [rows, k]: the blocks of a row never meet, the last one finishes it
template <class Element>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    top_k_of_rows(const __grid_constant__ TopKTask task) {
  TOKENDRAW_SHARED(space, TopKSpace);
  const std::int64_t index = blockIdx.x / task.blocks;
  const NoEdits none{};
  const RowOfChunks<Element, NoEdits> row(RowReader<Element, NoEdits>(task.rows, index, none));
  float* maxima = task.maxima + index * row.chunks();
  scan_chunks(row, maxima, blockIdx.x % task.blocks, task.blocks);
  if (task.blocks > 1 && !is_last_block(task.arrivals + index, task.blocks)) return;
  __syncthreads();

  const float max = max_of_chunks(maxima, row.chunks());
  const RowStatus status = status_of(max);
  if (threadIdx.x == 0) task.status[index] = status;
  const TopKOfRow out{task.values + index * task.k, task.tokens + index * task.k, task.k};
  if (status != RowStatus::kValid) return out.fill(0, NAN);
  if (task.k > 0) out.fill(write_best(row, maxima, max, out, space), -INFINITY);
}

}  // namespace tokendraw::cuda
