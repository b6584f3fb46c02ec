// SPDX-License-Identifier: Apache-2.0
// 128-bit products, sums and choices against schoolbook arithmetic on bits.
#include <array>
#include <cfloat>
#include <cmath>
#include <vector>

#include "check.h"
#include "core/fixed_point.h"

namespace {

using namespace tokendraw;

constexpr Uint128 kAllOnes = ~Uint128{0};

std::string hex(Uint128 value) {
  std::string text;
  for (int shift = 124; shift >= 0; shift -= 4) text += "0123456789abcdef"[static_cast<int>(value >> shift & 15)];
  return text;
}

/// Little-endian 16-bit limbs of a 256-bit product.
std::array<std::uint32_t, 16> schoolbook(Uint128 a, Uint128 b) {
  std::array<std::uint32_t, 16> product{};
  for (std::size_t i = 0; i < 8; ++i) {
    std::uint32_t carry = 0;
    for (std::size_t j = 0; j < 8; ++j) {
      const auto x = static_cast<std::uint32_t>(a >> (16 * i) & 0xffff);
      const auto y = static_cast<std::uint32_t>(b >> (16 * j) & 0xffff);
      const std::uint32_t sum = product[i + j] + x * y + carry;
      product[i + j] = sum & 0xffffu;
      carry = sum >> 16;
    }
    product[i + 8] = carry;
  }
  return product;
}

Uint128 naive_multiply_high(Uint128 a, Uint128 b) {
  const auto product = schoolbook(a, b);
  Uint128 high = 0;
  for (std::size_t limb = 16; limb-- > 8;) high = high << 16 | product[limb];
  return high;
}

/// floor(weight * 2^(kFixedPointBits - exponent)), bit by bit of the weight's value.
Uint128 naive_fixed_point(double weight, int exponent) {
  Uint128 result = 0;
  double left = weight;
  for (int bit = kFixedPointBits + 1; bit >= 0; --bit) {
    const double value = std::ldexp(1.0, bit - kFixedPointBits + exponent);
    result <<= 1;
    if (left >= value) {
      left -= value;
      result |= 1;
    }
  }
  return result;
}

int naive_pick(const std::vector<double>& weights, Uint128 uniform) {
  double largest = 0.0;
  for (const double weight : weights) largest = std::fmax(largest, weight);
  const int exponent = std::ilogb(largest);
  Uint128 total = 0;
  for (const double weight : weights) total += naive_fixed_point(weight, exponent);
  const Uint128 target = naive_multiply_high(uniform, total);
  Uint128 reached = 0;
  for (std::size_t child = 0; child < weights.size(); ++child) {
    reached += naive_fixed_point(weights[child], exponent);
    if (target < reached) return static_cast<int>(child);
  }
  return -1;
}

Uint128 random_128(test::Random& random) { return static_cast<Uint128>(random.bits()) << 64 | random.bits(); }

/// Few bits, many bits, runs of ones: what carries are made of.
Uint128 random_pattern(test::Random& random) {
  const int low = static_cast<int>(random.below(128));
  switch (random.below(4)) {
    case 0: return random_128(random);
    case 1: return random_128(random) >> low;
    case 2: return kAllOnes << low;
    default: return kAllOnes >> low;
  }
}

TEST(multiply_high_is_the_high_half) {
  for (const Uint128 x : {Uint128{0}, Uint128{1}, kAllOnes, kAllOnes >> 64, kAllOnes << 64, Uint128{1} << 127}) {
    for (const Uint128 y : {Uint128{0}, Uint128{1}, kAllOnes, kAllOnes >> 64, kAllOnes << 64, Uint128{1} << 127}) {
      CHECK_WITH(multiply_high(x, y) == naive_multiply_high(x, y), hex(x) + " " + hex(y));
    }
  }
  test::Random random(6);
  for (int i = 0; i < 300'000; ++i) {
    const Uint128 a = random_pattern(random);
    const Uint128 b = random_pattern(random);
    CHECK_WITH(multiply_high(a, b) == naive_multiply_high(a, b), hex(a) + " " + hex(b));
  }
}

TEST(exponent_of_is_the_exponent) {
  for (int e = -1022; e <= 1023; ++e) {
    CHECK_EQUAL(exponent_of(std::ldexp(1.0, e)), e);
    CHECK_EQUAL(exponent_of(std::ldexp(2.0 - DBL_EPSILON, e)), e);
  }
}

TEST(to_fixed_point_is_the_floor) {
  test::Random random(7);
  for (int i = 0; i < 100'000; ++i) {
    const int exponent = static_cast<int>(random.below(400)) - 200;
    const double weight = std::ldexp(random.between(1.0, 2.0), exponent - static_cast<int>(random.below(160)));
    CHECK_WITH(to_fixed_point(weight, exponent) == naive_fixed_point(weight, exponent),
               test::shown(weight) + " " + test::shown(exponent) + " " + hex(to_fixed_point(weight, exponent)));
  }
  CHECK(to_fixed_point(0.0, 0) == 0);
  CHECK(to_fixed_point(1.0, 0) == Uint128{1} << kFixedPointBits);
  CHECK(to_fixed_point(0x1p-90, 0) == 1);
  CHECK(to_fixed_point(0x1.fffffffffffffp-91, 0) == 0);
  CHECK(to_fixed_point(0x1p-1022, 0) == 0);
}

std::vector<double> random_weights(test::Random& random) {
  std::vector<double> weights(static_cast<std::size_t>(1 + random.below(40)));
  const int spread = static_cast<int>(1 + random.below(120));
  for (double& weight : weights) {
    weight = random.below(4) == 0 ? 0.0 : std::ldexp(random.between(1.0, 2.0), -static_cast<int>(random.below(spread)));
  }
  weights[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(weights.size())))] = random.between(0.5, 2.0);
  return weights;
}

