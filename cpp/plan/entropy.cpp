// SPDX-License-Identifier: Apache-2.0
#include "plan/entropy.h"

#include <pthread.h>

#include <atomic>
#include <random>

namespace tokendraw {
namespace {

std::uint64_t from_system() {
  std::random_device device;
  return static_cast<std::uint64_t>(device()) << 32 | device();
}

std::atomic<std::uint64_t>& counter() {
  static std::atomic<std::uint64_t> value{from_system()};
  static const int registered = pthread_atfork(nullptr, nullptr, [] { counter().store(from_system()); });
  static_cast<void>(registered);
  return value;
}

}  // namespace

std::uint64_t next_seed() { return counter().fetch_add(1, std::memory_order_relaxed); }

}  // namespace tokendraw
