// SPDX-License-Identifier: Apache-2.0
#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TOKENDRAW_EMULATOR_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#endif

namespace emulated {
namespace {

constexpr std::size_t kPage = 4096;
#if defined(__SANITIZE_ADDRESS__) || defined(TOKENDRAW_EMULATOR_TSAN)
constexpr std::size_t kStackBytes = 256 * 1024;  // instrumented frames are larger
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif

#if defined(TOKENDRAW_EMULATOR_TSAN)
constexpr unsigned kNoOrder = 1;  // __tsan_switch_to_fiber_no_sync: a switch orders nothing on a GPU
#endif

}  // namespace

#if !defined(EMULATED_UCONTEXT)
extern "C" void tokendraw_emulated_switch(void** save, void* load);
// The registers that a call preserves in the System V ABI for x86-64.
asm(R"(
.pushsection .text
.globl tokendraw_emulated_switch
.hidden tokendraw_emulated_switch
.type tokendraw_emulated_switch, @function
tokendraw_emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tokendraw_emulated_switch, .-tokendraw_emulated_switch
.popsection
)");
#endif

void allocate_fiber(Fiber& fiber) {
  void* memory =
      mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, kPage, PROT_NONE) != 0) {
    std::perror("emulator: a stack for a CUDA thread");
    std::abort();
  }
  fiber.stack = static_cast<char*>(memory) + kPage;
  fiber.stack_bytes = kStackBytes;
#if defined(TOKENDRAW_EMULATOR_TSAN)
  fiber.tsan = __tsan_create_fiber(0);
#endif
}

void free_fiber(Fiber& fiber) {
#if defined(TOKENDRAW_EMULATOR_TSAN)
  __tsan_destroy_fiber(fiber.tsan);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
#endif
  munmap(fiber.stack - kPage, fiber.stack_bytes + kPage);
  fiber = Fiber{};
}

void prepare_fiber(Fiber& fiber, void (*entry)(), unsigned stagger) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.stack, fiber.stack_bytes);
#endif
#if defined(EMULATED_UCONTEXT)
  static_cast<void>(stagger);
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = fiber.stack_bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  const auto top = reinterpret_cast<std::uintptr_t>(fiber.stack + fiber.stack_bytes) - 64 - stagger % 61 * 64;
  auto* words = reinterpret_cast<void**>(top & ~std::uintptr_t{15});
  *--words = nullptr;  // where entry() would return to, and the end of a backtrace
  *--words = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--words = nullptr;
  fiber.stack_pointer = words;
#endif
}

void adopt_fiber(Fiber& fiber) {
  fiber = Fiber{};
#if defined(TOKENDRAW_EMULATOR_TSAN)
  fiber.tsan = __tsan_get_current_fiber();
#endif
}

void switch_fiber(Fiber& from, Fiber& to, bool from_ends) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#else
  static_cast<void>(from_ends);
#endif
#if defined(TOKENDRAW_EMULATOR_TSAN)
  __tsan_switch_to_fiber(to.tsan, kNoOrder);
#endif
#if defined(EMULATED_UCONTEXT)
  swapcontext(&from.context, &to.context);
#else
  tokendraw_emulated_switch(&from.stack_pointer, to.stack_pointer);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void enter_fiber(Fiber& from) {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (from.stack == nullptr) {  // the fiber that was there before: only now its stack is known
    from.stack = const_cast<char*>(static_cast<const char*>(stack));
    from.stack_bytes = bytes;
  }
#else
  static_cast<void>(from);
#endif
}

}  // namespace emulated
