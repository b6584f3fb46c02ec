// SPDX-License-Identifier: Apache-2.0
// The seed of a call that names none.
#pragma once

#include <cstdint>

namespace tokendraw {

/// Entropy from the operating system once per process (a forked child takes its own), then counting.
std::uint64_t next_seed();

}  // namespace tokendraw
