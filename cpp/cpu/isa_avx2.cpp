// SPDX-License-Identifier: Apache-2.0
// AVX2 with FMA and F16C. Compiled with the flags of that ISA: nothing here may call into, or share code with, another
// object.
#include "cpu/isa.h"
#include "cpu/vector_avx2-inl.h"
// The vector type comes first.
#include "cpu/kernels-inl.h"

namespace tokendraw::cpu {

const Kernels kAvx2Kernels = kKernels;

}  // namespace tokendraw::cpu
