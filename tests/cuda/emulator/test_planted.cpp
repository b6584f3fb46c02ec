// SPDX-License-Identifier: Apache-2.0
// Every planted bug, run in a process of its own: what does this build of the emulator say about it?
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "check.h"
#include "emulator.h"
#include "planted.cuh"

namespace {

using namespace tokendraw;
using namespace tokendraw::planted;
using cuda::launch;
using cuda::LaunchShape;

constexpr std::uint64_t kSchedules = 24;

LaunchShape shape_of(unsigned grid, unsigned block, unsigned cluster = 1, std::size_t shared = 0) {
  LaunchShape shape;
  shape.grid = grid;
  shape.block = block;
  shape.cluster = cluster;
  shape.shared = shared;
  return shape;
}

unsigned* device_words(std::size_t count, int device = 0) {
  unsigned* words = nullptr;
  cudaSetDevice(device);
  cudaMalloc(&words, 4 * count);
  cudaSetDevice(0);
  const std::vector<unsigned> zeros(count);
  cudaMemcpy(words, zeros.data(), 4 * count, cudaMemcpyHostToDevice);
  return words;
}

unsigned word_at(const unsigned* words, std::size_t i) {
  unsigned word = 0;
  cudaMemcpy(&word, words + i, 4, cudaMemcpyDeviceToHost);
  return word;
}

/// 0, 1, 2, ... on the device.
unsigned* counted(std::size_t count) {
  std::vector<unsigned> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<unsigned>(i);
  unsigned* words = device_words(count);
  cudaMemcpy(words, values.data(), 4 * count, cudaMemcpyHostToDevice);
  return words;
}

/// Launches a kernel with a bug; returns whether the result is what the kernel without the bug gives.
using Run = bool (*)();

/// Runs it under many schedules in a child; returns what the child printed, with its verdict in the last line.
std::string said_about(Run run) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) return "no pipe";
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], 1);
    dup2(pipe_ends[1], 2);
    bool is_wrong = false;
    for (std::uint64_t seed = 0; seed < kSchedules; ++seed) {
      emulated::set_schedule(seed);
      const bool is_right = run();
      cudaDeviceSynchronize();
      const std::string report = emulated::take_report();
      if (!report.empty()) {
        std::printf("%s\n", report.c_str());
        std::fflush(stdout);
        _exit(0);
      }
      is_wrong = is_wrong || !is_right;
    }
    std::printf(is_wrong ? "a wrong result\n" : "nothing\n");
    std::fflush(stdout);
    _exit(0);
  }
  close(pipe_ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(pipe_ends[0], buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(got));
  }
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return text;
}

/// What each build must say, in part. The plain one has no eyes: it sees results, deadlocks and guards.
struct Expected {
  const char* plain;
  const char* checked;
  const char* address;
  const char* thread;
};

const char* expected_here(const Expected& expected) {
#if defined(TOKENDRAW_EMULATOR_CHECKED)
  return expected.checked;
#elif defined(TOKENDRAW_EMULATOR_TSAN)
  return expected.thread;
#elif defined(__SANITIZE_ADDRESS__)
  return expected.address;
#else
  return expected.plain;
#endif
}

void check_caught(Run run, const Expected& expected) {
  const std::string text = said_about(run);
  const std::string wanted = expected_here(expected);
  CHECK_WITH(text.find(wanted) != std::string::npos, "\"" + wanted + "\" is not in what was said:\n" + text);
  if (std::getenv("TOKENDRAW_SHOW") != nullptr) std::printf("%s\n", text.c_str());
}

constexpr const char* kWrong = "a wrong result";
constexpr const char* kNothing = "nothing";
constexpr const char* kRace = "ThreadSanitizer: data race";

// ---- barriers ----

TEST(missing_barrier) {
  check_caught(
      [] {
        unsigned* out = device_words(64);
        launch(planted::missing_barrier, shape_of(1, 64), counted(64), out);
        return word_at(out, 0) == 63 && word_at(out, 63) == 0;
      },
      {kWrong, "uninitialised shared memory", kWrong, kRace});
}

TEST(missing_second_barrier) {
  check_caught(
      [] {
        unsigned* out = device_words(64);
        launch(planted::missing_second_barrier, shape_of(1, 64), counted(64), out);
        return word_at(out, 0) == 0 && word_at(out, 63) == 63;
      },
      {kWrong, "race in shared memory: read of 4 bytes is not ordered after the write by thread (31,0,0)", kWrong,
       kRace});
}

