// SPDX-License-Identifier: Apache-2.0
// The first k tokens of the total order, without ordering the rest.
#pragma once

#include "cpu/row.h"

namespace tokendraw::cpu {

/// Leaves the first min(k, finite tokens) of the order in `found`, in no particular order; k > 0.
/// The row was scanned with kGroupMaxima. Reads again only tiles that can hold one of them; O(k) memory.
void select_top_k(Row& row, std::int64_t k, Buffer<Candidate>& found);

}  // namespace tokendraw::cpu
