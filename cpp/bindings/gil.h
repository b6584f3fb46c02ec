// SPDX-License-Identifier: Apache-2.0
// The GIL, given up while the core works.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <cstdint>

namespace tokendraw::bindings {

/// Elements of logits from which on a call lets others run: a few microseconds of work. The exchange itself costs a
/// tenth of one where nobody waits, and where somebody does up to Python's switch interval.
inline constexpr std::int64_t kElementsWorthReleasing = 1 << 14;

/// While it lives, Python runs other threads, where that is `worth_it`.
/// Not pybind11's: up to Python 3.13 a daemon thread that asks for the GIL of an interpreter that is gone is ended by
/// unwinding its stack, and a destructor that is unwound through ends the process. Here the thread stays where it is,
/// as Python 3.14 has it, and nothing of its call is destroyed.
class ReleasedGil {
 public:
  explicit ReleasedGil(bool worth_it = true) : thread_(worth_it ? PyEval_SaveThread() : nullptr) {}
  ~ReleasedGil() {
    if (thread_ == nullptr) return;
    try {
      PyEval_RestoreThread(thread_);
    } catch (...) {
      for (;;) pause();
    }
  }
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;

 private:
  PyThreadState* thread_;
};

}  // namespace tokendraw::bindings
