// SPDX-License-Identifier: Apache-2.0
// The draw of one token from the kept set of a row: a tile by the tiles' sums, a lane by the lanes' sums, a token by
// the weights of its lane. Each level takes one block of randomness.
#pragma once

#include "core/philox.h"
#include "cpu/kept.h"

namespace tokendraw::cpu {

/// A listed row, and one without top_p, draws once from the kept set. With top_p on a longer row the first draw is from
/// the set before top_p; where its token is not kept, a second is from the kept set. Both ways a token is drawn in
/// proportion to its weight; the first way most rows never need their cutoff.
Candidate draw_token(Kept& kept, const RandomSource& source, Purpose purpose = Purpose::kDraw);

}  // namespace tokendraw::cpu
