// SPDX-License-Identifier: Apache-2.0
// NEON, which every AArch64 processor has. Nothing here may call into, or share code with, another object.
#include "cpu/isa.h"
#include "cpu/vector_neon-inl.h"
// The vector type comes first.
#include "cpu/kernels-inl.h"

namespace tokendraw::cpu {

const Kernels kNeonKernels = kKernels;

}  // namespace tokendraw::cpu
