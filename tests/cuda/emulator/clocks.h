// SPDX-License-Identifier: Apache-2.0
// What happens before what. A barrier orders the threads that meet in it, a fence and an atomic order a writer before a
// reader; shuffles and votes order nothing. Told to our own checker (checker.cpp) or to ThreadSanitizer, else to
// nobody.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#if defined(TOKENDRAW_EMULATOR_TSAN)
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace emulated {

struct Block;
struct Cluster;
struct Thread;
struct Warp;
struct Knowledge;

/// Where threads meet, for ThreadSanitizer. Barriers have two, used in turn: who leaves late must not take what others
/// bring to the next meeting.
struct OrderPoint {
  char address = 0;
};

inline void bring([[maybe_unused]] OrderPoint& point) {
#if defined(TOKENDRAW_EMULATOR_TSAN)
  __tsan_release(&point.address);
#endif
}
inline void take([[maybe_unused]] OrderPoint& point) {
#if defined(TOKENDRAW_EMULATOR_TSAN)
  __tsan_acquire(&point.address);
#endif
}

/// While it lives, what the emulator does in the name of a CUDA thread is no access of that thread. ThreadSanitizer
/// sees memmove and operator new even in code that it was not compiled into; and the linker may give the emulator the
/// copy of a template that was compiled with the kernels.
struct Unwatched {
#if defined(TOKENDRAW_EMULATOR_TSAN)
  Unwatched() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unwatched() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#elif defined(TOKENDRAW_EMULATOR_CHECKED)
  Unwatched();
  ~Unwatched();
#else
  Unwatched() {}
#endif
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

#if defined(TOKENDRAW_EMULATOR_CHECKED)

/// What a thread knows of others: their accesses before these times are ordered before its own. Meetings of all threads
/// of a block or cluster are counted, not spelled out: "stamp" is how many of them this thread's accesses come after,
/// "seen" how many it has taken part in. They differ between an arrival and its wait.
struct Clock {
  std::uint32_t time = 1;
  std::uint32_t lanes[32] = {};
  std::uint32_t block_stamp = 0;
  std::uint32_t block_seen = 0;
  std::uint32_t cluster_stamp = 0;
  std::uint32_t cluster_seen = 0;
  std::uint32_t context = 0;                           // how accesses are recorded; 0: to be made
  std::shared_ptr<const Knowledge> far;                // of other warps and blocks, by fences and named barriers
  std::shared_ptr<const Knowledge> fenced;             // what the last fence lets others know
  std::vector<std::shared_ptr<const Knowledge>> read;  // by atomics, known from the next fence on
};
struct BlockClock {
  std::uint32_t meetings = 0;
};
struct ClusterClock {
  std::uint32_t meetings = 0;
  std::vector<std::shared_ptr<const Knowledge>> brought;
  std::shared_ptr<const Knowledge> joined;
};

void begin_clocks(Block& block);
void meet_warp(Warp& warp, std::uint32_t mask);
void meet_block(Block& block);
void meet_threads(const std::vector<Thread*>& threads);
void arrive_cluster(Thread& thread);
void meet_cluster(Cluster& cluster);
void wait_cluster(Thread& thread);
void begin_checks();
void end_checks();

#else

struct Clock {};
struct BlockClock {};
struct ClusterClock {};

inline void begin_clocks(Block&) {}
inline void meet_warp(Warp&, std::uint32_t) {}
inline void meet_block(Block&) {}
inline void meet_threads(const std::vector<Thread*>&) {}
inline void arrive_cluster(Thread&) {}
inline void meet_cluster(Cluster&) {}
inline void wait_cluster(Thread&) {}
inline void begin_checks() {}
inline void end_checks() {}

#endif

/// __threadfence(), and the same for the block alone.
void fence();
void fence_in_block();

}  // namespace emulated
