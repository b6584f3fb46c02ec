// SPDX-License-Identifier: Apache-2.0
#include "cpu/threads.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "cpu/float_environment.h"

namespace tokendraw::cpu {
namespace {

int processors() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

// ---- waiting ----------------------------------------------------------------------------------------------

/// Longer than the gap between two passes over a row, shorter than anybody notices on a shared processor.
constexpr auto kSpin = std::chrono::microseconds(50);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// False where the condition does not come true in kSpin.
template <class Condition>
bool spin_until(const Condition& condition) {
  constexpr int kLooksPerClock = 16;
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int look = 0; look < kLooksPerClock; ++look) {
      if (condition()) return true;
      relax();
    }
    std::this_thread::yield();  // whoever is awaited may be waiting for this very processor
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

enum class State : std::uint8_t {
  kFree,     // nobody's
  kClaimed,  // a call's, which may write the mailbox
  kPosted,   // a job waits in the mailbox: the worker may take it, and the call may take it back
  kTaken,    // the worker is at it
  kDone,     // the worker has looked at the job for the last time
};

/// A state that a thread can wait for: awake for a while, then asleep.
/// Sequentially consistent, as either a thread about to sleep sees the new state or `set` sees the sleeper.
class WatchedState {
 public:
  explicit WatchedState(State state) : state_(state) {}

  bool exchange(State from, State to) noexcept { return state_.compare_exchange_strong(from, to); }

  void set(State state) noexcept {
    state_.store(state);
    if (sleepers_.load() == 0) return;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
    }
    changed_.notify_all();
  }

  void await(State state, bool spins) noexcept {
    const auto reached = [&] { return state_.load() == state; };
    if (reached() || (spins && spin_until(reached))) return;
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleepers_;
    changed_.wait(lock, reached);
    --sleepers_;
  }

 private:
  std::atomic<State> state_;
  std::atomic<int> sleepers_{0};  // the worker, and a call that has not yet left
  std::mutex mutex_;
  std::condition_variable changed_;
};

// ---- jobs and workers -------------------------------------------------------------------------------------

/// One call: its tasks, handed out one by one.
class Job {
 public:
  Job(std::int64_t tasks, TaskRef work) : tasks_(tasks), work_(work) {}

  void drain(int worker) noexcept {
    try {
      for (std::int64_t task = next_++; task < tasks_; task = next_++) work_(worker, task);
    } catch (...) {
      next_ = tasks_;
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }

  /// After every worker has stopped.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::int64_t tasks_;
  const TaskRef work_;
  std::atomic<std::int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
};

/// Signals are for the program's own threads: Python's main thread must wake from its sleep for an interrupt. Faults
/// still reach whoever reports them.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t held;
    sigfillset(&held);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&held, fault);
    pthread_sigmask(SIG_BLOCK, &held, &before_);
  }
  ~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_;
};

/// A thread of the pool and the mailbox through which calls reach it. Lives as long as the process: the end of a
/// program finds it asleep and destroys nothing that it may look at.
class alignas(64) Worker {
 public:
  /// A new worker is claimed by whoever made it.
  explicit Worker(bool spins) : spins_(spins) {}

  /// False where the system has no more threads, or no more memory for one.
  bool start() noexcept {
    try {
      const SignalsHeld held;
      std::thread([this] { run(); }).detach();
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }

  bool claim() noexcept { return state_.exchange(State::kFree, State::kClaimed); }

  void post(Job& job, int number) noexcept {
    job_ = &job;
    number_ = number;
    state_.set(State::kPosted);
  }

  /// Takes the job back, or waits until the worker has stopped; frees the worker.
  void finish() noexcept {
    if (state_.exchange(State::kPosted, State::kFree)) return;
    state_.await(State::kDone, spins_);
    state_.set(State::kFree);
  }

  Worker* next = nullptr;  // among those that one call has claimed

 private:
  void run() noexcept {
    const FloatEnvironment environment;
    // Makes what the C++ runtime keeps per thread: glibc ends a process that has no memory for it at the first throw.
    [[maybe_unused]] const volatile int exceptions = std::uncaught_exceptions();
    for (;;) {
      state_.await(State::kPosted, spins_);
      if (!state_.exchange(State::kPosted, State::kTaken)) continue;
      job_->drain(number_);
      state_.set(State::kDone);
    }
  }

  WatchedState state_{State::kClaimed};
  Job* job_ = nullptr;
  int number_ = 0;
  const bool spins_;
};

// ---- the pool ---------------------------------------------------------------------------------------------

/// Grows to what one call asks for, so that many calls at once share its threads rather than crowd the processors.
class Pool {
 public:
  explicit Pool(Pool* before) : before(before) {}

