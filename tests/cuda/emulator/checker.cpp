// SPDX-License-Identifier: Apache-2.0
// Every access of a kernel, looked at: is it device memory of this device, in bounds, aligned, written before it is
// read, and ordered after what other threads did there? The calls are those that g++ -fsanitize=thread puts before
// loads and stores; no sanitizer's library is linked. Races are found by what is ordered, not by what happened to go
// wrong: as in FastTrack (Flanagan and Freund, PLDI 2009), with one write and two reads kept per four bytes.
#if defined(TOKENDRAW_EMULATOR_CHECKED)

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "clocks.h"
#include "memory.h"
#include "scheduler.h"
#include "symbols.h"

namespace emulated {

/// What a fence lets others know: accesses of a thread before a time, of a block or cluster before a meeting.
struct Knowledge {
  std::unordered_map<std::uint32_t, std::uint32_t> threads, blocks, clusters;
  bool is_for_block = false;  // __threadfence_block(): for the threads of this block alone
  std::uint32_t block = 0;
};

namespace {

using Shared = std::shared_ptr<const Knowledge>;

/// Who made an access, and when.
struct Context {
  std::uint32_t thread, block, cluster, warp, lane, time, block_stamp, cluster_stamp;
};

/// Where an access stands in the code: half of its address, or with the highest bit a number of a Site.
using Place = std::uint32_t;
constexpr Place kIsSite = 0x80000000u;

enum class Access : std::uint8_t { kRead, kWrite, kAtomicRead, kAtomicStore, kAtomicChange };

bool is_write(Access access) { return access != Access::kRead && access != Access::kAtomicRead; }
bool is_atomic(Access access) { return access >= Access::kAtomicRead; }

struct Entry {
  std::uint32_t context = 0;  // 0: none
  Place place = 0;
  std::uint8_t bytes = 0;  // which of the four
  bool is_atomic = false;
};

}  // namespace

struct Cell {
  Entry write;
  Entry reads[2];
  std::uint8_t written = 0;  // bytes that hold something
};

namespace {

std::vector<Context> contexts{Context{}};
std::uint32_t first_context = 1;  // of this launch; what earlier ones did is done
std::vector<Site> sites;
std::unordered_map<std::uintptr_t, std::vector<Shared>> published;
bool is_fenced = false;  // has anybody executed a fence in this launch?

// ---- knowledge ----

template <class Map>
void raise(Map& map, std::uint32_t key, std::uint32_t value) {
  std::uint32_t& known = map[key];
  known = std::max(known, value);
}

void merge(Knowledge& into, const Knowledge& other) {
  for (const auto& [key, value] : other.threads) raise(into.threads, key, value);
  for (const auto& [key, value] : other.blocks) raise(into.blocks, key, value);
  for (const auto& [key, value] : other.clusters) raise(into.clusters, key, value);
}

void add_once(std::vector<Shared>& parts, const Shared& part) {
  if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
}

/// What all of them know together; null if none knows anything.
Shared merged(const std::vector<Shared>& parts) {
  std::vector<Shared> different;
  for (const Shared& part : parts) {
    if (part) add_once(different, part);
  }
  if (different.empty()) return nullptr;
  if (different.size() == 1) return different[0];
  auto all = std::make_shared<Knowledge>();
  for (const Shared& part : different) merge(*all, *part);
  return all;
}

std::uint32_t number_of(const Thread& thread) {
  return thread.block->number * static_cast<std::uint32_t>(thread.block->threads.size()) + thread.number;
}

bool knows(const std::unordered_map<std::uint32_t, std::uint32_t>& map, std::uint32_t key, std::uint32_t time) {
  const auto found = map.find(key);
  return found != map.end() && time < found->second;
}

/// Does everything of that context come before what the thread does now?
bool is_before(const Context& earlier, const Thread& thread) {
  const Clock& clock = thread.clock;
  if (earlier.thread == number_of(thread)) return true;
  if (earlier.block == thread.block->number) {
    if (earlier.block_stamp < clock.block_seen) return true;
    if (earlier.warp == thread.warp->number && earlier.time < clock.lanes[earlier.lane]) return true;
  }
  if (earlier.cluster == thread.block->cluster->number && earlier.cluster_stamp < clock.cluster_seen) return true;
  if (!clock.far) return false;
  return knows(clock.far->threads, earlier.thread, earlier.time) ||
         knows(clock.far->blocks, earlier.block, earlier.block_stamp) ||
         knows(clock.far->clusters, earlier.cluster, earlier.cluster_stamp);
}

std::uint32_t context_of(Thread& thread) {
  Clock& clock = thread.clock;
  if (clock.context == 0) {
    clock.context = static_cast<std::uint32_t>(contexts.size());
    contexts.push_back({number_of(thread), thread.block->number, thread.block->cluster->number, thread.warp->number,
                        thread.lane, clock.time, clock.block_stamp, clock.cluster_stamp});
  }
  return clock.context;
}

/// Ends what the thread has done so far: later accesses have another time.
std::uint32_t advance(Thread& thread) {
  thread.clock.context = 0;
  return ++thread.clock.time;
}

/// All that the thread's past lets others know, up to now.
std::shared_ptr<Knowledge> told_by(Thread& thread) {
  Clock& clock = thread.clock;
  auto all = clock.far ? std::make_shared<Knowledge>(*clock.far) : std::make_shared<Knowledge>();
  const std::uint32_t first = number_of(thread) - thread.lane;
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    if (clock.lanes[lane] > 0) raise(all->threads, first + lane, clock.lanes[lane]);
  }
  raise(all->threads, number_of(thread), advance(thread));
  raise(all->blocks, thread.block->number, clock.block_seen);
  raise(all->clusters, thread.block->cluster->number, clock.cluster_seen);
  return all;
}

void learn(Thread& thread, std::vector<Shared> parts) {
  parts.push_back(thread.clock.far);
  thread.clock.far = merged(parts);
}

}  // namespace

