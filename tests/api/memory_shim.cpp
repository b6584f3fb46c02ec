// SPDX-License-Identifier: Apache-2.0
// Stands before the C library's allocator (LD_PRELOAD): counts what every thread asks for, and refuses some of it.
#include <atomic>
#include <cerrno>
#include <cstddef>

#include <unistd.h>

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
}

namespace {

std::atomic<bool> watching{false};
std::atomic<long> seen{0};
std::atomic<long> refused{0};
std::atomic<long> first_refused{-1};
std::atomic<long> refusals{0};

bool is_main() { return gettid() == getpid(); }

bool is_refused() {
  if (!watching) return false;
  if (first_refused >= 0 && is_main()) return false;  // waits for the outcome, of which it is no part
  const long place = seen++;
  if (first_refused < 0 || place < first_refused || place >= first_refused + refusals) return false;
  ++refused;
  errno = ENOMEM;
  return true;
}

}  // namespace

extern "C" {

/// From here on counts, and refuses `count` allocations from the one at `place`, on other threads than the main one;
/// none where that is negative.
void watch_allocations(long place, long count) {
  seen = 0;
  refused = 0;
  first_refused = place;
  refusals = count;
  watching = true;
}

void stop_watching() { watching = false; }
long allocations_seen() { return seen; }
long allocations_refused() { return refused; }

void* malloc(std::size_t size) { return is_refused() ? nullptr : __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return is_refused() ? nullptr : __libc_calloc(count, size); }
void* realloc(void* memory, std::size_t size) { return is_refused() ? nullptr : __libc_realloc(memory, size); }
void* memalign(std::size_t alignment, std::size_t size) {
  return is_refused() ? nullptr : __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  if (is_refused()) return ENOMEM;
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}

}  // extern "C"
