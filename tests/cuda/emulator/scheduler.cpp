// SPDX-License-Identifier: Apache-2.0
#include "scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "clocks.h"
#include "memory.h"
#include "symbols.h"

namespace emulated {

/// How the next thread is chosen among those that can run; a seed takes one.
enum class Order : std::uint8_t { kInOrder, kUniform, kPriorities, kLateWarp };

struct Launch {
  const Call* call = nullptr;
  Shape shape;
  int device = 0;
  std::uint64_t seed = 0;
  Order order = Order::kInOrder;
  std::mt19937_64 random;
  unsigned late_warp = 0;
  std::uint64_t polls = 0;

  std::vector<std::unique_ptr<Cluster>> resident;
  std::vector<unsigned> coming;                          // clusters of the grid, the next one last
  std::vector<std::pair<std::uint64_t, Thread*>> ready;  // a heap: the largest priority first
  Fiber outside;
  SharedLayout layout;
  OrderPoint begin;
  OrderPoint end;
  std::string report;
};

__thread Thread* current = nullptr;
Statistics statistics;

namespace {

Launch* launch = nullptr;  // one at a time: the runtime holds its lock
constexpr unsigned kThreadsAtOnce = 4096;
constexpr unsigned kClustersAtOnce = 4;
constexpr std::uint64_t kPolls = 1 << 22;  // without anything else happening

/// Stacks outlive launches.
std::vector<Fiber>& idle_fibers() {
  static auto* fibers = new std::vector<Fiber>;
  return *fibers;
}

std::vector<SharedMemory*>& idle_shared() {
  static auto* memories = new std::vector<SharedMemory*>;
  return *memories;
}

SharedMemory* take_shared() {
  if (idle_shared().empty()) return new_shared_memory();
  SharedMemory* memory = idle_shared().back();
  idle_shared().pop_back();
  return memory;
}

unsigned count_of(dim3 size) { return size.x * size.y * size.z; }

uint3 place_of(unsigned number, dim3 size) {
  return {number % size.x, number / size.x % size.y, number / size.x / size.y};
}

// ---- who is next ----

std::uint64_t priority_of(const Thread& thread) {
  switch (launch->order) {
    case Order::kInOrder: return ~(std::uint64_t{thread.block->rank} << 32 | thread.number);
    case Order::kUniform: return launch->random() | std::uint64_t{1} << 32;  // above those who poll
    case Order::kPriorities: return thread.priority;
    case Order::kLateWarp: {
      const bool is_late = thread.number / 32 == launch->late_warp;
      return is_late ? launch->random() >> 1 | std::uint64_t{1} << 32 : launch->random() | std::uint64_t{1} << 63;
    }
  }
  return 0;
}

void make_ready(Thread& thread) {
  launch->polls = 0;
  thread.waits_in = nullptr;
  launch->ready.emplace_back(priority_of(thread), &thread);
  std::push_heap(launch->ready.begin(), launch->ready.end());
}

std::string deadlock_report() {
  struct Group {
    const Thread* first;
    unsigned count;
  };
  std::vector<Group> groups;
  for (const auto& cluster : launch->resident) {
    for (const Block& block : cluster->blocks) {
      for (const Thread& thread : block.threads) {
        if (thread.is_done || thread.waits_in == nullptr) continue;
        const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
          return group.first->block == thread.block && group.first->waits_in == thread.waits_in &&
                 group.first->site.line == thread.site.line;
        });
        if (same != groups.end()) {
          ++same->count;
        } else {
          groups.push_back({&thread, 1});
        }
      }
    }
  }
  std::string text = "deadlock: nobody can run";
  for (std::size_t i = 0; i < groups.size() && i < 8; ++i) {
    const Thread& first = *groups[i].first;
    text += "\n  " + std::to_string(groups[i].count) + " thread(s), the first is " + name_of(first) + ", in " +
            first.waits_in + " at " + text_of(first.site);
    if (first.block->live < first.block->threads.size()) {
      text += " (" + std::to_string(first.block->threads.size() - first.block->live) + " of its block have exited)";
    }
  }
  return text;
}

void switch_to(Thread& from, Fiber& to, Thread* next, bool from_ends) {
  ++statistics.switches;
  current = next;
  switch_fiber(from.fiber, to, from_ends);
}