Unwatched::Unwatched() {
  if (current != nullptr) ++current->unwatched;
}
Unwatched::~Unwatched() {
  if (current != nullptr) --current->unwatched;
}

// ---- meetings ----

void begin_clocks(Block& block) {
  for (Thread& thread : block.threads) thread.clock = Clock{};
  block.clock = BlockClock{};
}

namespace {

/// What the device-wide fences of all let others know; a fence for the block alone stays with who made it.
Shared fenced_by(const std::vector<Thread*>& threads) {
  std::vector<Shared> parts;
  for (const Thread* thread : threads) {
    const Shared& fenced = thread->clock.fenced;
    if (fenced && !fenced->is_for_block) parts.push_back(fenced);
  }
  return merged(parts);
}

/// Fences and atomics on two sides of a meeting count: "all fence, all meet, one counts up", and the reverse.
void share(const std::vector<Thread*>& threads) {
  if (!is_fenced) return;
  std::vector<Shared> far, read;
  for (const Thread* thread : threads) {
    far.push_back(thread->clock.far);
    read.insert(read.end(), thread->clock.read.begin(), thread->clock.read.end());
  }
  const Shared all_far = merged(far);
  const Shared all_read = merged(read);
  const Shared all_fenced = fenced_by(threads);
  for (Thread* thread : threads) {
    thread->clock.far = all_far;
    thread->clock.read.clear();
    if (all_read) thread->clock.read.push_back(all_read);
    if (all_fenced) thread->clock.fenced = all_fenced;
  }
}

std::vector<Thread*> lanes_of(Warp& warp, std::uint32_t mask) {
  std::vector<Thread*> threads;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) threads.push_back(warp.first + __builtin_ctz(rest));
  return threads;
}

}  // namespace

void meet_warp(Warp& warp, std::uint32_t mask) {
  std::uint32_t known[32] = {};
  const std::vector<Thread*> threads = lanes_of(warp, mask);
  for (Thread* thread : threads) {
    for (int lane = 0; lane < 32; ++lane) known[lane] = std::max(known[lane], thread->clock.lanes[lane]);
    known[thread->lane] = advance(*thread);
  }
  for (Thread* thread : threads) std::memcpy(thread->clock.lanes, known, sizeof known);
  share(threads);
}

void meet_block(Block& block) {
  const std::uint32_t meetings = ++block.clock.meetings;
  for (Thread* thread : block.barriers[0].arrived) {
    thread->clock.block_stamp = thread->clock.block_seen = meetings;
    advance(*thread);
  }
  share(block.barriers[0].arrived);
}

void meet_threads(const std::vector<Thread*>& threads) {
  std::vector<Shared> told;
  for (Thread* thread : threads) told.push_back(told_by(*thread));
  const Shared all = merged(told);
  for (Thread* thread : threads) thread->clock.far = all;
  share(threads);
}

