// SPDX-License-Identifier: Apache-2.0
// A context of its own for every CUDA thread, switched by hand; AddressSanitizer and ThreadSanitizer are told.
#pragma once

#include <cstddef>

#if defined(TOKENDRAW_EMULATOR_UCONTEXT) || !defined(__x86_64__)
#include <ucontext.h>
#define EMULATED_UCONTEXT 1
#endif

namespace emulated {

struct Fiber {
  char* stack = nullptr;  // its lowest address; null for the fiber that was there before
  std::size_t stack_bytes = 0;
#if defined(EMULATED_UCONTEXT)
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan = nullptr;        // ThreadSanitizer's
};

/// Gives it a stack, with a page below it that may not be touched.
void allocate_fiber(Fiber& fiber);
void free_fiber(Fiber& fiber);

/// The next switch to it calls entry(), which must never return. `stagger` moves its frames, lest all stacks share
/// the same lines of the cache.
void prepare_fiber(Fiber& fiber, void (*entry)(), unsigned stagger);

/// Stands for what runs already: the caller of switch_fiber() who is no fiber.
void adopt_fiber(Fiber& fiber);

void switch_fiber(Fiber& from, Fiber& to, bool from_ends);

/// The first call in entry(); `from` is who switched here.
void enter_fiber(Fiber& from);

}  // namespace emulated
