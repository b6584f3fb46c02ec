// SPDX-License-Identifier: Apache-2.0
// The tokens whose surprise is nearest to the entropy: Meister et al., "Locally typical sampling" (2023).
#pragma once

#include "cpu/row.h"

namespace tokendraw::cpu {

/// Scores from floor to ceiling.
struct ScoreBand {
  float floor;
  float ceiling;
};

/// The narrowest band around `center` that holds `target`, in units of the row, of what `base` keeps; tokens at its
/// very edge are all inside. Reads the row a few dozen times; O(kMaxListed) memory.
ScoreBand select_typical(Row& row, Cutoff base, double center, double target);

/// The same of row.work.listed, which is what earlier steps left.
ScoreBand select_typical_listed(Row& row, double center, double target);

}  // namespace tokendraw::cpu
