// SPDX-License-Identifier: Apache-2.0
// A launch while it runs: clusters of blocks of warps of threads, who waits where, and who is next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "clocks.h"
#include "fiber.h"
#include "types.h"

namespace emulated {

struct Block;
struct Cluster;
struct Launch;
struct Warp;

/// A line of the kernel's source.
struct Site {
  const char* file = "";
  int line = 0;
};

enum class Collective : std::uint8_t {
  kSyncwarp,
  kShuffle,
  kBallot,
  kMatchAny,
  kMatchAll,
  kAdd,
  kMinSigned,
  kMaxSigned,
  kMinUnsigned,
  kMaxUnsigned,
  kAnd,
  kOr,
  kXor,
};

struct Thread {
  Fiber fiber;
  Block* block = nullptr;
  Warp* warp = nullptr;
  unsigned number = 0;  // in its block
  unsigned lane = 0;
  uint3 index{};
  bool is_done = false;
  int unwatched = 0;         // above 0: it is the emulator that runs, not the kernel
  bool has_arrived = false;  // at the cluster's barrier, without having waited for it yet
  const char* waits_in = nullptr;
  Site site;
  std::uint64_t priority = 0;
  unsigned cluster_generation = 0;

  Collective collective{};
  std::uint32_t mask = 0;
  std::uint64_t value = 0;
  unsigned source = 0;
  std::uint64_t result = 0;

  Clock clock;
};

struct Warp {
  Thread* first = nullptr;
  std::uint32_t lanes = 0;  // that exist
  std::uint32_t exited = 0;
  std::uint32_t waiting = 0;  // in a collective
  unsigned number = 0;        // in the launch
  OrderPoint order[2];
  unsigned generation = 0;
};

struct Barrier {
  unsigned expected = 0;  // threads; 0: all that have not exited
  unsigned nonzero = 0;   // predicates
  unsigned generation = 0;
  Site site;
  std::vector<Thread*> arrived;
  OrderPoint order[2];
};

constexpr int kBarriers = 16;

struct Block {
  Cluster* cluster = nullptr;
  unsigned number = 0;  // in the grid
  unsigned rank = 0;    // in the cluster
  uint3 index{};
  unsigned live = 0;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barriers[kBarriers];
  BlockClock clock;
  OrderPoint fences;
  struct SharedMemory* shared = nullptr;
};

struct Cluster {
  unsigned number = 0;  // in the grid
  unsigned live = 0;
  unsigned arrived = 0;
  unsigned generation = 0;
  std::vector<Block> blocks;
  std::vector<Thread*> waiting;
  OrderPoint order[2];
  ClusterClock clock;
};

/// The parameters of a kernel, copied when it was launched; `call` runs the kernel in one thread.
struct Call {
  const void* kernel = nullptr;
  std::shared_ptr<void> parameters;
  std::size_t parameter_bytes = 0;
  void (*call)(const void* kernel, const void* parameters) = nullptr;
};

struct Shape {
  dim3 grid;
  dim3 block;
  unsigned cluster = 1;
  std::size_t dynamic_bytes = 0;
};

/// Runs all blocks. Returns "", or what went wrong; then the launch was given up where it stood.
std::string run(const Call& call, const Shape& shape, int device, std::uint64_t seed);

extern __thread Thread* current;  // null outside of a kernel

/// Ends the launch. `message` says what is wrong; who, where and in which kernel is added.
[[noreturn]] void fail(const std::string& message, Site site = {});
[[noreturn]] void fail_text(const char* message,
                            Site site);  // for the kernel's side, where a std::string would be watched
[[noreturn]] void fail_misaligned(std::size_t alignment, Site site);
[[noreturn]] void fail_at(const std::string& message, const std::string& where);

/// Lets another thread run, if the schedule says so, or in any case.
void may_yield();
void yield();

std::uint64_t collective(Collective kind, std::uint32_t mask, std::uint64_t value, unsigned source, Site site);
unsigned block_barrier(bool predicate, Site site);
void named_barrier(int id, int threads, Site site);
void arrive_at_cluster(Site site);
void wait_for_cluster(Site site);

std::string name_of(const Thread& thread);
std::string text_of(Site site);

struct SharedLayout;

// The launch that runs; there is one at a time.
Launch* running();
SharedLayout& layout_of(Launch& launch);
const Shape& shape_of(const Launch& launch);
int device_of(const Launch& launch);
const Call& call_of(const Launch& launch);
const std::vector<std::unique_ptr<Cluster>>& resident_of(const Launch& launch);

struct Statistics {
  std::uint64_t switches = 0;
};
extern Statistics statistics;

}  // namespace emulated
