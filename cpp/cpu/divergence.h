// SPDX-License-Identifier: Apache-2.0
// How far the distribution of one row is from that of another. A look at each for its sums, one more at both together.
#pragma once

#include "cpu/row.h"

namespace tokendraw::cpu {

/// In nats, never negative, relative error below 1e-6 at any size; KL is infinite where the other row excludes a token
/// that this one does not, JS at most ln 2. Scans both rows, of which neither is valid where the status is not kValid.
RowStatus find_divergence(Row& row, Row& other, Divergence kind, float* divergence);

}  // namespace tokendraw::cpu
