// SPDX-License-Identifier: Apache-2.0
// Sums over a few tokens of a row, in place of reading their tiles: the same bits.
#pragma once

#include "cpu/workspace.h"

namespace tokendraw::cpu {

/// The tokens of one tile in a list by ascending token, as a range of slots.
struct Run {
  std::int64_t begin;
  std::int64_t end;
};

/// The run that begins at a slot.
Run run_from(const Buffer<Candidate>& list, std::int64_t begin);

/// The tile's sum with the additions of the kernels (scan-inl.h), without the zeros.
double sum_of_run(const Buffer<Candidate>& list, const Buffer<float>& weights, Run run);

}  // namespace tokendraw::cpu