void arrive_cluster(Thread& thread) {
  Cluster& cluster = *thread.block->cluster;
  thread.clock.cluster_stamp = cluster.clock.meetings + 1;
  advance(thread);
  if (is_fenced && thread.clock.far) cluster.clock.brought.push_back(thread.clock.far);
}

void meet_cluster(Cluster& cluster) {
  ++cluster.clock.meetings;
  cluster.clock.joined = merged(cluster.clock.brought);
  cluster.clock.brought.clear();
}

void wait_cluster(Thread& thread) {
  const ClusterClock& clock = thread.block->cluster->clock;
  thread.clock.cluster_seen = thread.clock.cluster_stamp;
  if (clock.joined) learn(thread, {clock.joined});
  advance(thread);
}

namespace {

void fence_for(Thread& thread, bool is_for_block) {
  is_fenced = true;
  if (!thread.clock.read.empty()) learn(thread, thread.clock.read);
  thread.clock.read.clear();
  const auto told = told_by(thread);
  told->is_for_block = is_for_block;
  told->block = thread.block->number;
  thread.clock.fenced = told;
}

}  // namespace

void fence() {
  const Unwatched unwatched;
  fence_for(*current, false);
}
void fence_in_block() {
  const Unwatched unwatched;
  fence_for(*current, true);
}

// ---- the launch ----

void begin_checks() {
  constexpr std::size_t kMany = std::size_t{1} << 31;
  if (contexts.size() > kMany) {
    std::fprintf(stderr, "emulator: a process has 2^31 contexts\n");
    std::abort();
  }
  first_context = static_cast<std::uint32_t>(contexts.size());
  published.clear();
  is_fenced = false;
}

void end_checks() {}

// ---- cells ----

Cell* new_cells(std::size_t bytes) {
  const std::size_t size = (bytes / 4 + 2) * sizeof(Cell);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulator: records of accesses");
    std::abort();
  }
  return static_cast<Cell*>(memory);
}

void free_cells(Cell* cells, std::size_t bytes) { munmap(cells, (bytes / 4 + 2) * sizeof(Cell)); }

void clear_cells(Cell* cells, std::size_t offset, std::size_t bytes) {
  std::memset(static_cast<void*>(cells + offset / 4), 0, (bytes + 7) / 4 * sizeof(Cell));
}

namespace {

// ---- messages ----

std::string text_of(Place place, const void* near) {
  if ((place & kIsSite) != 0) return emulated::text_of(sites[place & ~kIsSite]);
  const auto high = reinterpret_cast<std::uintptr_t>(near) & ~std::uintptr_t{0x7fffffff};
  return line_before(reinterpret_cast<const void*>(high | place));
}

const char* name_of(Access access) {
  switch (access) {
    case Access::kRead: return "read";
    case Access::kWrite: return "write";
    case Access::kAtomicRead: return "atomic read";
    case Access::kAtomicStore: return "atomic write";
    default: return "atomic change";
  }
}

std::string name_of(const Context& context) {
  const Shape& shape = shape_of(*running());
  const unsigned count = shape.block.x * shape.block.y * shape.block.z;
  const auto place = [](unsigned number, dim3 size) {
    return "(" + std::to_string(number % size.x) + "," + std::to_string(number / size.x % size.y) + "," +
           std::to_string(number / size.x / size.y) + ")";
  };
  return "thread " + place(context.thread % count, shape.block) + " of block " + place(context.block, shape.grid);
}

/// One access of the running thread, as its report names it.
struct Request {
  const void* address;
  std::size_t bytes;
  Access access;
  Place place;

