// SPDX-License-Identifier: Apache-2.0
// How a test steers the emulator, and what it learns from it.
#pragma once

#include <cstdint>
#include <string>

namespace emulated {

/// The order in which threads, blocks and streams take turns. 0: threads in order, one block after another. Any other
/// seed: a random schedule, another one for each launch; the same seed gives the same ones again.
void set_schedule(std::uint64_t seed);

/// What was wrong with the first kernel that failed since the last call, or "". Clears the error, which is sticky for
/// everybody else, as it is on a device.
std::string take_report();

/// What the device says that it is; 9.0 unless told otherwise. Clusters need 9.0.
void set_compute_capability(int device, int major, int minor);

/// Kernels that were not touched before (launched, or asked about) cannot be launched under capture. Forgets all
/// touches.
void forget_loaded_kernels();

struct Counts {
  std::uint64_t launches = 0;
  std::uint64_t allocations = 0;       // calls of cudaMalloc and its like
  std::uint64_t synchronisations = 0;  // waits of the host for a stream, an event or a device
  std::uint64_t switches = 0;          // from one CUDA thread to another
};
Counts counts();

}  // namespace emulated