  Pool* const before;  // a parent process's, whose threads are not here: kept, as its locks may be held for ever

  bool is_ours() const noexcept { return process_.load(std::memory_order_relaxed) == getpid(); }
  void disown() noexcept { process_.store(0, std::memory_order_relaxed); }

  /// A list of at most `helpers` workers, free ones first.
  Worker* claim(int helpers) noexcept {
    Worker* crew = nullptr;
    int claimed = 0;
    const auto add = [&](Worker* worker) {
      worker->next = crew;
      crew = worker;
      ++claimed;
    };
    const int size = size_.load(std::memory_order_acquire);
    for (int i = 0; i < size && claimed < helpers; ++i) {
      if (workers_[static_cast<std::size_t>(i)]->claim()) add(workers_[static_cast<std::size_t>(i)]);
    }
    while (claimed < helpers) {
      Worker* worker = hire(helpers);
      if (worker == nullptr) break;
      add(worker);
    }
    return crew;
  }

 private:
  /// One more worker, claimed; null where there are `limit` or the system has no more.
  Worker* hire(int limit) noexcept {
    const std::unique_lock<std::mutex> lock(hiring_, std::try_to_lock);
    const int size = size_.load(std::memory_order_relaxed);
    if (!lock.owns_lock() || size >= limit) return nullptr;
    Worker* worker = new (std::nothrow) Worker(size + 1 < processors_);
    if (worker == nullptr) return nullptr;
    if (!worker->start()) {
      delete worker;
      return nullptr;
    }
    workers_[static_cast<std::size_t>(size)] = worker;
    size_.store(size + 1, std::memory_order_release);
    return worker;
  }

  std::atomic<pid_t> process_{getpid()};
  const int processors_ = processors();
  std::array<Worker*, kMaxThreads - 1> workers_{};
  std::atomic<int> size_{0};
  std::mutex hiring_;
};

std::atomic<Pool*> current_pool{nullptr};

// The process id tells a child whose fork ran no handlers; the handler tells one in a namespace of equal ids.
// Registered while the library is loaded: a child of a fork during a first call would wait for ever for a function's
// static.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  if (Pool* pool = current_pool.load()) pool->disown();
});

/// Null where there is no memory for one.
Pool* pool() noexcept {
  Pool* pool = current_pool.load();
  if (pool != nullptr && pool->is_ours()) return pool;
  Pool* fresh = new (std::nothrow) Pool(pool);
  if (fresh == nullptr || current_pool.compare_exchange_strong(pool, fresh)) return fresh;
  delete fresh;
  return pool;
}

// ---- how many ---------------------------------------------------------------------------------------------

std::atomic<int> chosen_threads{0};

int read_default_threads() {
  if (const char* text = std::getenv("TOKENDRAW_THREADS")) {
    int threads = 0;
    const char* end = text + std::strlen(text);
    const auto parsed = std::from_chars(text, end, threads);
    if (parsed.ptr != end || threads < 1) {
      throw std::invalid_argument(std::string("TOKENDRAW_THREADS must be an integer >= 1, got ") + text);
    }
    return std::min(threads, kMaxThreads);
  }
  return std::min(processors(), kMaxThreads);
}

}  // namespace

int default_threads() {
  if (const int chosen = chosen_threads.load(std::memory_order_relaxed)) return chosen;
  static const int threads = read_default_threads();
  return threads;
}

void set_default_threads(int threads) noexcept {
  chosen_threads.store(std::min(threads, kMaxThreads), std::memory_order_relaxed);
}

void parallel_for(std::int64_t tasks, int threads, TaskRef work) {
  const auto helpers = static_cast<int>(std::min<std::int64_t>(tasks, std::min(threads, kMaxThreads))) - 1;
  Pool* const workers = helpers > 0 ? pool() : nullptr;
  Worker* crew = workers != nullptr ? workers->claim(helpers) : nullptr;
  if (crew == nullptr) {
    for (std::int64_t task = 0; task < tasks; ++task) work(0, task);
    return;
  }
  Job job(tasks, work);
  int number = 0;
  for (Worker* worker = crew; worker != nullptr; worker = worker->next) worker->post(job, ++number);
  job.drain(0);
  while (crew != nullptr) {
    Worker* worker = crew;
    crew = worker->next;
    worker->finish();
  }
  job.rethrow();
}

}  // namespace tokendraw::cpu
