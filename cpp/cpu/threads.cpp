// SPDX-License-Identifier: Apache-2.0
#include "cpu/threads.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace tokendraw::cpu {
namespace {

class RowQueue {
 public:
  RowQueue(std::int64_t rows, const std::function<void(int, std::int64_t)>& work) : rows_(rows), work_(work) {}

  void drain(int worker) noexcept {
    try {
      for (std::int64_t row = next_++; row < rows_; row = next_++) work_(worker, row);
    } catch (...) {
      next_ = rows_;
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const std::int64_t rows_;
  const std::function<void(int, std::int64_t)>& work_;
  std::atomic<std::int64_t> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

int read_default_threads() {
  if (const char* text = std::getenv("TOKENDRAW_THREADS")) {
    int threads = 0;
    const char* end = text + std::strlen(text);
    const auto parsed = std::from_chars(text, end, threads);
    if (parsed.ptr != end || threads < 1) {
      throw std::invalid_argument(std::string("TOKENDRAW_THREADS must be an integer >= 1, got ") + text);
    }
    return threads;
  }
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

int default_threads() {
  static const int threads = read_default_threads();
  return threads;
}

void for_each_row(std::int64_t rows, int threads, const std::function<void(int, std::int64_t)>& work) {
  RowQueue queue(rows, work);
  const auto helpers = static_cast<int>(std::min<std::int64_t>(threads, rows)) - 1;
  std::vector<std::thread> pool;
  pool.reserve(static_cast<std::size_t>(std::max(helpers, 0)));
  try {
    for (int worker = 1; worker <= helpers; ++worker) pool.emplace_back([&queue, worker] { queue.drain(worker); });
  } catch (const std::system_error&) {
    // No more threads to be had: those that started, and the caller, do the work.
  }
  queue.drain(0);
  for (std::thread& thread : pool) thread.join();
  queue.rethrow();
}

}  // namespace tokendraw::cpu
