// SPDX-License-Identifier: Apache-2.0
// How a function of this room is declared. Internal linkage is the point: the same text is compiled once per ISA, and
// the linker must never merge an AVX-512 copy into code that runs on a machine without it (numpy#25274).
#pragma once

#if defined(__CUDACC__)
#define TOKENDRAW_INLINE static __host__ __device__ __forceinline__
#else
#define TOKENDRAW_INLINE static inline __attribute__((always_inline))
#endif

/// For lambdas, whose captured accumulators must live in registers.
#define TOKENDRAW_INLINED __attribute__((always_inline))