  std::string text() const { return std::string(name_of(access)) + " of " + std::to_string(bytes) + " bytes"; }
  [[noreturn]] void fail(const std::string& message) const {
    fail_at(message, text_of(place, reinterpret_cast<const void*>(&begin_checks)));
  }
};

[[noreturn]] void fail_race(const Request& request, const Entry& other, const char* other_name, const char* memory) {
  const Context& context = contexts[other.context];
  request.fail("race in " + std::string(memory) + " memory: " + request.text() + " is not ordered after the " +
               (other.is_atomic ? "atomic " : "") + other_name + " by " + name_of(context) + " at " +
               text_of(other.place, reinterpret_cast<const void*>(&begin_checks)));
}

// ---- one access ----

/// How far two contexts are apart; the reads kept are two that are far from each other.
int distance(const Context& a, const Context& b) {
  if (a.cluster != b.cluster) return 4;
  if (a.block != b.block) return 3;
  if (a.warp != b.warp) return 2;
  return a.thread != b.thread ? 1 : 0;
}

bool is_current(const Entry& entry) { return entry.context >= first_context; }

bool races(const Entry& entry, const Request& request, std::uint8_t bytes, const Thread& thread) {
  if (!is_current(entry) || (entry.bytes & bytes) == 0) return false;
  if (entry.is_atomic && is_atomic(request.access)) return false;
  return !is_before(contexts[entry.context], thread);
}

void keep_read(Cell& cell, const Entry& read, const Thread& thread) {
  for (Entry& kept : cell.reads) {
    const bool is_free = !is_current(kept) || kept.context == read.context ||
                         (is_before(contexts[kept.context], thread) && (kept.bytes & ~read.bytes) == 0);
    if (is_free) {
      const auto bytes = static_cast<std::uint8_t>(kept.context == read.context ? kept.bytes | read.bytes : read.bytes);
      kept = read;
      kept.bytes = bytes;
      return;
    }
  }
  const Context& first = contexts[cell.reads[0].context];
  const int now = distance(first, contexts[cell.reads[1].context]);
  if (distance(first, contexts[read.context]) >= now) cell.reads[1] = read;
}

void check_cell(Cell& cell, const Request& request, std::uint8_t bytes, Thread& thread, const char* memory) {
  if (races(cell.write, request, bytes, thread)) fail_race(request, cell.write, "write", memory);
  Entry entry;
  entry.context = context_of(thread);
  entry.place = request.place;
  entry.bytes = bytes;
  entry.is_atomic = is_atomic(request.access);
  if (!is_write(request.access)) {
    keep_read(cell, entry, thread);
    return;
  }
  for (const Entry& read : cell.reads) {
    if (races(read, request, bytes, thread)) fail_race(request, read, "read", memory);
  }
  if (is_current(cell.write) && cell.write.context == entry.context && cell.write.is_atomic == entry.is_atomic) {
    entry.bytes |= cell.write.bytes;
  }
  cell.write = entry;
  cell.written |= bytes;
}

/// Calls check(cell, bytes of it) for the cells of [offset, offset + bytes).
template <class Check>
void for_cells(Cell* cells, std::size_t offset, std::size_t bytes, Check check) {
  const std::size_t end = offset + bytes;
  for (std::size_t word = offset / 4; word * 4 < end; ++word) {
    unsigned mask = 0xfu;
    if (word * 4 < offset) mask &= 0xfu << (offset - word * 4);
    if (word * 4 + 4 > end) mask &= 0xfu >> (word * 4 + 4 - end);
    check(cells[word], static_cast<std::uint8_t>(mask));
  }
}

void check_shared(Block& owner, const Request& request, Thread& thread) {
  SharedMemory& memory = *owner.shared;
  const SharedLayout& layout = layout_of(*running());
  const auto offset = static_cast<std::size_t>(static_cast<const char*>(request.address) - memory.base);
  if (owner.cluster != thread.block->cluster) {
    request.fail(request.text() + " in the shared memory of another cluster");
  }
  if (!memory.is_alive) request.fail(request.text() + " in the shared memory of a block that has exited");
  const std::size_t dynamic_end = kDynamicOffset + layout.dynamic_bytes;
  const bool is_dynamic = offset >= kDynamicOffset && offset + request.bytes <= dynamic_end;
  if (!is_dynamic && variable_at(layout, offset, request.bytes) == nullptr) {
    const std::string where = offset + kSharedGuard >= kDynamicOffset
                                  ? std::to_string(static_cast<long>(offset) - static_cast<long>(dynamic_end)) +
                                        " bytes from the end of the dynamic shared memory (" +
                                        std::to_string(layout.dynamic_bytes) + " bytes)"
                                  : "outside of the variables in shared memory";
    request.fail("out of bounds: " + request.text() + ", " + where);
  }
  for_cells(memory.cells, offset, request.bytes, [&](Cell& cell, std::uint8_t bytes) {
    const bool must_hold = request.access != Access::kWrite && request.access != Access::kAtomicStore;
    if (must_hold && (cell.written & bytes) != bytes) {
      request.fail("uninitialised shared memory: " + request.text() + " that nobody has written");
    }
    check_cell(cell, request, bytes, thread, "shared");
  });
}

void check_global(const Allocation& allocation, const Request& request, Thread& thread) {
  const char* begin = static_cast<const char*>(request.address);
  if (allocation.is_freed) request.fail("use after cudaFree: " + request.text() + ", " + description(begin));
  if (begin < allocation.base || begin + request.bytes > allocation.base + allocation.bytes) {
    request.fail("out of bounds: " + request.text() + ", " + description(begin));
  }
  const int device = device_of(*running());
  if (allocation.kind == MemoryKind::kDevice && allocation.device != device) {
    request.fail("wrong device: the kernel runs on device " + std::to_string(device) + ", " + request.text() + ", " +
                 description(begin));
  }
  const auto offset = static_cast<std::size_t>(begin - allocation.base);
  for_cells(allocation.cells, offset, request.bytes,
            [&](Cell& cell, std::uint8_t bytes) { check_cell(cell, request, bytes, thread, "global"); });
}

// ---- what else a kernel may read: its parameters, and constants of the program ----

struct Segment {
  const char* begin;
  const char* end;
};

std::vector<Segment>& segments() {
  static std::vector<Segment> all;
  return all;
}

bool is_in_program(const char* address) {
  const auto has = [address] {
    return std::any_of(segments().begin(), segments().end(),
                       [address](const Segment& segment) { return address >= segment.begin && address < segment.end; });
  };
  if (has()) return true;
  segments().clear();  // libraries may have come
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void*) {
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          const auto* begin = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
          segments().push_back({begin, begin + header.p_memsz});
        }
        return 0;
      },
      nullptr);
  return has();
}

