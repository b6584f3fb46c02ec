// SPDX-License-Identifier: Apache-2.0
// The GIL, given up while the core works.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace tokendraw::bindings {

/// While it lives, Python runs other threads.
/// Not pybind11's: up to Python 3.13 a daemon thread that asks for the GIL of an interpreter that is gone is ended by
/// unwinding its stack, and a destructor that is unwound through ends the process. Here the thread stays where it is,
/// as Python 3.14 has it, and nothing of its call is destroyed.
class ReleasedGil {
 public:
  ReleasedGil() : thread_(PyEval_SaveThread()) {}
  ~ReleasedGil() {
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
