// SPDX-License-Identifier: Apache-2.0
// Tasks over threads: each once, exceptions out, many callers, forks, and a system that has no more threads.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/threads.h"

namespace {

/// How many more threads the system gives; negative: any number.
std::atomic<int> threads_to_be_had{-1};

class ThreadLimit {
 public:
  explicit ThreadLimit(int threads) { threads_to_be_had = threads; }
  ~ThreadLimit() { threads_to_be_had = -1; }
};

}  // namespace

// Stands before the C library's, for libstdc++ as well: this is how thread creation is made to fail.
extern "C" __attribute__((visibility("default"))) int pthread_create(pthread_t* thread,
                                                                     const pthread_attr_t* attributes,
                                                                     void* (*start)(void*), void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  if (threads_to_be_had == 0) return EAGAIN;
  if (threads_to_be_had > 0) --threads_to_be_had;
  return create(thread, attributes, start, argument);
}

namespace {

using namespace tokendraw;

struct Visits {
  std::vector<std::atomic<int>> tasks;
  std::vector<std::atomic<int>> workers;
  Visits(std::int64_t task_count, int worker_count)
      : tasks(static_cast<std::size_t>(task_count)), workers(static_cast<std::size_t>(worker_count)) {}

  void run(int threads) {
    cpu::parallel_for(static_cast<std::int64_t>(tasks.size()), threads, [&](int worker, std::int64_t task) {
      ++tasks[static_cast<std::size_t>(task)];
      ++workers.at(static_cast<std::size_t>(worker));
    });
  }
  bool were_once_each() const {
    return std::all_of(tasks.begin(), tasks.end(), [](const std::atomic<int>& visits) { return visits == 1; });
  }
};

/// Runs `threads` tasks that end when all of them have begun, and `look` in each of them.
template <class Look>
void meet(int threads, const Look& look) {
  std::atomic<int> arrived{0};
  cpu::parallel_for(threads, threads, [&](int worker, std::int64_t) {
    look(worker);
    ++arrived;
    while (arrived < threads) std::this_thread::yield();
  });
}

TEST(every_task_is_worked_on_once) {
  for (const int threads : {1, 2, 3, 8}) {
    for (const std::int64_t tasks : {1, 2, 7, 1000}) {
      Visits visits(tasks, threads);
      visits.run(threads);
      CHECK(visits.were_once_each());
    }
  }
}

TEST(no_tasks_are_no_work) {
  bool called = false;
  cpu::parallel_for(0, 4, [&](int, std::int64_t) { called = true; });
  CHECK(!called);
}

TEST(no_more_workers_than_tasks) {
  std::atomic<int> highest{0};
  cpu::parallel_for(2, 64, [&](int worker, std::int64_t) {
    for (int seen = highest; worker > seen && !highest.compare_exchange_weak(seen, worker);) {
    }
  });
  CHECK(highest <= 1);
}

TEST(workers_run_at_the_same_time) {
  for (int repeat = 0; repeat < 200; ++repeat) meet(2, [](int) {});
  std::vector<std::atomic<int>> seen(5);
  meet(5, [&](int worker) { ++seen[static_cast<std::size_t>(worker)]; });
  for (const std::atomic<int>& times : seen) CHECK_EQUAL(times.load(), 1);
}

TEST(workers_that_fell_asleep_come_back) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    meet(3, [](int) {});
  }
  CHECK(true);
}

TEST(a_task_may_hand_out_tasks) {
  std::atomic<std::int64_t> sum{0};
  cpu::parallel_for(20, 3, [&](int, std::int64_t outer) {
    cpu::parallel_for(30, 3, [&](int, std::int64_t inner) {
      cpu::parallel_for(2, 2, [&](int, std::int64_t innermost) { sum += outer * inner * (innermost + 1); });
    });
  });
  CHECK_EQUAL(sum.load(), std::int64_t{190 * 435 * 3});
}

TEST(eight_callers_at_once) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      for (int repeat = 0; repeat < 300; ++repeat) {
        Visits visits(1 + (caller + repeat) % 9, 4);
        visits.run(1 + (caller + repeat) % 4);
        if (!visits.were_once_each()) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK_EQUAL(wrong.load(), 0);
}

TEST(an_exception_in_a_task_reaches_the_caller) {
  for (const int threads : {1, 2, 5}) {
    std::atomic<int> running{0};
    const std::string message = test::message_of<std::runtime_error>([&] {
      cpu::parallel_for(500, threads, [&](int, std::int64_t task) {
        ++running;
        if (task == 300) {
          --running;
          throw std::runtime_error("task 300");
        }
        --running;
      });
    });
    CHECK_EQUAL(message, "task 300");
    CHECK_EQUAL(running.load(), 0);
    Visits after(50, threads);
    after.run(threads);
    CHECK(after.were_once_each());
  }
}

TEST(of_many_exceptions_one_reaches_the_caller) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    const std::string message = test::message_of<std::runtime_error>(
        [&] { cpu::parallel_for(64, 4, [&](int, std::int64_t) { throw std::runtime_error("every task"); }); });
    CHECK_EQUAL(message, "every task");
  }
}

