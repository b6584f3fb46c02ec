// SPDX-License-Identifier: Apache-2.0
// Any processor. Compiled with the flags of that ISA: nothing here may call into, or share code with, another object.
#include "cpu/isa.h"
#include "cpu/vector_scalar-inl.h"
// The vector type comes first.
#include "cpu/kernels-inl.h"

namespace tokendraw::cpu {

const Kernels kScalarKernels = kKernels;

}  // namespace tokendraw::cpu
