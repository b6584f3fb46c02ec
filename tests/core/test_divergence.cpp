// SPDX-License-Identifier: Apache-2.0
// The terms of divergences, against their definition in long double: the relative error of each, however near p and q.
#include <cmath>

#include "check.h"
#include "core/divergence.h"

namespace {

using namespace tokendraw;

constexpr double kLargest = 1e-8;  // of a term, where p, q and e agree

double relative(double actual, long double exact) {
  return static_cast<double>(std::fabs(static_cast<long double>(actual) / exact - 1.0L));
}

/// exp(-e) - 1 + e without cancellation: the logarithms' own series where long double would lose half of it.
long double kl_factor(long double e) {
  if (std::fabs(e) > 1e-3L) return std::expm1(-e) + e;
  return e * e * (0.5L - e * (1.0L / 6.0L - e * (1.0L / 24.0L - e * (1.0L / 120.0L - e / 720.0L))));
}

/// (1 + t) ln(1 + t) + (1 - t) ln(1 - t), likewise.
long double js_factor(long double t) {
  const long double t2 = t * t;
  if (t < 1e-3L) return t2 * (1.0L + t2 * (1.0L / 6.0L + t2 * (1.0L / 15.0L + t2 / 28.0L)));
  return (1.0L + t) * std::log1p(t) + (1.0L - t) * std::log1p(-t);
}

/// Distances of every size: to the smallest differences of float32 logits and to where one of the two is nothing.
template <class Check>
void for_each_distance(Check check) {
  test::Random random(5);
  for (int i = 0; i < 200'000; ++i) {
    const double size = std::exp2(random.between(-40.0, 6.0));
    check(random.below(2) == 0 ? size : -size, random.between(1e-6, 0.5));
  }
  for (const double e : {0.999999, 1.0, -1.0, 1.000001, 0.61903, 0.61904}) check(e, 0.25);
}

TEST(terms_of_kl_keep_their_relative_accuracy) {
  double largest = 0.0;
  for_each_distance([&](double e, double p) {
    const auto q = static_cast<double>(static_cast<long double>(p) * std::exp(-static_cast<long double>(e)));
    const KlTerms<double> terms = kl_terms(p, q, e);
    CHECK_EQUAL(terms.first, p * e);
    CHECK(terms.second >= 0.0);
    largest = std::fmax(largest, relative(terms.second, static_cast<long double>(p) * kl_factor(e)));
  });
  CHECK_WITH(largest < kLargest, test::shown(largest));
}

TEST(terms_of_js_keep_their_relative_accuracy) {
  double largest = 0.0;
  for_each_distance([&](double e, double p) {
    const auto q = static_cast<double>(static_cast<long double>(p) * std::exp(-static_cast<long double>(e)));
    const long double t = std::tanh(std::fabs(static_cast<long double>(e)) / 2.0L);
    const long double exact = (static_cast<long double>(p) + static_cast<long double>(q)) / 4.0L * js_factor(t);
    if (t < 1.0L) largest = std::fmax(largest, relative(js_term(p, q, e), exact));
    CHECK_EQUAL(js_term(p, q, e), js_term(q, p, -e));
  });
  CHECK_WITH(largest < kLargest, test::shown(largest));
}

TEST(tokens_of_one_row_alone) {
  for (const double e : {0.0, 0.5, -0.5, 1e38, -1e38}) {
    CHECK_EQUAL(kl_terms(0.0, 0.25, e).second, 0.25);
    CHECK_EQUAL(kl_terms(0.0, 0.0, e).second, 0.0);
    CHECK_EQUAL(js_term(0.0, 0.0, e), 0.0);
    for (const double whole : {js_term(0.5, 0.0, e), js_term(0.0, 0.5, e)}) {
      CHECK_WITH(relative(whole, 0.25L * std::log(2.0L)) < kLargest, test::shown(whole));
    }
  }
}

}  // namespace
