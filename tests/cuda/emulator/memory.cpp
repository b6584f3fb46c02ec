// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

#include "clocks.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define EMULATED_FORBID(address, bytes) __asan_poison_memory_region(address, bytes)
#define EMULATED_ALLOW(address, bytes) __asan_unpoison_memory_region(address, bytes)
#else
#define EMULATED_FORBID(address, bytes) static_cast<void>(0)
#define EMULATED_ALLOW(address, bytes) static_cast<void>(0)
#endif

namespace emulated {
namespace {

constexpr unsigned char kGuardByte = 0xee;
constexpr std::size_t kGuard = 256;  // before and behind every allocation; what cudaMalloc aligns to
constexpr std::size_t kVariableGuard = 64;

void poison(char* address, std::size_t bytes) {
  constexpr std::uint64_t kPattern = kPoison * std::uint64_t{0x0001000100010001};
  std::size_t done = 0;
  for (; done + sizeof kPattern <= bytes; done += sizeof kPattern) {
    std::memcpy(address + done, &kPattern, sizeof kPattern);
  }
  std::memcpy(address + done, &kPattern, bytes - done);
}

void set_guard(char* address, std::size_t bytes) {
  EMULATED_ALLOW(address, bytes);
  std::memset(address, kGuardByte, bytes);
  EMULATED_FORBID(address, bytes);
}

/// The first byte of a guard that was written, or null. AddressSanitizer would have stopped the writer.
const char* written_in_guard([[maybe_unused]] const char* address, [[maybe_unused]] std::size_t bytes) {
#if !defined(__SANITIZE_ADDRESS__)
  for (std::size_t i = 0; i < bytes; ++i) {
    if (static_cast<unsigned char>(address[i]) != kGuardByte) return address + i;
  }
#endif
  return nullptr;
}

/// By address.
std::map<std::uintptr_t, Allocation>& allocations() {
  static auto* all = new std::map<std::uintptr_t, Allocation>;
  return *all;
}

std::uint64_t changes = 0;  // of that map, for who remembers a place in it

std::size_t rounded(std::size_t bytes) { return (bytes + kGuard - 1) / kGuard * kGuard; }

/// What was freed is kept for a while, so that nothing else takes its place and its late users are seen.
constexpr std::size_t kQuarantine = std::size_t{256} << 20;
std::deque<std::uintptr_t> quarantine;
std::size_t quarantined = 0;

void leave_quarantine() {
  const auto oldest = allocations().find(quarantine.front());
  const Allocation& allocation = oldest->second;
  EMULATED_ALLOW(allocation.raw, rounded(allocation.bytes) + 2 * kGuard);
  quarantined -= allocation.bytes;
  std::free(allocation.raw);
  allocations().erase(oldest);
  quarantine.pop_front();
}

const char* name_of(MemoryKind kind) {
  switch (kind) {
    case MemoryKind::kDevice: return "device memory";
    case MemoryKind::kPinned: return "pinned host memory";
    default: return "managed memory";
  }
}

}  // namespace

void* allocate(std::size_t bytes, int device, MemoryKind kind) {
  static std::uint64_t count = 0;
  const std::size_t total = rounded(bytes) + 2 * kGuard;
  char* raw = static_cast<char*>(std::aligned_alloc(kGuard, total));
  if (raw == nullptr) return nullptr;
  Allocation made;
  made.raw = raw;
  made.base = raw + kGuard;
  made.bytes = bytes;
  made.device = device;
  made.kind = kind;
  made.number = ++count;
  made.cells = new_cells(bytes);
  ++changes;
  set_guard(raw, kGuard);
  poison(made.base, bytes);
  set_guard(made.base + bytes, total - kGuard - bytes);
  allocations()[reinterpret_cast<std::uintptr_t>(made.base)] = made;
  return made.base;
}

bool release(void* pointer) {
  const auto found = allocations().find(reinterpret_cast<std::uintptr_t>(pointer));
  if (found == allocations().end() || found->second.is_freed) return false;
  ++changes;
  Allocation& allocation = found->second;
  free_cells(allocation.cells, allocation.bytes);
  allocation.cells = nullptr;
  poison(allocation.base, allocation.bytes);
  EMULATED_FORBID(allocation.base, allocation.bytes);
  allocation.is_freed = true;
  quarantine.push_back(found->first);
  quarantined += allocation.bytes;
  while (quarantined > kQuarantine) leave_quarantine();
  return true;
}

Allocation* find_allocation(const void* address) {
  static Allocation* last = nullptr;
  static std::uint64_t last_change = 0;
  const char* byte = static_cast<const char*>(address);
  auto& all = allocations();
  if (last != nullptr && last_change == changes && byte >= last->base && byte < last->base + last->bytes) {
    return last;
  }
  auto next = all.upper_bound(reinterpret_cast<std::uintptr_t>(address) + kGuard);
  while (next != all.begin()) {
    Allocation& candidate = std::prev(next)->second;
    const char* begin = candidate.base - kGuard;
    if (byte >= begin && byte < candidate.base + rounded(candidate.bytes) + kGuard) {
      last = &candidate;
      last_change = changes;
      // An address in the guard of one may be in another.
      if (byte < candidate.base && std::prev(next) != all.begin()) {
        Allocation& before = std::prev(next, 2)->second;
        if (byte < before.base + before.bytes) return &before;
      }
      return &candidate;
    }
    if (byte >= candidate.base) break;
    --next;
  }
  return nullptr;
}

std::string description(const void* address) {
  const Allocation* found = find_allocation(address);
  if (found == nullptr) return "memory of the host";
  const char* byte = static_cast<const char*>(address);
  const std::string which = "allocation " + std::to_string(found->number) + " (" + std::to_string(found->bytes) +
                            " bytes of " + name_of(found->kind) + ", device " + std::to_string(found->device) +
                            (found->is_freed ? ", freed)" : ")");
  if (byte < found->base) return std::to_string(found->base - byte) + " bytes before " + which;
  const auto offset = static_cast<std::size_t>(byte - found->base);
  if (offset < found->bytes) return "byte " + std::to_string(offset) + " of " + which;
  return std::to_string(offset - found->bytes) + " bytes past the end of " + which;
}

std::string damage_to_guards() {
  for (const auto& [address, allocation] : allocations()) {
    if (allocation.is_freed) continue;
    const std::size_t behind = rounded(allocation.bytes) - allocation.bytes + kGuard;
    const char* hit = written_in_guard(allocation.raw, kGuard);
    if (hit == nullptr) hit = written_in_guard(allocation.base + allocation.bytes, behind);
    if (hit != nullptr) {
      const std::string where = description(hit);
      set_guard(allocation.raw, kGuard);
      set_guard(allocation.base + allocation.bytes, behind);
      return "out of bounds: something was written " + where + " (a checked build names the line)";
    }
  }
  return "";
}

// ---- shared memory ----

SharedLayout shared_layout(std::size_t dynamic_bytes) {
  SharedLayout layout;
  layout.static_end = kSharedGuard;
  layout.dynamic_bytes = dynamic_bytes;
  return layout;
}

namespace {

char* map_shared(void* at) {
  void* memory = mmap(at, kSharedBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at != nullptr ? MAP_FIXED : 0), -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulator: shared memory");
    std::abort();
  }
  return static_cast<char*>(memory);
}

/// Opens [offset, offset + bytes) between two guards.
void open_between_guards(SharedMemory& memory, std::size_t offset, std::size_t bytes, std::size_t guard) {
  EMULATED_ALLOW(memory.base + offset, bytes);
  poison(memory.base + offset, bytes);
  clear_cells(memory.cells, offset, bytes);
  set_guard(memory.base + offset + bytes, guard);
}

void begin_variable(SharedMemory& memory, const SharedVariable& variable) {
  open_between_guards(memory, variable.offset, variable.bytes, kVariableGuard);
}

std::string damage_behind(const SharedMemory& memory, std::size_t end, std::size_t guard, const char* what) {
  const char* hit = written_in_guard(memory.base + end, guard);
  if (hit == nullptr) return "";
  return "out of bounds: something was written " + std::to_string(hit - memory.base - static_cast<long>(end)) +
         " bytes past the end of " + what + " (a checked build names the line)";
}

}  // namespace