/// Runs the next thread; returns when `me` is next again.
void run_next(Thread& me, bool is_ending = false) {
  if (launch->ready.empty()) {
    launch->report = deadlock_report();
    switch_to(me, launch->outside, nullptr, is_ending);
    return;
  }
  std::pop_heap(launch->ready.begin(), launch->ready.end());
  Thread* next = launch->ready.back().second;
  launch->ready.pop_back();
  if (next == &me) return;
  switch_to(me, next->fiber, next, is_ending);
}

void wait_in(Thread& me, const char* what, Site site) {
  me.waits_in = what;
  me.site = site;
  run_next(me);
}

// ---- blocks come and go ----

void thread_main();

void begin_thread(Block& block, unsigned number) {
  Thread& thread = block.threads[number];
  Warp& warp = block.warps[number / 32];
  thread.block = &block;
  thread.warp = &warp;
  thread.number = number;
  thread.lane = number % 32;
  thread.index = place_of(number, launch->shape.block);
  thread.is_done = thread.has_arrived = false;
  thread.cluster_generation = 0;
  thread.unwatched = 1;
  thread.priority = launch->random() | std::uint64_t{1} << 32;
  warp.lanes |= 1u << thread.lane;
  if (thread.lane == 0) warp.first = &thread;
  prepare_fiber(thread.fiber, thread_main, number * 5 + block.rank);
}

void begin_block(Cluster& cluster, unsigned rank) {
  Block& block = cluster.blocks[rank];
  const unsigned threads = count_of(launch->shape.block);
  block.cluster = &cluster;
  block.rank = rank;
  block.number = cluster.number * launch->shape.cluster + rank;
  block.index = place_of(block.number, launch->shape.grid);
  block.live = threads;
  block.warps.assign((threads + 31) / 32, Warp{});
  for (Barrier& barrier : block.barriers) barrier = Barrier{};
  for (unsigned i = 0; i < block.warps.size(); ++i) {
    block.warps[i].number = block.number * static_cast<unsigned>(block.warps.size()) + i;
  }
  begin_shared(*block.shared, launch->layout);
  for (unsigned i = 0; i < threads; ++i) begin_thread(block, i);
  begin_clocks(block);
}

void begin_cluster(Cluster& cluster, unsigned number) {
  cluster.number = number;
  cluster.live = static_cast<unsigned>(cluster.blocks.size()) * count_of(launch->shape.block);
  cluster.arrived = cluster.generation = 0;
  cluster.waiting.clear();
  cluster.clock = ClusterClock{};
  for (unsigned rank = 0; rank < cluster.blocks.size(); ++rank) begin_block(cluster, rank);
  for (Block& block : cluster.blocks) {
    for (Thread& thread : block.threads) make_ready(thread);
  }
}

void add_cluster() {
  auto cluster = std::make_unique<Cluster>();
  cluster->blocks.resize(launch->shape.cluster);
  for (Block& block : cluster->blocks) {
    block.threads.resize(count_of(launch->shape.block));
    block.shared = take_shared();
    for (Thread& thread : block.threads) {
      if (idle_fibers().empty()) {
        allocate_fiber(thread.fiber);
      } else {
        thread.fiber = idle_fibers().back();
        idle_fibers().pop_back();
      }
    }
  }
  launch->resident.push_back(std::move(cluster));
}

void remove_cluster(Cluster& cluster) {
  for (Block& block : cluster.blocks) {
    for (Thread& thread : block.threads) idle_fibers().push_back(thread.fiber);
    idle_shared().push_back(block.shared);
  }
  const auto place = std::find_if(launch->resident.begin(), launch->resident.end(),
                                  [&](const auto& other) { return other.get() == &cluster; });
  launch->resident.erase(place);
}

// ---- barriers ----

void complete(Block& block, Barrier& barrier, bool is_whole_block) {
  if (is_whole_block) {
    meet_block(block);
  } else {
    meet_threads(barrier.arrived);
  }
  const unsigned nonzero = barrier.nonzero;
  ++barrier.generation;
  barrier.nonzero = 0;
  barrier.expected = 0;
  for (Thread* thread : barrier.arrived) {
    thread->result = nonzero;
    make_ready(*thread);
  }
  barrier.arrived.clear();
}

