// SPDX-License-Identifier: Apache-2.0
// Several registers as one value of the templates of core/: each operation is done on all of them before the next. A
// weight is a chain of twelve instructions and 50 cycles; chains one after another fill the scheduler with waiting
// ones.
#pragma once

#include "core/arithmetic.h"

namespace tokendraw::cpu {
namespace {

using tokendraw::fma;
using tokendraw::larger;
using tokendraw::power_of_two_field;

/// Chains in step: the latency of four cycles times two ports would allow eight, registers do not.
inline constexpr int kInStep = 4;

struct Registers {
  Vector v[kInStep];

  Registers() = default;
  TOKENDRAW_INLINED explicit Registers(float x) {
    for (Vector& each : v) each = Vector(x);
  }
};

template <class Operation>
TOKENDRAW_INLINE Registers in_step(Operation operation) {
  Registers out;
  for (int r = 0; r < kInStep; ++r) out.v[r] = operation(r);
  return out;
}

TOKENDRAW_INLINE Registers operator-(const Registers& a, const Registers& b) {
  return in_step([&](int r) TOKENDRAW_INLINED { return a.v[r] - b.v[r]; });
}
TOKENDRAW_INLINE Registers operator*(const Registers& a, const Registers& b) {
  return in_step([&](int r) TOKENDRAW_INLINED { return a.v[r] * b.v[r]; });
}
TOKENDRAW_INLINE Registers fma(const Registers& a, const Registers& b, const Registers& c) {
  return in_step([&](int r) TOKENDRAW_INLINED { return fma(a.v[r], b.v[r], c.v[r]); });
}
TOKENDRAW_INLINE Registers larger(const Registers& a, const Registers& b) {
  return in_step([&](int r) TOKENDRAW_INLINED { return larger(a.v[r], b.v[r]); });
}
TOKENDRAW_INLINE Registers power_of_two_field(const Registers& a) {
  return in_step([&](int r) TOKENDRAW_INLINED { return power_of_two_field(a.v[r]); });
}

}  // namespace
}  // namespace tokendraw::cpu