TEST(missing_syncwarp) {
  check_caught(
      [] {
        unsigned* out = device_words(32);
        launch(planted::missing_syncwarp, shape_of(1, 32), counted(32), out);
        return word_at(out, 0) == 31 && word_at(out, 31) == 0;
      },
      {kWrong, "uninitialised shared memory", kWrong, kRace});
}

constexpr const char* kDivergentBarrier = "divergent barrier: thread (";

TEST(divergent_barrier) {
  check_caught(
      [] {
        launch(planted::divergent_barrier, shape_of(1, 64), device_words(64));
        return true;
      },
      {kDivergentBarrier, kDivergentBarrier, kDivergentBarrier, kDivergentBarrier});
}

constexpr const char* kDeadlock = "deadlock: nobody can run\n  16 thread(s), the first is thread (";

TEST(barrier_in_a_branch) {
  check_caught(
      [] {
        launch(planted::barrier_in_a_branch, shape_of(1, 32), device_words(32));
        return true;
      },
      {kDeadlock, kDeadlock, kDeadlock, kDeadlock});
}

constexpr const char* kOnlyPolls = "deadlock: threads only poll";

TEST(waits_for_nobody) {
  check_caught(
      [] {
        launch(planted::waits_for_nobody, shape_of(1, 2), device_words(1));
        return true;
      },
      {kOnlyPolls, kOnlyPolls, kOnlyPolls, kOnlyPolls});
}

// ---- warps ----

/// A bug that the scheduler sees by itself, in every build.
void check_seen_by_all(Run run, const char* message) { check_caught(run, {message, message, message, message}); }

TEST(shuffle_without_all_lanes) {
  check_seen_by_all(
      [] {
        launch(planted::shuffle_without_all_lanes, shape_of(1, 32), device_words(32));
        return true;
      },
      "exit");
}

TEST(shuffle_without_itself) {
  check_seen_by_all(
      [] {
        launch(planted::shuffle_without_itself, shape_of(1, 32), device_words(32));
        return true;
      },
      "mask 0x0000ffff of a shuffle does not name the calling lane");
}

TEST(shuffle_from_a_stranger) {
  check_seen_by_all(
      [] {
        launch(planted::shuffle_from_a_stranger, shape_of(1, 32), device_words(32));
        return true;
      },
      "a shuffle reads lane 16, which its mask 0x0000ffff does not name");
}

TEST(two_masks) {
  check_seen_by_all(
      [] {
        launch(planted::two_masks, shape_of(1, 32), device_words(32));
        return true;
      },
      "exit");
}

TEST(vote_with_a_lane_that_has_gone) {
  check_seen_by_all(
      [] {
        launch(planted::vote_with_a_lane_that_has_gone, shape_of(1, 32), device_words(32));
        return true;
      },
      "exit");
}

// ---- bounds ----

TEST(write_past_shared) {
  check_caught(
      [] {
        launch(planted::write_past_shared, shape_of(1, 32), device_words(32));
        return true;
      },
      {"out of bounds: something was written 0 bytes past the end of a shared variable",
       "out of bounds: write of 4 bytes, outside of the variables in shared memory", "index 32 out of bounds",
       "out of bounds: something was written 0 bytes past the end of a shared variable"});
}

TEST(read_past_dynamic) {
  check_caught(
      [] {
        unsigned* out = device_words(32);
        launch(planted::read_past_dynamic, shape_of(1, 32, 1, 128), out, 1);
        return word_at(out, 31) < 32;
      },
      {kWrong, "out of bounds: read of 4 bytes, 0 bytes from the end of the dynamic shared memory (128 bytes)",
       "use-after-poison", kWrong});
}

TEST(write_past_global) {
  check_caught(
      [] {
        launch(planted::write_past_global, shape_of(1, 32), device_words(32), 1);
        return true;
      },
      {"out of bounds: something was written 0 bytes past the end of allocation",
       "out of bounds: write of 4 bytes, 0 bytes past the end of allocation", "use-after-poison",
       "out of bounds: something was written 0 bytes past the end of allocation"});
}

TEST(read_past_row) {
  check_caught(
      [] {
        unsigned* out = device_words(32);
        const auto* row = reinterpret_cast<const float*>(device_words(1001));
        launch(planted::read_past_row, shape_of(1, 32), row, 1001, out);
        return word_at(out, 26) != 26;
      },
      // of 16 bytes where the compiler copies a float4 as one, of 4 where as four
      {kNothing, "out of bounds: read of", "use-after-poison", kNothing});
}

TEST(misaligned_row) {
  check_caught(
      [] {
        const auto* row = reinterpret_cast<const float*>(device_words(200));
        launch(planted::misaligned_row, shape_of(1, 32), row, device_words(32));
        return true;
      },
      {kNothing, "misaligned: an address that is not a multiple of 16", "misaligned address", kNothing});
}

