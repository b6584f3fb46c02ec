// SPDX-License-Identifier: Apache-2.0
// The table of one ISA. Included once by each isa_*.cpp, after its vector type.
#pragma once

#include "cpu/collect-inl.h"
#include "cpu/cut-inl.h"
#include "cpu/min_p-inl.h"
#include "cpu/residual-inl.h"
#include "cpu/scan-inl.h"
#include "cpu/write-inl.h"

namespace tokendraw::cpu {
namespace {

constexpr Kernels kKernels{scan_max,       scan_sums,   cut_sums,   count_kept,    collect,        scan_near_max,
                           count_at_least, tile_scores, lane_sums,  weights,       cut_score_sums, score_moments,
                           write_scores,   write_probs, tile_probs, take_residual, prob_lanes};

}  // namespace
}  // namespace tokendraw::cpu
