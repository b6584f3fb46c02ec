// SPDX-License-Identifier: Apache-2.0
// The vector type of the scalar ISA: one float. Runs on any processor; it is the text that the others must equal.
#pragma once

#include <cstdint>

#include "core/arithmetic.h"
#include "core/half.h"

namespace tokendraw::cpu {
namespace {

using Vector = float;
using Mask = bool;
using Doubles = double;
inline constexpr int kWidth = 1;

template <class Element>
TOKENDRAW_INLINE Vector load(const Element* from) {
  return widen(*from);
}
TOKENDRAW_INLINE Doubles load_doubles(const float* from) { return static_cast<double>(*from); }
template <class Element>
TOKENDRAW_INLINE void store(Element* to, Vector v) {
  narrow(v, to);
}
TOKENDRAW_INLINE void stream(float* to, Vector v) { *to = v; }
TOKENDRAW_INLINE void finish_stream() {}
TOKENDRAW_INLINE Mask not_at_most(Vector a, Vector b) { return !(a <= b); }
TOKENDRAW_INLINE Mask greater_equal(Vector a, Vector b) { return a >= b; }
TOKENDRAW_INLINE Mask unordered(Vector a, Vector b) { return __builtin_isunordered(a, b); }
TOKENDRAW_INLINE Mask no_lanes() { return false; }
TOKENDRAW_INLINE Mask either(Mask a, Mask b) { return a || b; }
TOKENDRAW_INLINE Vector select(Mask mask, Vector a, Vector b) { return mask ? a : b; }
TOKENDRAW_INLINE Mask lanes_of(std::uint32_t bits) { return (bits & 1u) != 0; }
TOKENDRAW_INLINE std::uint32_t bits(Mask mask) { return mask ? 1u : 0u; }

}  // namespace
}  // namespace tokendraw::cpu
