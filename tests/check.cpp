// SPDX-License-Identifier: Apache-2.0
// Runs the tests whose names contain an argument, or all of them. A test without a check is a failure.
#include "check.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

namespace tokendraw::test {
namespace {

constexpr std::int64_t kMessagesPerTest = 8;

struct Test {
  const char* name;
  void (*body)();
};

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

std::atomic<std::int64_t> checks{0};
std::atomic<std::int64_t> failures{0};

bool is_asked_for(const char* name, int count, char** arguments) {
  for (int i = 1; i < count; ++i) {
    if (std::strstr(name, arguments[i]) != nullptr) return true;
  }
  return count <= 1;
}

bool run(const Test& test) {
  checks = 0;
  failures = 0;
  const auto start = std::chrono::steady_clock::now();
  try {
    test.body();
  } catch (const std::exception& error) {
    record(false, test.name, 0, std::string("threw ") + error.what());
  }
  if (checks == 0) record(false, test.name, 0, "no check was made");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%s %s: %lld checks, %lld failures, %.2f s\n", failures == 0 ? "ok  " : "FAIL", test.name,
              static_cast<long long>(checks), static_cast<long long>(failures), seconds.count());
  std::fflush(stdout);
  return failures == 0;
}

}  // namespace

void record(bool passed, const char* file, int line, const std::string& message) {
  checks.fetch_add(1, std::memory_order_relaxed);
  if (passed) return;
  if (failures.fetch_add(1) < kMessagesPerTest) std::printf("%s:%d: %s\n", file, line, message.c_str());
}

Registration::Registration(const char* name, void (*body)()) { tests().push_back({name, body}); }

}  // namespace tokendraw::test

int main(int count, char** arguments) {
  using namespace tokendraw::test;
  int ran = 0;
  int failed = 0;
  for (const Test& test : tests()) {
    if (!is_asked_for(test.name, count, arguments)) continue;
    ++ran;
    failed += run(test) ? 0 : 1;
  }
  if (ran == 0) std::printf("no test has such a name\n");
  return ran == 0 || failed > 0 ? 1 : 0;
}