SharedMemory* new_shared_memory() {
  auto* memory = new SharedMemory;
  memory->base = map_shared(nullptr);
  memory->cells = new_cells(kSharedBytes);
  return memory;
}

void free_shared_memory(SharedMemory* memory) {
  EMULATED_ALLOW(memory->base, kSharedBytes);
  munmap(memory->base, kSharedBytes);
  free_cells(memory->cells, kSharedBytes);
  delete memory;
}

void begin_shared(SharedMemory& memory, const SharedLayout& layout) {
#if defined(TOKENDRAW_EMULATOR_TSAN)
  map_shared(memory.base);  // ThreadSanitizer forgets what the last block did there, without an order between the two
#endif
  EMULATED_FORBID(memory.base, kSharedBytes);
  memory.is_alive = true;
  set_guard(memory.base, kSharedGuard);
  for (const SharedVariable& variable : layout.variables) begin_variable(memory, variable);
  set_guard(memory.base + kDynamicOffset - kSharedGuard, kSharedGuard);
  open_between_guards(memory, kDynamicOffset, layout.dynamic_bytes, kSharedGuard);
}

std::string end_shared(SharedMemory& memory, const SharedLayout& layout) {
  memory.is_alive = false;
  std::string damage =
      damage_behind(memory, kDynamicOffset + layout.dynamic_bytes, kSharedGuard, "the dynamic shared memory");
  for (const SharedVariable& variable : layout.variables) {
    if (!damage.empty()) break;
    damage = damage_behind(memory, variable.offset + variable.bytes, kVariableGuard, "a shared variable");
  }
  const char* hit = written_in_guard(memory.base, kSharedGuard);
  if (hit == nullptr) hit = written_in_guard(memory.base + kDynamicOffset - kSharedGuard, kSharedGuard);
  if (damage.empty() && hit != nullptr) damage = "out of bounds: something was written before a shared variable";
  for (const SharedVariable& variable : layout.variables) poison(memory.base + variable.offset, variable.bytes);
  poison(memory.base + kDynamicOffset, layout.dynamic_bytes);
  EMULATED_FORBID(memory.base, kSharedBytes);
  return damage;
}