TEST(pick_walks_to_the_target) {
  test::Random random(8);
  for (int i = 0; i < 4'000; ++i) {
    const std::vector<double> weights = random_weights(random);
    const int count = static_cast<int>(weights.size());
    for (const Uint128 uniform : {random_128(random), random_pattern(random), Uint128{0}, kAllOnes}) {
      const int child = pick(weights.data(), count, uniform);
      CHECK_EQUAL(child, naive_pick(weights, uniform));
      CHECK(child >= 0 && weights[static_cast<std::size_t>(child)] > 0.0);
    }
  }
}

TEST(fractions_are_cut_below_one) {
  CHECK(fraction_of(0) == 0.0);
  CHECK(fraction_of(1) == 0x1p-128);
  CHECK(fraction_of(Uint128{1} << 127) == 0.5);
  CHECK(fraction_of(kAllOnes) == 1.0 - 0x1p-53);
  CHECK(fraction_of(kAllOnes >> 64) == (1.0 - 0x1p-53) * 0x1p-64);
  CHECK(fraction_of((Uint128{1} << 100) + 1) == 0x1p-28);
  for (int bit = 0; bit < 128; ++bit) {
    const double power = bit < 64 ? static_cast<double>(std::uint64_t{1} << bit) * 0x1p-128
                                  : static_cast<double>(std::uint64_t{1} << (bit - 64)) * 0x1p-64;
    CHECK(fraction_of(Uint128{1} << bit) == power);
  }
}

// The first and the last uniform that fall on each child, by bisection: their number is the child's share of 2^128 to
// within one unit of the total.
TEST(pick_gives_each_child_its_share) {
  const std::vector<double> weights{0.0, 0x1p-50, 0.3, 0.0, 1.0, 0x1.8p-20, 0x1p-80, 0.0};
  const int count = static_cast<int>(weights.size());
  double sum = 0.0;
  for (const double weight : weights) sum += weight;
  Uint128 begin = 0;
  for (int child = 0; child < count; ++child) {
    Uint128 low = begin;
    Uint128 high = kAllOnes;
    while (low < high) {  // the first uniform beyond this child
      const Uint128 middle = low + (high - low) / 2;
      if (pick(weights.data(), count, middle) > child) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    const double share = static_cast<double>(low - begin) * 0x1p-128;
    const double exact = weights[static_cast<std::size_t>(child)] / sum;
    CHECK_WITH(std::fabs(share - exact) <= 1e-9 * exact, test::shown(child) + " " + test::shown(share));
    begin = low;
  }
  CHECK(begin == kAllOnes);
}

}  // namespace
