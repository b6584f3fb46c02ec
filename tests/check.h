// SPDX-License-Identifier: Apache-2.0
// The harness of the C++ tests: named tests, checks that say both values, and random numbers with a fixed seed.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>

namespace tokendraw::test {

/// Counts a check; prints it where it failed (the first few of each test).
void record(bool passed, const char* file, int line, const std::string& message);

struct Registration {
  Registration(const char* name, void (*body)());
};

template <class T>
std::string shown(const T& value) {
  std::ostringstream text;
  text.precision(17);
  text << +value;
  return text.str();
}
inline std::string shown(const std::string& value) { return '"' + value + '"'; }
inline std::string shown(const char* value) { return shown(std::string(value)); }

/// What `call` throws as an `Exception`, or a text that says what else happened.
template <class Exception, class Call>
std::string message_of(Call call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  } catch (...) {
    return "<another exception>";
  }
  return "<no exception>";
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the inputs of the tests, the same on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// In [0, bound).
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(bound));
  }
  /// In [low, high).
  double between(double low, double high) { return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

}  // namespace tokendraw::test

#define TEST(name)                                                                \
  static void name();                                                             \
  static const tokendraw::test::Registration registration_of_##name(#name, name); \
  static void name()

#define CHECK(condition) tokendraw::test::record(static_cast<bool>(condition), __FILE__, __LINE__, #condition)

/// Where the message costs more than the check: `message` is built only for a failure.
#define CHECK_WITH(condition, message)                                                   \
  do {                                                                                   \
    const bool check_passed = static_cast<bool>(condition);                              \
    tokendraw::test::record(check_passed, __FILE__, __LINE__,                            \
                            check_passed ? std::string() : #condition ": " + (message)); \
  } while (false)

#define CHECK_EQUAL(actual, expected)                                                                            \
  do {                                                                                                           \
    const auto& check_actual = (actual);                                                                         \
    const auto& check_expected = (expected);                                                                     \
    CHECK_WITH(check_actual == check_expected,                                                                   \
               tokendraw::test::shown(check_actual) + " rather than " + tokendraw::test::shown(check_expected)); \
  } while (false)