const SharedVariable* variable_at(const SharedLayout& layout, std::size_t offset, std::size_t bytes) {
  for (const SharedVariable& variable : layout.variables) {
    if (offset >= variable.offset && offset + bytes <= variable.offset + variable.bytes) return &variable;
  }
  return nullptr;
}

void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment) {
  const Unwatched unwatched;
  SharedLayout& layout = layout_of(*running());
  char* base = current->block->shared->base;
  for (const SharedVariable& variable : layout.variables) {
    if (variable.key == key) return base + variable.offset;
  }
  SharedVariable added;
  added.key = key;
  added.offset = (layout.static_end + alignment - 1) / alignment * alignment;
  added.bytes = bytes;
  layout.static_end = (added.offset + bytes + kVariableGuard + 15) / 16 * 16;
  layout.variables.push_back(added);
  std::size_t total = 0;
  for (const SharedVariable& variable : layout.variables) total += variable.bytes;
  if (total > kStaticLimit) fail("a block has 48 KiB of static shared memory, this one takes more");
  for (const auto& cluster : resident_of(*running())) {
    for (Block& block : cluster->blocks) {
      if (block.shared->is_alive) begin_variable(*block.shared, added);
    }
  }
  return base + added.offset;
}

void* dynamic_shared_memory() { return current->block->shared->base + kDynamicOffset; }

void* shared_of_rank(void* pointer, unsigned rank, Site site) {
  const Unwatched unwatched;
  Block& block = *current->block;
  const auto& blocks = block.cluster->blocks;
  if (rank >= blocks.size()) {
    fail("the cluster has " + std::to_string(blocks.size()) + " blocks, there is none of rank " + std::to_string(rank),
         site);
  }
  const auto offset = static_cast<char*>(pointer) - block.shared->base;
  if (offset < 0 || offset >= static_cast<std::ptrdiff_t>(kSharedBytes)) {
    fail("cluster_map() takes an address in the shared memory of the block", site);
  }
  if (!blocks[rank].shared->is_alive) {
    fail("block " + std::to_string(rank) + " of the cluster has exited, and its shared memory with it", site);
  }
  return blocks[rank].shared->base + offset;
}

// ---- atomics and fences ----

void atomic_access(const void* address, std::size_t bytes, AtomicKind kind, Site site) {
  if (current == nullptr) return;
  const Unwatched unwatched;
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) fail("an atomic at a misaligned address", site);
  may_yield();
  check_atomic(address, bytes, kind, site);
}

#if !defined(TOKENDRAW_EMULATOR_CHECKED)

namespace {
OrderPoint fences;
}

/// For ThreadSanitizer all fences are ordered one after another: more than the device promises.
void fence() {
  bring(fences);
  take(fences);
}

/// What it orders goes to the block alone: others must not take it for theirs.
void fence_in_block() {
  bring(current->block->fences);
  take(current->block->fences);
}

#endif

}  // namespace emulated
