// SPDX-License-Identifier: Apache-2.0
// The best continuations of some beams of a prompt, read one beam after another: each row is pruned by what the rows
// before it left, while it is in cache, and nothing of it is kept but its candidates.
#pragma once

#include "core/continuation.h"
#include "cpu/row.h"
#include "plan/request.h"

namespace tokendraw::cpu {

class BestContinuations {
 public:
  /// Holds the best k of at most `beams` rows of `vocab` tokens in `found`: O(min(k, beams * vocab)) memory.
  BestContinuations(std::int64_t k, std::int64_t beams, std::int64_t vocab, Buffer<Continuation>& found);

  /// Adds the continuations of a valid row that was scanned with its sums and group maxima.
  void add(Row& row, double score, std::int32_t parent);

  /// Adds what another one found.
  void merge(const BestContinuations& other);

  /// Writes the best, in order, and the padding after them.
  void write(const ContinuationOutputs& out, std::int64_t prompt);

 private:
  void narrow();

  const std::int64_t k_;
  Buffer<Continuation>& found_;
  std::int64_t size_ = 0;
  bool full_ = false;  // found_[k_ - 1] bounds what can still be among the best
};

/// The beams first, first + step, ... that are not at -inf, the best first: the sooner the bound is tight, the less of
/// the later rows is read twice.
void order_beams(const double* scores, std::int64_t width, std::int64_t first, std::int64_t step,
                 Buffer<std::int32_t>& beams);

}  // namespace tokendraw::cpu
