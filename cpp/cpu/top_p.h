// SPDX-License-Identifier: Apache-2.0
// The shortest beginning of the total order that holds a given mass.
#pragma once

#include "cpu/row.h"

namespace tokendraw::cpu {

/// A token is kept while the mass strictly before it is below `target`. `base` is the set that earlier steps left.
/// Reads the row a handful of times, tiles below the boundary never; O(kMaxListed) memory.
Cutoff select_top_p(Row& row, Cutoff base, double target, double top_p_share);

/// How many of the weights, which stand in the total order, are kept by the same rule; at least one.
std::int64_t count_top_p(const Buffer<float>& weights, double target);

}  // namespace tokendraw::cpu
