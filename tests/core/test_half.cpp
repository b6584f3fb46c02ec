// SPDX-License-Identifier: Apache-2.0
// Every float16 and bfloat16, widened, against their definition computed in double; and back.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "check.h"
#include "core/half.h"

namespace {

using namespace tokendraw;

struct Format {
  int exponent_bits;
  int mantissa_bits;
};

/// sign * 2^(e - bias) * (1 + m / 2^bits), or a subnormal, an infinity, NaN.
double value_of(std::uint16_t pattern, Format format) {
  const int exponent = pattern >> format.mantissa_bits & ((1 << format.exponent_bits) - 1);
  const int mantissa = pattern & ((1 << format.mantissa_bits) - 1);
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const double sign = pattern >> 15 != 0 ? -1.0 : 1.0;
  const double fraction = std::ldexp(mantissa, -format.mantissa_bits);
  if (exponent == (1 << format.exponent_bits) - 1) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1.0 + fraction, exponent - bias);
}

bool same(float actual, double expected) {
  if (std::isnan(expected)) return std::isnan(actual);
  return static_cast<double>(actual) == expected && std::signbit(actual) == std::signbit(expected);
}

template <class Half>
void check_every(Format format) {
  for (std::uint32_t pattern = 0; pattern <= 0xffffu; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const float widened = widen(Half{bits});
    CHECK_WITH(same(widened, value_of(bits, format)), "pattern " + test::shown(pattern) + " " + test::shown(widened));
  }
}

TEST(float16_widens_exactly) { check_every<Float16>({5, 10}); }

TEST(bfloat16_widens_exactly) { check_every<Bfloat16>({8, 7}); }

TEST(bfloat16_keeps_the_payload_of_nan) {
  std::uint32_t bits = 0;
  const float widened = widen(Bfloat16{0x7fc1});
  std::memcpy(&bits, &widened, sizeof bits);
  CHECK_EQUAL(bits, 0x7fc10000u);
}

template <class Half>
std::uint16_t narrowed(float x) {
  Half half{0};
  narrow(x, &half);
  return half.bits;
}

/// Every number comes back; what lies between two goes to the nearer, halfway to the even one.
template <class Half>
void check_narrow(std::uint16_t infinity) {
  for (std::uint32_t pattern = 0; pattern <= 0xffffu; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const float value = widen(Half{bits});
    if (std::isnan(value)) {
      CHECK_WITH(std::isnan(widen(Half{narrowed<Half>(value)})), "pattern " + test::shown(pattern));
      continue;
    }
    CHECK_WITH(narrowed<Half>(value) == bits, "pattern " + test::shown(pattern));
    if ((bits & 0x7fffu) + 1u >= infinity) continue;
    const auto next = static_cast<std::uint16_t>(bits + 1u);
    const float middle = value + (widen(Half{next}) - value) / 2.0f;
    if (!std::isnormal(middle) && std::is_same_v<Half, Bfloat16>) continue;  // halves of subnormals are not floats
    const std::string name = "above pattern " + test::shown(pattern);
    CHECK_WITH(narrowed<Half>(middle) == (bits % 2 == 0 ? bits : next), name);
    CHECK_WITH(narrowed<Half>(std::nextafter(middle, value)) == bits, name);
    CHECK_WITH(narrowed<Half>(std::nextafter(middle, widen(Half{next}))) == next, name);
  }
}

TEST(float16_is_narrowed_to_nearest_even) {
  check_narrow<Float16>(0x7c00);
  CHECK_EQUAL(narrowed<Float16>(65519.996f), 0x7bff);
  CHECK_EQUAL(narrowed<Float16>(65520.0f), 0x7c00);
  CHECK_EQUAL(narrowed<Float16>(-1e30f), 0xfc00);
}

TEST(bfloat16_is_narrowed_to_nearest_even) {
  check_narrow<Bfloat16>(0x7f80);
  CHECK_EQUAL(narrowed<Bfloat16>(0x1.fefffep127f), 0x7f7f);
  CHECK_EQUAL(narrowed<Bfloat16>(0x1.ffp127f), 0x7f80);
}

TEST(double_rounds_to_nearest_even) {
  CHECK_EQUAL(widen(1.0 + 0x1p-24), 1.0f);
  CHECK_EQUAL(widen(1.0 + 0x3p-24), 1.0f + 0x1p-22f);
  CHECK_EQUAL(widen(1.0 + 0x1p-24 + 0x1p-50), 1.0f + 0x1p-23f);
  CHECK_EQUAL(widen(0x1p-150), 0.0f);
  CHECK_EQUAL(widen(0x1.000001p-150), 0x1p-149f);
  CHECK_EQUAL(widen(0x1.fffffep127), 0x1.fffffep127f);
  CHECK_EQUAL(widen(0x1.ffffffp127), HUGE_VALF);
  CHECK_EQUAL(widen(-1e300), -HUGE_VALF);
}

}  // namespace
