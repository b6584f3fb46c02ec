// SPDX-License-Identifier: Apache-2.0
// Tasks over threads: a pool whose threads sleep between calls. A call borrows those that are free and waits for none
// that has not begun, so that a busy machine, a full pool or a forked child costs speed and nothing else.
#pragma once

#include <cstdint>

namespace tokendraw::cpu {

inline constexpr int kMaxThreads = 1024;

/// What set_default_threads chose, else the environment's TOKENDRAW_THREADS, else the processors this process may use.
int default_threads();

/// For every later call that names no count; 0 returns to the environment's. Counts above kMaxThreads mean kMaxThreads.
void set_default_threads(int threads) noexcept;

/// A borrowed callable, work(worker, task): a std::function would allocate at every call.
class TaskRef {
 public:
  template <class Work>
  TaskRef(const Work& work)
      : work_(&work), call_([](const void* borrowed, int worker, std::int64_t task) {
          (*static_cast<const Work*>(borrowed))(worker, task);
        }) {}

  void operator()(int worker, std::int64_t task) const { call_(work_, worker, task); }

 private:
  const void* work_;
  void (*call_)(const void* work, int worker, std::int64_t task);
};

/// work(worker, task) for every task in [0, tasks), on at most `threads` workers, fewer where no more are free or to be
/// had. The caller is worker 0; a worker has one task at a time, taken in rising order. The first exception is
/// rethrown after all workers have stopped, and the tasks not yet begun are left out.
/// May be called by many threads at once and from inside a task. Allocates only when the pool grows. Pool threads
/// compute under FloatEnvironment; the caller's own mode is the caller's to set.
/// Costs about 1 microsecond if the pool's threads are still awake (50 microseconds after a call), else 5 per thread
/// to wake: docs/decisions.md, number 12.
void parallel_for(std::int64_t tasks, int threads, TaskRef work);

}  // namespace tokendraw::cpu
