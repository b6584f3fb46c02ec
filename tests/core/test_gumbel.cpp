// SPDX-License-Identifier: Apache-2.0
// Gumbel noise against long double, its tails, and the noise that is given a maximum.
#include <cmath>
#include <vector>

#include "check.h"
#include "core/gumbel.h"

namespace {

using namespace tokendraw;

long double exact_exponential(std::uint64_t bits) {
  const long double from_above = static_cast<long double>(~bits) + 0.5L;
  return bits > ~bits ? -std::log1p(-from_above / 0x1p64L)
                      : -std::log((static_cast<long double>(bits) + 0.5L) / 0x1p64L);
}

std::vector<std::uint64_t> many_bits() {
  std::vector<std::uint64_t> all{0, 1, 2, UINT64_MAX / 2, UINT64_MAX / 2 + 1, UINT64_MAX - 1, UINT64_MAX};
  test::Random random(3);
  for (int shift = 0; shift < 64; ++shift) {
    for (int i = 0; i < 200; ++i) {
      const std::uint64_t small = random.bits() >> shift;
      all.push_back(small);
      all.push_back(~small);
    }
  }
  return all;
}

TEST(the_exponential_has_full_accuracy_in_both_tails) {
  double largest = 0.0;
  for (const std::uint64_t bits : many_bits()) {
    const long double exact = exact_exponential(bits);
    const long double error = (static_cast<long double>(exponential_of(bits)) - exact) / exact;
    largest = std::fmax(largest, static_cast<double>(std::fabs(error)));
  }
  CHECK_WITH(largest < 4e-15, test::shown(largest));
}

TEST(noise_rises_with_its_bits) {
  CHECK(gumbel_of(0) < gumbel_of(UINT64_MAX / 2));
  CHECK(gumbel_of(UINT64_MAX / 2) < gumbel_of(UINT64_MAX));
  CHECK(std::fabs(gumbel_of(UINT64_MAX) - 65.0 * std::log(2.0)) < 1e-9);
  CHECK(std::fabs(gumbel_of(0) + std::log(65.0 * std::log(2.0))) < 1e-9);
}

TEST(conditioned_noise_keeps_order_and_maximum) {
  test::Random random(5);
  for (int round = 0; round < 20000; ++round) {
    const double largest = random.between(-50.0, 50.0), wanted = random.between(-50.0, 50.0);
    const double apart = std::exp(random.between(-30.0, 4.0));
    const double noisy = largest - apart;
    const double found = conditioned_gumbel(noisy, largest, wanted);
    const long double g = static_cast<long double>(noisy), z = static_cast<long double>(largest);
    const long double direct = -std::log(std::exp(-static_cast<long double>(wanted)) - std::exp(-z) + std::exp(-g));
    CHECK_WITH(found <= wanted, test::shown(found));
    CHECK(found >= conditioned_gumbel(noisy - 0.5, largest, wanted));
    // Where wanted, largest and noisy differ much the direct formula of long double loses what is compared.
    if (std::fabs(wanted - largest) < 10.0 && apart > 1e-6 && apart < 10.0) {
      CHECK_WITH(std::fabs(found - static_cast<double>(direct)) < 1e-7, test::shown(apart));
    }
  }
  CHECK_EQUAL(conditioned_gumbel(3.0, 3.0, -7.0), -7.0);
}

}  // namespace