void complete(Cluster& cluster) {
  meet_cluster(cluster);
  cluster.arrived = 0;
  ++cluster.generation;
  for (Thread* thread : cluster.waiting) make_ready(*thread);
  cluster.waiting.clear();
}

/// Exited threads count as having arrived.
void leave_barriers(Block& block, Thread& me) {
  Barrier& barrier = block.barriers[0];
  if (!barrier.arrived.empty() && barrier.arrived.size() == block.live) complete(block, barrier, true);
  Cluster& cluster = *block.cluster;
  if (me.has_arrived && me.cluster_generation == cluster.generation) --cluster.arrived;
  if (cluster.arrived > 0 && cluster.arrived == cluster.live) complete(cluster);
}

std::string end_block(Block& block) { return end_shared(*block.shared, launch->layout); }

void end_thread(Thread& me) {
  Block& block = *me.block;
  if ((me.warp->waiting) != 0) {
    for (unsigned lane = 0; lane < 32; ++lane) {
      const Thread& other = me.warp->first[lane];
      if ((me.warp->waiting >> lane & 1u) != 0 && (other.mask >> me.lane & 1u) != 0) {
        fail("a thread exits while " + name_of(other) + " waits for it in " + other.waits_in, other.site);
      }
    }
  }
  me.is_done = true;
  me.warp->exited |= 1u << me.lane;
  --block.live;
  --block.cluster->live;
  leave_barriers(block, me);
  if (block.live == 0) {
    const std::string damage = end_block(block);
    if (!damage.empty()) fail(damage);
  }
}

/// The last thread of a cluster goes outside: its own stack is among those that the next cluster needs.
void thread_main() {
  enter_fiber(launch->outside);
  take(launch->begin);
  Thread& me = *current;
  me.unwatched = 0;
  launch->call->call(launch->call->kernel, launch->call->parameters.get());
  me.unwatched = 1;
  bring(launch->end);
  {
    const Unwatched unwatched;
    end_thread(me);
  }
  if (me.block->cluster->live == 0) {
    switch_to(me, launch->outside, nullptr, true);
  } else {
    run_next(me, true);
  }
  __builtin_unreachable();
}

/// The outside of all fibers: starts clusters, and comes back whenever one has ended.
void run_clusters() {
  const auto start = [&](Cluster& cluster) {
    const unsigned number = launch->coming.back();
    launch->coming.pop_back();
    begin_cluster(cluster, number);
    bring(launch->begin);
  };
  for (const auto& cluster : launch->resident) start(*cluster);
  while (launch->report.empty() && !launch->resident.empty()) {
    if (launch->ready.empty()) {
      launch->report = deadlock_report();
      break;
    }
    std::pop_heap(launch->ready.begin(), launch->ready.end());
    Thread* next = launch->ready.back().second;
    launch->ready.pop_back();
    ++statistics.switches;
    current = next;
    switch_fiber(launch->outside, next->fiber, false);
    for (std::size_t i = launch->resident.size(); i-- > 0;) {
      Cluster& cluster = *launch->resident[i];
      if (cluster.live > 0 || !launch->report.empty()) continue;
      if (launch->coming.empty()) {
        remove_cluster(cluster);
      } else {
        start(cluster);
      }
    }
  }
  take(launch->end);
}

Order order_of(std::uint64_t seed) {
  if (seed == 0) return Order::kInOrder;
  constexpr Order kOrders[] = {Order::kUniform, Order::kPriorities, Order::kLateWarp};
  return kOrders[seed % 3];
}

void prepare(Launch& next) {
  const unsigned threads = count_of(next.shape.block);
  const unsigned clusters = count_of(next.shape.grid) / next.shape.cluster;
  for (unsigned i = clusters; i-- > 0;) next.coming.push_back(i);
  unsigned at_once = 1;
  if (next.order != Order::kInOrder) {
    std::shuffle(next.coming.begin(), next.coming.end(), next.random);
    at_once = 1 + static_cast<unsigned>(next.random() % kClustersAtOnce);
    next.late_warp = static_cast<unsigned>(next.random() % ((threads + 31) / 32));
  }
  at_once = std::max(1u, std::min({at_once, clusters, kThreadsAtOnce / (threads * next.shape.cluster)}));
  for (unsigned i = 0; i < at_once; ++i) add_cluster();
}

