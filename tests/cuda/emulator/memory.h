// SPDX-License-Identifier: Apache-2.0
// Device memory and shared memory: which addresses there are, what they hold at first, and what lies between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "scheduler.h"

namespace emulated {

constexpr int kDevices = 3;

/// What memory holds before it is written: a NaN as float16, bfloat16, float32 and float64, no small integer.
constexpr std::uint16_t kPoison = 0x7ff7;

enum class MemoryKind : std::uint8_t { kDevice, kPinned, kManaged };

struct Cell;  // the checker's record of four bytes

struct Allocation {
  char* base = nullptr;
  std::size_t bytes = 0;
  int device = 0;
  MemoryKind kind = MemoryKind::kDevice;
  std::uint64_t number = 0;
  bool is_freed = false;
  char* raw = nullptr;
  Cell* cells = nullptr;
};

// ---- device memory ----

void* allocate(std::size_t bytes, int device, MemoryKind kind);
/// False if this is not the beginning of an allocation.
bool release(void* pointer);
/// The allocation that holds the address, or whose guards do; null for memory of the host.
Allocation* find_allocation(const void* address);
/// "3 bytes past the end of allocation 7 (1024 bytes on device 0)" and the like.
std::string description(const void* address);
/// What stands where nobody may write, or "" if all is as it was. Plain builds only; the others see the access itself.
std::string damage_to_guards();

// ---- shared memory ----

constexpr std::size_t kStaticLimit = 48 * 1024;
constexpr std::size_t kDynamicLimit = 227 * 1024;

struct SharedVariable {
  const void* key = nullptr;
  std::size_t offset = 0;
  std::size_t bytes = 0;
};

/// The shared memory that all blocks of a launch have in common: where each variable lies.
struct SharedLayout {
  std::vector<SharedVariable> variables;
  std::size_t static_end = 0;
  std::size_t dynamic_bytes = 0;
};

struct SharedMemory {
  char* base = nullptr;
  bool is_alive = false;
  Cell* cells = nullptr;
};

constexpr std::size_t kSharedGuard = 256;
constexpr std::size_t kDynamicOffset = 128 * 1024;
constexpr std::size_t kSharedBytes = kDynamicOffset + kDynamicLimit + 1024 + kSharedGuard;

SharedLayout shared_layout(std::size_t dynamic_bytes);
SharedMemory* new_shared_memory();
void free_shared_memory(SharedMemory* memory);
/// Poisons it for the next block.
void begin_shared(SharedMemory& memory, const SharedLayout& layout);
/// A block that has exited has no shared memory. Returns the damage to its guards, or "".
std::string end_shared(SharedMemory& memory, const SharedLayout& layout);
/// The variable that the offset lies in, or null.
const SharedVariable* variable_at(const SharedLayout& layout, std::size_t offset, std::size_t bytes);

void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment);
void* dynamic_shared_memory();
void* shared_of_rank(void* pointer, unsigned rank, Site site);

// ---- atomics ----

enum class AtomicKind : std::uint8_t { kChange, kLoadAcquire, kStoreRelease };

/// What happens before an atomic access: it is checked, and another thread may come first.
void atomic_access(const void* address, std::size_t bytes, AtomicKind kind, Site site);

#if defined(TOKENDRAW_EMULATOR_CHECKED)
Cell* new_cells(std::size_t bytes);
void free_cells(Cell* cells, std::size_t bytes);
void clear_cells(Cell* cells, std::size_t offset, std::size_t bytes);
void check_atomic(const void* address, std::size_t bytes, AtomicKind kind, Site site);
#else
inline Cell* new_cells(std::size_t) { return nullptr; }
inline void free_cells(Cell*, std::size_t) {}
inline void clear_cells(Cell*, std::size_t, std::size_t) {}
inline void check_atomic(const void*, std::size_t, AtomicKind, Site) {}
#endif

}  // namespace emulated
