// SPDX-License-Identifier: Apache-2.0
// Rows over threads. Threads live for one call: nothing to hang in a child after fork, nothing to shut down.
#pragma once

#include <cstdint>
#include <functional>

namespace tokendraw::cpu {

/// The environment's TOKENDRAW_THREADS, else the processors this process may use. Read once.
int default_threads();

/// work(worker, row) for every row in [0, rows), on at most `threads` workers; fewer where the system has no more.
/// The caller is worker 0. `work` must not throw for one row what another row would need; the first exception is
/// rethrown after all workers have stopped.
void for_each_row(std::int64_t rows, int threads, const std::function<void(int worker, std::int64_t row)>& work);

}  // namespace tokendraw::cpu