/// After a failure nobody's stack is unwound: device code owns nothing.
void give_up() {
  while (!launch->resident.empty()) remove_cluster(*launch->resident.back());
}

}  // namespace

std::string run(const Call& call, const Shape& shape, int device, std::uint64_t seed) {
  Launch next;
  next.call = &call;
  next.shape = shape;
  next.device = device;
  next.seed = seed;
  next.order = order_of(seed);
  next.random.seed(seed);
  next.layout = shared_layout(shape.dynamic_bytes);
  launch = &next;
  adopt_fiber(next.outside);
  begin_checks();
  prepare(next);
  run_clusters();
  current = nullptr;
  give_up();
  if (next.report.empty()) next.report = damage_to_guards();
  end_checks();
  if (!next.report.empty()) {
    new std::shared_ptr<void>(
        call.parameters);  // threads that were given up have never said that they are done with them
    next.report += "\n  kernel " + function_at(call.kernel) + ", schedule " + std::to_string(seed);
  }
  launch = nullptr;
  return next.report;
}

void fail(const std::string& message, Site site) { fail_at(message, site.line > 0 ? text_of(site) : ""); }

void fail_at(const std::string& message, const std::string& where) {
  Thread& me = *current;
  ++me.unwatched;
  launch->report = message + "\n  in " + name_of(me);
  if (!where.empty()) launch->report += " at " + where;
  current = nullptr;
  switch_fiber(me.fiber, launch->outside, true);
  __builtin_unreachable();
}

void fail_text(const char* message, Site site) {
  const Unwatched unwatched;
  fail(message, site);
}

void fail_misaligned(std::size_t alignment, Site site) {
  const Unwatched unwatched;
  fail("misaligned: an address that is not a multiple of " + std::to_string(alignment), site);
}

void yield() {
  const Unwatched unwatched;
  Thread& me = *current;
  if (++launch->polls > kPolls) fail("deadlock: threads only poll, and nobody else can run");
  // Behind everybody else: who polls lets those come first whom it waits for.
  launch->ready.emplace_back(kPolls - launch->polls, &me);
  std::push_heap(launch->ready.begin(), launch->ready.end());
  run_next(me);
}

void may_yield() {
  // In order, too: a lock is waited for with atomics.
  const std::uint64_t one_in = launch->order == Order::kInOrder ? 64 : 4;
  if (launch->random() % one_in == 0) yield();
}

unsigned block_barrier(bool predicate, Site site) {
  const Unwatched unwatched;
  Thread& me = *current;
  Block& block = *me.block;
  Barrier& barrier = block.barriers[0];
  if (barrier.arrived.empty()) {
    barrier.site = site;
  } else if (barrier.site.line != site.line || std::strcmp(barrier.site.file, site.file) != 0) {
    fail("divergent barrier: " + name_of(*barrier.arrived.front()) + " waits in __syncthreads() at " +
             text_of(barrier.site) + ", another thread of its block comes to a different one",
         site);
  }
  OrderPoint& order = barrier.order[barrier.generation % 2];
  bring(order);
  barrier.nonzero += predicate ? 1 : 0;
  barrier.arrived.push_back(&me);
  me.waits_in = "__syncthreads()";
  me.site = site;
  if (barrier.arrived.size() == block.live) complete(block, barrier, true);
  run_next(me);
  take(order);
  return static_cast<unsigned>(me.result);
}

void named_barrier(int id, int threads, Site site) {
  const Unwatched unwatched;
  Thread& me = *current;
  if (id < 1 || id >= kBarriers) fail("a named barrier is 1 to 15, got " + std::to_string(id), site);
  const auto expected = static_cast<unsigned>(threads);
  if (threads < 32 || threads % 32 != 0 || expected > me.block->threads.size()) {
    fail("a named barrier is for a multiple of 32 threads of the block, got " + std::to_string(threads), site);
  }
  Barrier& barrier = me.block->barriers[id];
  if (!barrier.arrived.empty() && barrier.expected != expected) {
    fail("named barrier " + std::to_string(id) + " is waited for with two numbers of threads", site);
  }
  OrderPoint& order = barrier.order[barrier.generation % 2];
  bring(order);
  barrier.expected = expected;
  barrier.arrived.push_back(&me);
  me.waits_in = "named_barrier_sync()";
  me.site = site;
  if (barrier.arrived.size() == expected) complete(*me.block, barrier, false);
  run_next(me);
  take(order);
}