void check_other(const Request& request, const Thread& thread) {
  const char* address = static_cast<const char*>(request.address);
  const Call& call = call_of(*running());
  const char* parameters = static_cast<const char*>(call.parameters.get());
  const bool is_parameter = address >= parameters && address < parameters + call.parameter_bytes;
  if (is_parameter || is_in_program(address)) {
    if (is_write(request.access)) {
      request.fail(request.text() + (is_parameter ? " to a parameter of the kernel" : " to a variable of the program"));
    }
    return;
  }
  for (const auto& cluster : resident_of(*running())) {
    for (const Block& block : cluster->blocks) {
      for (const Thread& other : block.threads) {
        if (&other == &thread || address < other.fiber.stack) continue;
        if (address < other.fiber.stack + other.fiber.stack_bytes) {
          request.fail(request.text() + " in the local memory of " + emulated::name_of(other));
        }
      }
    }
  }
  request.fail("not device memory: " + request.text() + " in memory of the host");
}

Block* owner_of(const char* address, Thread& thread) {
  const auto holds = [address](const Block& block) {
    return address >= block.shared->base && address < block.shared->base + kSharedBytes;
  };
  if (holds(*thread.block)) return thread.block;
  for (const auto& cluster : resident_of(*running())) {
    for (Block& block : cluster->blocks) {
      if (holds(block)) return &block;
    }
  }
  return nullptr;
}

void check(const Request& request) {
  Thread& thread = *current;
  const char* address = static_cast<const char*>(request.address);
  if (address >= thread.fiber.stack && address < thread.fiber.stack + thread.fiber.stack_bytes) return;
  if (const Allocation* allocation = find_allocation(address)) return check_global(*allocation, request, thread);
  if (Block* owner = owner_of(address, thread)) return check_shared(*owner, request, thread);
  check_other(request, thread);
}

void check_plain(const void* address, std::size_t bytes, Access access, const void* return_address) {
  if (current == nullptr || current->unwatched > 0) return;
  const Unwatched unwatched;
  const auto place = static_cast<Place>(reinterpret_cast<std::uintptr_t>(return_address) & 0x7fffffffu);
  const Request request{address, bytes, access, place};
  check(request);
}

Place place_of(Site site) {
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].line == site.line && sites[i].file == site.file) return kIsSite | static_cast<Place>(i);
  }
  sites.push_back(site);
  return kIsSite | static_cast<Place>(sites.size() - 1);
}

}  // namespace

void check_atomic(const void* address, std::size_t bytes, AtomicKind kind, Site site) {
  Thread& thread = *current;
  constexpr Access kAccesses[] = {Access::kAtomicChange, Access::kAtomicRead, Access::kAtomicStore};
  check({address, bytes, kAccesses[static_cast<int>(kind)], place_of(site)});
  if (kind == AtomicKind::kStoreRelease) is_fenced = true;
  if (!is_fenced) return;
  std::vector<Shared>& list = published[reinterpret_cast<std::uintptr_t>(address)];
  switch (kind) {
    case AtomicKind::kChange:
      for (const Shared& part : list) {
        if (!part->is_for_block || part->block == thread.block->number) add_once(thread.clock.read, part);
      }
      if (thread.clock.fenced) add_once(list, thread.clock.fenced);
      break;
    case AtomicKind::kLoadAcquire: learn(thread, list); break;
    case AtomicKind::kStoreRelease: list = {told_by(thread)}; break;
  }
}

}  // namespace emulated

