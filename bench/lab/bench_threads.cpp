// SPDX-License-Identifier: Apache-2.0
// What it costs to hand tasks to threads: one std::thread per call, a plain condition-variable pool (both lost), and
// cpu/threads.h. From the top of the repository:
//   c++ -O2 -std=c++17 -pthread -Icpp bench/lab/bench_threads.cpp cpp/cpu/threads.cpp -o bench_threads &&
//   ./bench_threads
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu/threads.h"

namespace {

using tokendraw::cpu::TaskRef;
using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

/// Arithmetic that takes so long on an idle processor, and longer on a shared one.
void work_for(double microseconds) {
  constexpr std::int64_t kSteps = 100000;
  const auto run = [](std::int64_t steps) {
    volatile double value = 1.0;
    for (std::int64_t i = 0; i < steps; ++i) value = value * 0.999;
  };
  static const double steps_per_microsecond = [&] {
    double fastest = 1e9;
    for (int round = 0; round < 20; ++round) {
      const auto start = Clock::now();
      run(kSteps);
      fastest = std::min(fastest, microseconds_since(start));
    }
    return static_cast<double>(kSteps) / fastest;
  }();
  run(static_cast<std::int64_t>(microseconds * steps_per_microsecond));
}

// ---- the ways that lost -----------------------------------------------------------------------------------

void thread_per_call(std::int64_t tasks, int threads, TaskRef work) {
  std::atomic<std::int64_t> next{0};
  const auto drain = [&](int worker) {
    for (std::int64_t task = next++; task < tasks; task = next++) work(worker, task);
  };
  std::vector<std::thread> helpers;
  for (int worker = 1; worker < threads; ++worker) helpers.emplace_back(drain, worker);
  drain(0);
  for (std::thread& helper : helpers) helper.join();
}

/// One job at a time; callers queue; every helper must have woken before a call ends.
class ConditionPool {
 public:
  explicit ConditionPool(int helpers) {
    for (int worker = 1; worker <= helpers; ++worker) threads_.emplace_back([this, worker] { run(worker); });
  }
  ~ConditionPool() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    posted_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  void call(std::int64_t tasks, TaskRef work) {
    const std::lock_guard<std::mutex> one_call(entry_);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      tasks_ = tasks;
      next_ = 0;
      running_ = static_cast<int>(threads_.size());
      ++job_;
    }
    posted_.notify_all();
    drain(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return running_ == 0; });
  }

 private:
  void drain(int worker) {
    for (std::int64_t task = next_++; task < tasks_; task = next_++) (*work_)(worker, task);
  }
  void run(int worker) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (std::int64_t seen = 0;;) {
      posted_.wait(lock, [&] { return stopping_ || job_ != seen; });
      if (stopping_) return;
      seen = job_;
      lock.unlock();
      drain(worker);
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex entry_, mutex_;
  std::condition_variable posted_, done_;
  const TaskRef* work_ = nullptr;
  std::int64_t tasks_ = 0, job_ = 0;
  int running_ = 0;
  bool stopping_ = false;
  std::atomic<std::int64_t> next_{0};
};

// ---- the scenes -------------------------------------------------------------------------------------------

struct Scene {
  const char* name;
  double task_microseconds;
  double idle_microseconds;
  int callers;
  int busy_threads;  // of somebody else
};

constexpr std::int64_t kTasks = 8;
constexpr int kThreads = 2;
constexpr int kBlocks = 20;  // the ways take turns: the machine may have other work
constexpr int kCalls = 25;   // of one way in a block

struct Way {
  const char* name;
  std::function<void(TaskRef)> call;
  std::vector<double> times;

  double at(double share) const {
    return times[static_cast<std::size_t>(share * static_cast<double>(times.size() - 1))];
  }
};

std::vector<double> time_calls(const Scene& scene, const Way& way) {
  const auto work = [&](int, std::int64_t) { work_for(scene.task_microseconds); };
  std::vector<double> times;
  for (int call = 0; call < kCalls; ++call) {
    if (scene.idle_microseconds > 0) {
      std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(scene.idle_microseconds));
    }
    const auto start = Clock::now();
    way.call(TaskRef(work));
    times.push_back(microseconds_since(start));
  }
  return times;
}

void time_block(const Scene& scene, Way& way) {
  std::mutex mutex;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < scene.callers; ++caller) {
    callers.emplace_back([&] {
      const std::vector<double> times = time_calls(scene, way);
      const std::lock_guard<std::mutex> lock(mutex);
      way.times.insert(way.times.end(), times.begin(), times.end());
    });
  }
  for (std::thread& caller : callers) caller.join();
}

void time_scene(const Scene& scene, std::vector<Way> ways) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int i = 0; i < scene.busy_threads; ++i) {
    busy.emplace_back([&] {
      while (!stop) {
      }
    });
  }
  for (int block = 0; block < kBlocks; ++block) {
    for (Way& way : ways) time_block(scene, way);
  }
  stop = true;
  for (std::thread& thread : busy) thread.join();
  for (Way& way : ways) {
    std::sort(way.times.begin(), way.times.end());
    std::printf("%-30s %-16s %9.1f %9.1f %9.1f\n", scene.name, way.name, way.at(0.05), way.at(0.5), way.at(0.95));
  }
}

}  // namespace

int main() {
  work_for(0);
  ConditionPool pool(kThreads - 1);
  const std::vector<Way> ways{
      {"serial",
       [](TaskRef work) {
         for (std::int64_t task = 0; task < kTasks; ++task) work(0, task);
       },
       {}},
      {"thread per call", [](TaskRef work) { thread_per_call(kTasks, kThreads, work); }, {}},
      {"condition pool", [&](TaskRef work) { pool.call(kTasks, work); }, {}},
      {"cpu/threads.h", [](TaskRef work) { tokendraw::cpu::parallel_for(kTasks, kThreads, work); }, {}},
  };
  std::printf("%lld tasks, %d threads; microseconds per call\n", static_cast<long long>(kTasks), kThreads);
  std::printf("%-30s %-16s %9s %9s %9s\n", "", "", "p5", "median", "p95");
  for (const Scene& scene : {
           Scene{"hot, empty tasks", 0, 0, 1, 0},
           Scene{"hot, 20 us tasks", 20, 0, 1, 0},
           Scene{"after 3 ms, empty tasks", 0, 3000, 1, 0},
           Scene{"after 3 ms, 20 us tasks", 20, 3000, 1, 0},
           Scene{"4 callers, 20 us tasks", 20, 0, 4, 0},
           Scene{"busy processors, 20 us tasks", 20, 1000, 1, 2},
       }) {
    time_scene(scene, ways);
  }
}
