// SPDX-License-Identifier: Apache-2.0
// The kernel tables that this build holds, best last, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernels.h"

namespace tokendraw::cpu {

extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kNeonKernels;

struct Isa {
  const char* name;
  const Kernels* kernels;
};

/// What this build holds and this processor runs, best last; "scalar" is always first.
const std::vector<Isa>& supported_isas();

/// The table in use: the one that `select_isa` took last, else the environment's TOKENDRAW_ISA, else the best.
/// Throws std::invalid_argument where the environment names another.
const Isa& active_isa();

/// Throws std::invalid_argument where the name is not in `supported_isas()`.
void select_isa(const std::string& name);

}  // namespace tokendraw::cpu
