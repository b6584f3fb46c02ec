// SPDX-License-Identifier: Apache-2.0
// Where a launch runs and what it may write to. Host types only: bindings/ fills it in.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace tokendraw::cuda {

/// What launchers choose a geometry by.
struct Device {
  int index = 0;
  int compute = 0;  // 10 * major + minor of the compute capability
  int multiprocessors = 1;

  bool has_clusters() const { return compute >= 90; }
};

/// Memory of the device that a launch uses until it ends: one launch at a time. Zeroed when it was made; every launch
/// leaves its counters at zero.
struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

struct Context {
  cudaStream_t stream = nullptr;
  Device device;
  Workspace workspace;
  bool wide_tokens = false;  // drawn tokens are written as int64
};

}  // namespace tokendraw::cuda