TEST(an_exception_in_an_inner_task_reaches_the_outer_caller) {
  const std::string message = test::message_of<std::runtime_error>([&] {
    cpu::parallel_for(4, 2, [&](int, std::int64_t) {
      cpu::parallel_for(4, 2, [&](int, std::int64_t) { throw std::runtime_error("inner"); });
    });
  });
  CHECK_EQUAL(message, "inner");
}

/// By what an addition does: fegetround asks the x87 unit, which the core never uses.
bool rounds_upward() {
  volatile float one = 1.0f, tiny = 1e-20f;
  volatile float sum = one + tiny;
  return sum > 1.0f;
}

TEST(pool_threads_do_not_inherit_a_rounding_mode) {
  constexpr int kMoreThanBefore = 12;
  std::atomic<int> upward{0};
  std::fesetround(FE_UPWARD);
  meet(kMoreThanBefore, [&](int) { upward += rounds_upward() ? 1 : 0; });
  const bool caller_rounds_upward = rounds_upward();
  std::fesetround(FE_TONEAREST);
  CHECK(caller_rounds_upward);
  CHECK_EQUAL(upward.load(), 1);  // the caller
}

TEST(pool_threads_leave_signals_to_the_program) {
  std::atomic<int> interruptible{0}, faults{0};
  meet(4, [&](int worker) {
    sigset_t held;
    pthread_sigmask(SIG_BLOCK, nullptr, &held);
    if (worker > 0 && sigismember(&held, SIGINT) == 0) ++interruptible;
    if (worker > 0 && sigismember(&held, SIGSEGV) == 1) ++faults;
  });
  CHECK_EQUAL(interruptible.load(), 0);
  CHECK_EQUAL(faults.load(), 0);
}

TEST(the_default_count_is_what_was_chosen_last) {
  const int before = cpu::default_threads();
  cpu::set_default_threads(3);
  CHECK_EQUAL(cpu::default_threads(), 3);
  cpu::set_default_threads(1 << 20);
  CHECK_EQUAL(cpu::default_threads(), cpu::kMaxThreads);
  cpu::set_default_threads(0);
  CHECK_EQUAL(cpu::default_threads(), before);
}

// ---- in a child -------------------------------------------------------------------------------------------

// Neither TSan nor QEMU 7.2 starts a thread in the child of a process that had some.
#if !defined(__SANITIZE_THREAD__) && !defined(TOKENDRAW_EMULATED)

/// Whether `body` is true in a child made by `fork_process`. A child that hangs is ended by its alarm.
template <class Fork, class Body>
bool holds_in_child(const Fork& fork_process, const Body& body) {
  const auto child = static_cast<pid_t>(fork_process());
  if (child == 0) {
    alarm(20);
    _exit(body() ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// In a child of its own: a pool that has no threads yet.
template <class Body>
bool holds_in_child(const Body& body) {
  return holds_in_child(fork, body);
}

bool two_threads_meet() {
  meet(2, [](int) {});
  Visits visits(100, 2);
  visits.run(2);
  return visits.were_once_each();
}

TEST(without_threads_the_caller_does_the_work) {
  for (const int available : {0, 1, 2}) {
    CHECK(holds_in_child([&] {
      Visits visits(200, 8);
      const ThreadLimit limit(available);
      visits.run(8);
      int workers = 0;
      for (const std::atomic<int>& tasks : visits.workers) workers += tasks > 0 ? 1 : 0;
      return visits.were_once_each() && workers <= available + 1;
    }));
  }
}

TEST(threads_that_come_back_are_used) {
  CHECK(holds_in_child([] {
    {
      const ThreadLimit limit(0);
      Visits(10, 2).run(2);
    }
    return two_threads_meet();
  }));
}

TEST(a_forked_child_has_threads_of_its_own) {
  meet(2, [](int) {});
  CHECK(holds_in_child(two_threads_meet));
  CHECK(holds_in_child([] { return two_threads_meet() && holds_in_child(two_threads_meet); }));
  CHECK(two_threads_meet());
}

// As a library that makes processes by itself does: no fork handler runs.
TEST(a_child_of_a_bare_system_call_has_threads_of_its_own) {
  meet(2, [](int) {});
  CHECK(holds_in_child([] { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }, two_threads_meet));
}

#if !defined(__SANITIZE_ADDRESS__)  // whose allocator may be locked for ever in such a child (gcc 12)
TEST(a_fork_while_others_are_at_work) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      while (!stop) Visits(20, 3).run(3);
    });
  }
  for (int repeat = 0; repeat < 40; ++repeat) CHECK(holds_in_child(two_threads_meet));
  stop = true;
  for (std::thread& caller : callers) caller.join();
}
#endif

#endif

TEST(the_thread_limit_of_these_tests_works) {
  const ThreadLimit limit(0);
  CHECK(test::message_of<std::system_error>([] { std::thread([] {}).join(); }) != "<no exception>");
}

}  // namespace