void arrive_at_cluster(Site site) {
  const Unwatched unwatched;
  Thread& me = *current;
  Cluster& cluster = *me.block->cluster;
  if (me.has_arrived) fail("a thread arrives twice at the barrier of its cluster without waiting for it", site);
  me.has_arrived = true;
  me.cluster_generation = cluster.generation;
  bring(cluster.order[cluster.generation % 2]);
  arrive_cluster(me);
  if (++cluster.arrived == cluster.live) complete(cluster);
}

void wait_for_cluster(Site site) {
  const Unwatched unwatched;
  Thread& me = *current;
  Cluster& cluster = *me.block->cluster;
  if (!me.has_arrived) fail("a thread waits for the barrier of its cluster without having arrived at it", site);
  if (me.cluster_generation == cluster.generation) {
    cluster.waiting.push_back(&me);
    wait_in(me, "cluster_wait()", site);
  }
  take(cluster.order[me.cluster_generation % 2]);
  wait_cluster(me);
  me.has_arrived = false;
}

// ---- collectives of a warp ----

namespace {

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::kSyncwarp: return "__syncwarp()";
    case Collective::kShuffle: return "a shuffle";
    case Collective::kBallot: return "a vote";
    case Collective::kMatchAny:
    case Collective::kMatchAll: return "a match";
    default: return "a warp reduction";
  }
}

std::string text_of_mask(std::uint32_t mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

unsigned lowest(std::uint32_t mask) { return static_cast<unsigned>(__builtin_ctz(mask)); }

void check_mask(const Thread& me, Site site) {
  const Warp& warp = *me.warp;
  const std::string mask = "mask " + text_of_mask(me.mask) + " of " + name_of(me.collective);
  if ((me.mask >> me.lane & 1u) == 0) fail(mask + " does not name the calling lane " + std::to_string(me.lane), site);
  if (const std::uint32_t strangers = me.mask & ~warp.lanes; strangers != 0) {
    fail(mask + " names lane " + std::to_string(lowest(strangers)) + ", which the warp does not have", site);
  }
  if (const std::uint32_t gone = me.mask & warp.exited; gone != 0) {
    fail(mask + " names lane " + std::to_string(lowest(gone)) + ", which has exited", site);
  }
}

/// Two lanes that wait for each other must wait in the same place. (Only one for the other: that one may come later.)
void check_company(const Thread& me, Site site) {
  for (std::uint32_t rest = me.warp->waiting; rest != 0; rest &= rest - 1) {
    const Thread& other = me.warp->first[lowest(rest)];
    if ((other.mask >> me.lane & 1u) == 0 || (me.mask >> other.lane & 1u) == 0) continue;
    const bool is_same_place = other.site.line == site.line && std::strcmp(other.site.file, site.file) == 0;
    if (other.mask == me.mask && other.collective == me.collective && is_same_place) return;
    fail(std::string("divergent warp: ") + name_of(other) + " waits in " + name_of(other.collective) + " (mask " +
             text_of_mask(other.mask) + ") at " + text_of(other.site) + ", this thread comes to " +
             name_of(me.collective) + " (mask " + text_of_mask(me.mask) + ")",
         site);
  }
}

/// Has every lane of the mask come to this collective, and not to another one?
bool is_complete(const Warp& warp, std::uint32_t mask) {
  if ((warp.waiting & mask) != mask) return false;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    if (warp.first[lowest(rest)].mask != mask) return false;
  }
  return true;
}

template <class T, class Combine>
void reduce(Warp& warp, std::uint32_t mask, Combine combine) {
  auto total = static_cast<T>(warp.first[lowest(mask)].value);
  for (std::uint32_t rest = mask & (mask - 1); rest != 0; rest &= rest - 1) {
    total = combine(total, static_cast<T>(warp.first[lowest(rest)].value));
  }
  const auto bits = static_cast<std::uint32_t>(total);
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) warp.first[lowest(rest)].result = bits;
}

std::uint32_t lanes_with(const Warp& warp, std::uint32_t mask, std::uint64_t value) {
  std::uint32_t lanes = 0;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const unsigned lane = lowest(rest);
    if (warp.first[lane].value == value) lanes |= 1u << lane;
  }
  return lanes;
}