TEST(misaligned_hint) {
  check_seen_by_all(
      [] {
        const auto* row = reinterpret_cast<const float*>(device_words(200));
        launch(planted::misaligned_hint, shape_of(1, 32), row, device_words(32));
        return true;
      },
      "misaligned: an address that is not a multiple of 16");
}

TEST(uninitialised_shared) {
  check_caught(
      [] {
        unsigned* out = device_words(64);
        launch(planted::uninitialised_shared, shape_of(1, 64), out);
        return word_at(out, 40) != 0x7ff77ff7u;
      },
      {kWrong, "uninitialised shared memory: read of 4 bytes that nobody has written", kWrong, kWrong});
}

TEST(local_memory_of_another) {
  check_caught(
      [] {
        launch(planted::local_memory_of_another, shape_of(1, 32), device_words(32));
        return true;
      },
      {kNothing, "in the local memory of thread", kNothing, kNothing});
}

// ---- whose memory ----

TEST(memory_of_another_device) {
  check_seen_by_all(
      [] {
        launch(planted::copy, shape_of(1, 32), device_words(32, 1), device_words(32));
        return true;
      },
      "wrong device: the kernel runs on device 0, parameter 0 is byte 0 of allocation");
}

TEST(memory_of_another_device_in_a_struct) {
  check_seen_by_all(
      [] {
        launch(planted::copy_struct, shape_of(1, 32), Pointers{device_words(32), device_words(32, 1)});
        return true;
      },
      "wrong device: the kernel runs on device 0, parameter 0 is byte 0 of allocation");
}

TEST(memory_of_the_host) {
  check_seen_by_all(
      [] {
        static unsigned here[32];
        launch(planted::copy, shape_of(1, 32), here, device_words(32));
        return true;
      },
      "not device memory: parameter 0 is memory of the host");
}

TEST(memory_of_the_host_in_a_struct) {
  check_caught(
      [] {
        const std::vector<unsigned> here(32);
        launch(planted::copy_struct, shape_of(1, 32), Pointers{here.data(), device_words(32)});
        cudaDeviceSynchronize();
        return true;
      },
      {kNothing, "not device memory: read of 4 bytes in memory of the host", kNothing, kNothing});
}

TEST(memory_that_was_freed) {
  check_seen_by_all(
      [] {
        unsigned* words = device_words(32);
        cudaFree(words);
        launch(planted::copy, shape_of(1, 32), words, device_words(32));
        return true;
      },
      "use after cudaFree: parameter 0");
}

// ---- between blocks ----

TEST(race_between_blocks) {
  check_caught(
      [] {
        unsigned* out = device_words(1);
        launch(planted::race_between_blocks, shape_of(20, 32), out);
        return word_at(out, 0) == 20;
      },
      {kNothing, "race in global memory", kNothing, kRace});
}

TEST(missing_fence) {
  check_caught(
      [] {
        unsigned* total = device_words(1);
        launch(planted::missing_fence, shape_of(20, 32), device_words(20), device_words(1), total);
        return word_at(total, 0) == 20;
      },
      {kNothing, "race in global memory: read of 4 bytes is not ordered after the write", kNothing, kRace});
}

TEST(fence_too_small) {
  check_caught(
      [] {
        unsigned* total = device_words(1);
        launch(planted::fence_too_small, shape_of(20, 32), device_words(20), device_words(1), total);
        return word_at(total, 0) == 20;
      },
      {kNothing, "race in global memory: read of 4 bytes is not ordered after the write", kNothing, kRace});
}

TEST(missing_cluster_barrier) {
  check_caught(
      [] {
        unsigned* out = device_words(8);
        launch(planted::missing_cluster_barrier, shape_of(8, 32, 4), out);
        return word_at(out, 0) == 1 && word_at(out, 7) == 0;
      },
      {kWrong, "uninitialised shared memory", kWrong, kRace});
}

constexpr const char* kExited = "of the cluster has exited, and its shared memory with it";

TEST(missing_last_cluster_barrier) {
  check_caught(
      [] {
        unsigned* out = device_words(8);
        launch(planted::missing_last_cluster_barrier, shape_of(8, 32, 4), out);
        return word_at(out, 0) == 1 && word_at(out, 7) == 0;
      },
      {kExited, kExited, kExited, kExited});
}

}  // namespace

#if defined(TOKENDRAW_EMULATOR_TSAN)
/// A child stops at its first report.
extern "C" const char* __tsan_default_options() { return "halt_on_error=1"; }
#endif
