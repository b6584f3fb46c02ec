// SPDX-License-Identifier: Apache-2.0
// The emulated half of cpp/cuda/device.cuh.
#pragma once

#include "../device.h"

/// A variable in the shared memory of the block. The lambda gives every declaration, and every instance of a template,
/// a key of its own.
#define TOKENDRAW_SHARED(name, ...)                                           \
  auto& name = ::emulated::shared_variable<__VA_ARGS__>([]() -> const void* { \
    static const char key = 0;                                                \
    return &key;                                                              \
  }())

namespace tokendraw::cuda {

using emulated::cluster_arrive;
using emulated::cluster_map;
using emulated::cluster_rank;
using emulated::cluster_size;
using emulated::cluster_sync;
using emulated::cluster_wait;
using emulated::dynamic_shared;
using emulated::load_acquire;
using emulated::named_barrier_sync;
using emulated::store_release;

}  // namespace tokendraw::cuda