void exchange(Warp& warp, std::uint32_t mask, Collective kind) {
  using U = std::uint32_t;
  using S = std::int32_t;
  const std::uint32_t ballot = kind == Collective::kBallot ? lanes_with(warp, mask, 1) : 0;
  switch (kind) {
    case Collective::kAdd: return reduce<U>(warp, mask, [](U a, U b) { return a + b; });
    case Collective::kMinSigned: return reduce<S>(warp, mask, [](S a, S b) { return std::min(a, b); });
    case Collective::kMaxSigned: return reduce<S>(warp, mask, [](S a, S b) { return std::max(a, b); });
    case Collective::kMinUnsigned: return reduce<U>(warp, mask, [](U a, U b) { return std::min(a, b); });
    case Collective::kMaxUnsigned: return reduce<U>(warp, mask, [](U a, U b) { return std::max(a, b); });
    case Collective::kAnd: return reduce<U>(warp, mask, [](U a, U b) { return a & b; });
    case Collective::kOr: return reduce<U>(warp, mask, [](U a, U b) { return a | b; });
    case Collective::kXor: return reduce<U>(warp, mask, [](U a, U b) { return a ^ b; });
    default: break;
  }
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    Thread& thread = warp.first[lowest(rest)];
    switch (kind) {
      case Collective::kShuffle: thread.result = warp.first[thread.source].value; break;
      case Collective::kBallot: thread.result = ballot; break;
      case Collective::kMatchAny: thread.result = lanes_with(warp, mask, thread.value); break;
      case Collective::kMatchAll: thread.result = lanes_with(warp, mask, thread.value) == mask ? mask : 0; break;
      default: break;
    }
  }
}

}  // namespace

std::uint64_t collective(Collective kind, std::uint32_t mask, std::uint64_t value, unsigned source, Site site) {
  const Unwatched unwatched;
  Thread& me = *current;
  Warp& warp = *me.warp;
  me.collective = kind;
  me.mask = mask;
  me.value = value;
  me.source = source;
  const bool is_strange = (mask >> me.lane & 1u) == 0 || (mask & (~warp.lanes | warp.exited)) != 0;
  if (is_strange) check_mask(me, site);
  if (kind == Collective::kShuffle && (mask >> source & 1u) == 0) {
    fail("a shuffle reads lane " + std::to_string(source) + ", which its mask " + text_of_mask(mask) + " does not name",
         site);
  }
  check_company(me, site);
  OrderPoint& order = warp.order[warp.generation % 2];
  if (kind == Collective::kSyncwarp) bring(order);
  me.waits_in = name_of(kind);
  me.site = site;
  warp.waiting |= 1u << me.lane;
  if (is_complete(warp, mask)) {
    exchange(warp, mask, kind);
    if (kind == Collective::kSyncwarp) meet_warp(warp, mask);
    warp.waiting &= ~mask;
    ++warp.generation;
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) make_ready(warp.first[lowest(rest)]);
  }
  run_next(me);
  if (kind == Collective::kSyncwarp) take(order);
  return me.result;
}

// ---- what others may ask ----

std::string name_of(const Thread& thread) {
  const auto text = [](uint3 place) {
    return "(" + std::to_string(place.x) + "," + std::to_string(place.y) + "," + std::to_string(place.z) + ")";
  };
  return "thread " + text(thread.index) + " of block " + text(thread.block->index);
}

std::string text_of(Site site) {
  const char* slash = std::strrchr(site.file, '/');
  return std::string(slash != nullptr ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}

uint3 block_dimensions() { return {launch->shape.block.x, launch->shape.block.y, launch->shape.block.z}; }
uint3 grid_dimensions() { return {launch->shape.grid.x, launch->shape.grid.y, launch->shape.grid.z}; }
unsigned cluster_size() { return launch->shape.cluster; }

Launch* running() { return launch; }
SharedLayout& layout_of(Launch& of) { return of.layout; }
const Shape& shape_of(const Launch& of) { return of.shape; }
int device_of(const Launch& of) { return of.device; }
const Call& call_of(const Launch& of) { return *of.call; }
const std::vector<std::unique_ptr<Cluster>>& resident_of(const Launch& of) { return of.resident; }

}  // namespace emulated
