// SPDX-License-Identifier: Apache-2.0
// Reinterpreting the bits of a number, without the standard library (ISA units may not use it).
#pragma once

#include <cstdint>

#include "core/inline.h"

namespace tokendraw {

template <class To, class From>
TOKENDRAW_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

}  // namespace tokendraw
