// SPDX-License-Identifier: Apache-2.0
// The program's own operator new counts (test_memory.cpp).
#pragma once

#include <cstdint>

namespace tokendraw::test {

/// By all threads, since the program began.
std::int64_t allocations_so_far();

}  // namespace tokendraw::test
