// SPDX-License-Identifier: Apache-2.0
// The first k tokens of the total order, without ordering the rest.
#pragma once

#include "cpu/row.h"

namespace tokendraw::cpu {

/// Leaves the first min(k, finite tokens) of the order in `found`, in no particular order; k > 0. Scores below `floor`,
/// which is at most the row's largest, are not looked for.
/// The row was scanned with its group maxima. Reads again only tiles that can hold one of them; O(k) memory.
void select_top_k(Row& row, std::int64_t k, Buffer<Candidate>& found, float floor = -FLT_MAX);

}  // namespace tokendraw::cpu
