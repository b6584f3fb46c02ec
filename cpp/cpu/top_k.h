// SPDX-License-Identifier: Apache-2.0
// The first k tokens of the total order, without ordering the rest.
#pragma once

#include "cpu/row.h"

namespace tokendraw::cpu {

/// Leaves the first min(k, finite tokens) of the order in `found`, by ascending token; k > 0. Scores below `floor`,
/// which is at most the row's largest, are not looked for. Takes a scan unless the last one found group maxima; reads
/// again only tiles that can hold one of them. O(k) memory, work.ordered included.
void select_top_k(Row& row, std::int64_t k, Buffer<Candidate>& found, float floor = -FLT_MAX);

}  // namespace tokendraw::cpu