// What the compiler calls. Atomics of kernels come by check_atomic(); those below are in the host's code beside them.
extern "C" {

#define EMULATED_ATOMIC_HOOKS(bits, type)                                                                       \
  type __tsan_atomic##bits##_load(const volatile type* a, int) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); } \
  void __tsan_atomic##bits##_store(volatile type* a, type v, int) { __atomic_store_n(a, v, __ATOMIC_SEQ_CST); } \
  EMULATED_ATOMIC_HOOK(bits, type, exchange, exchange_n)                                                        \
  EMULATED_ATOMIC_HOOK(bits, type, fetch_add, fetch_add)                                                        \
  EMULATED_ATOMIC_HOOK(bits, type, fetch_sub, fetch_sub)                                                        \
  EMULATED_ATOMIC_HOOK(bits, type, fetch_and, fetch_and)                                                        \
  EMULATED_ATOMIC_HOOK(bits, type, fetch_or, fetch_or)                                                          \
  EMULATED_ATOMIC_HOOK(bits, type, fetch_xor, fetch_xor)                                                        \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile type* a, type* e, type v, int, int) {              \
    return __atomic_compare_exchange_n(a, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                     \
  }                                                                                                             \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile type* a, type* e, type v, int, int) {                \
    return __atomic_compare_exchange_n(a, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                     \
  }
#define EMULATED_ATOMIC_HOOK(bits, type, name, builtin)              \
  type __tsan_atomic##bits##_##name(volatile type* a, type v, int) { \
    return __atomic_##builtin(a, v, __ATOMIC_SEQ_CST);               \
  }
EMULATED_ATOMIC_HOOKS(8, std::uint8_t)
EMULATED_ATOMIC_HOOKS(16, std::uint16_t)
EMULATED_ATOMIC_HOOKS(32, std::uint32_t)
EMULATED_ATOMIC_HOOKS(64, std::uint64_t)
#undef EMULATED_ATOMIC_HOOKS
#undef EMULATED_ATOMIC_HOOK
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

#define EMULATED_HOOKS(bytes)                                                                     \
  void __tsan_read##bytes(void* address) {                                                        \
    emulated::check_plain(address, bytes, emulated::Access::kRead, __builtin_return_address(0));  \
  }                                                                                               \
  void __tsan_write##bytes(void* address) {                                                       \
    emulated::check_plain(address, bytes, emulated::Access::kWrite, __builtin_return_address(0)); \
  }                                                                                               \
  void __tsan_unaligned_read##bytes(void* address) {                                              \
    emulated::check_plain(address, bytes, emulated::Access::kRead, __builtin_return_address(0));  \
  }                                                                                               \
  void __tsan_unaligned_write##bytes(void* address) {                                             \
    emulated::check_plain(address, bytes, emulated::Access::kWrite, __builtin_return_address(0)); \
  }
EMULATED_HOOKS(1)
EMULATED_HOOKS(2)
EMULATED_HOOKS(4)
EMULATED_HOOKS(8)
EMULATED_HOOKS(16)
#undef EMULATED_HOOKS

void __tsan_read_range(void* address, std::size_t bytes) {
  emulated::check_plain(address, bytes, emulated::Access::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* address, std::size_t bytes) {
  emulated::check_plain(address, bytes, emulated::Access::kWrite, __builtin_return_address(0));
}
/// What -fsanitize=alignment calls; the beginning of its data, as GCC and Clang lay it out.
struct EmulatedTypeMismatch {
  const char* file;
  std::uint32_t line, column;
  const void* type;
  unsigned char log_alignment;
};
void __ubsan_handle_type_mismatch_v1(EmulatedTypeMismatch* where, std::uintptr_t address) {
  if (emulated::current == nullptr || emulated::current->unwatched > 0 || address == 0) return;
  emulated::fail_misaligned(std::size_t{1} << where->log_alignment, {where->file, static_cast<int>(where->line)});
}

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}

#endif
