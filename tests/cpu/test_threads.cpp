// SPDX-License-Identifier: Apache-2.0
// Rows over threads: every row once, exceptions out, and a system that has no more threads.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
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
  std::vector<std::atomic<int>> rows;
  std::vector<std::atomic<int>> workers;
  Visits(std::int64_t row_count, int worker_count)
      : rows(static_cast<std::size_t>(row_count)), workers(static_cast<std::size_t>(worker_count)) {}

  void run(int threads) {
    cpu::parallel_for(static_cast<std::int64_t>(rows.size()), threads, [&](int worker, std::int64_t row) {
      ++rows[static_cast<std::size_t>(row)];
      ++workers.at(static_cast<std::size_t>(worker));
    });
  }
  void check_each_row_once() const {
    for (const std::atomic<int>& visits : rows) CHECK_EQUAL(visits.load(), 1);
  }
};

TEST(every_row_is_worked_on_once) {
  for (const int threads : {1, 2, 3, 8}) {
    for (const std::int64_t rows : {1, 2, 7, 1000}) {
      Visits visits(rows, threads);
      visits.run(threads);
      visits.check_each_row_once();
    }
  }
}

TEST(no_rows_are_no_work) {
  bool called = false;
  cpu::parallel_for(0, 4, [&](int, std::int64_t) { called = true; });
  CHECK(!called);
}

TEST(no_more_workers_than_rows) {
  std::atomic<int> highest{0};
  cpu::parallel_for(2, 64, [&](int worker, std::int64_t) {
    for (int seen = highest; worker > seen && !highest.compare_exchange_weak(seen, worker);) {
    }
  });
  CHECK(highest <= 1);
}

TEST(workers_run_at_the_same_time) {
  std::atomic<int> arrived{0};
  cpu::parallel_for(2, 2, [&](int, std::int64_t) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  CHECK_EQUAL(arrived.load(), 2);
}

TEST(an_exception_in_a_row_reaches_the_caller) {
  for (const int threads : {1, 2, 5}) {
    std::atomic<int> running{0};
    const std::string message = test::message_of<std::runtime_error>([&] {
      cpu::parallel_for(500, threads, [&](int, std::int64_t row) {
        ++running;
        if (row == 300) {
          --running;
          throw std::runtime_error("row 300");
        }
        --running;
      });
    });
    CHECK_EQUAL(message, "row 300");
    CHECK_EQUAL(running.load(), 0);
  }
}

TEST(of_many_exceptions_one_reaches_the_caller) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    const std::string message = test::message_of<std::runtime_error>(
        [&] { cpu::parallel_for(64, 4, [&](int, std::int64_t) { throw std::runtime_error("every row"); }); });
    CHECK_EQUAL(message, "every row");
  }
}

TEST(without_threads_the_caller_does_the_work) {
  for (const int available : {0, 1, 2}) {
    Visits visits(200, 8);
    const ThreadLimit limit(available);
    visits.run(8);
    visits.check_each_row_once();
    for (std::size_t worker = static_cast<std::size_t>(available) + 1; worker < 8; ++worker) {
      CHECK_EQUAL(visits.workers[worker].load(), 0);
    }
  }
}

TEST(the_thread_limit_of_these_tests_works) {
  const ThreadLimit limit(0);
  CHECK(test::message_of<std::system_error>([] { std::thread([] {}).join(); }) != "<no exception>");
}

}  // namespace
