// SPDX-License-Identifier: Apache-2.0
// The total order and its cutoffs, by brute force over every pair of scores that could be confused.
#include <cmath>
#include <vector>

#include "check.h"
#include "core/continuation.h"
#include "core/order.h"

namespace {

using namespace tokendraw;

std::vector<Candidate> candidates() {
  std::vector<Candidate> all;
  for (const float score :
       {HUGE_VALF, FLT_MAX, 1.0f, 0x1p-149f, 0.0f, -0.0f, -0x1p-149f, -1.0f, -FLT_MAX, -HUGE_VALF}) {
    for (const std::int32_t token : {0, 1, 31, 1024, INT32_MAX}) all.push_back({score, token});
  }
  return all;
}

bool equal(Candidate a, Candidate b) { return a.score == b.score && a.token == b.token; }

std::string shown(Candidate a) { return test::shown(a.score) + "@" + test::shown(a.token); }

TEST(before_is_a_strict_total_order) {
  for (const Candidate a : candidates()) {
    for (const Candidate b : candidates()) {
      CHECK_WITH(before(a, b) + before(b, a) + equal(a, b) == 1, shown(a) + " " + shown(b));
      for (const Candidate c : candidates()) CHECK(!before(a, b) || !before(b, c) || before(a, c));
    }
  }
}

TEST(before_is_by_score_then_token) {
  CHECK(before({1.0f, 9}, {0.0f, 1}));
  CHECK(before({0.0f, 1}, {0.0f, 2}));
  CHECK(before({-0.0f, 1}, {0.0f, 2}));
  CHECK(before({0.0f, 1}, {-0.0f, 2}));
}

TEST(outranks_is_a_strict_total_order_by_priority_beam_logit_and_token) {
  std::vector<Continuation> all;  // from first to last
  for (const double score : {1e300, 1.0 + 0x1p-52, 1.0, 0.0, -DBL_MAX}) {
    for (const std::int32_t parent : {0, 1, 7}) {
      for (const float logit : {2.0f, 1.0f, -0.0f}) {
        for (const std::int32_t token : {0, 5, INT32_MAX}) all.push_back({score, 0.0, logit, parent, token});
      }
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = 0; j < all.size(); ++j) CHECK_EQUAL(outranks(all[i], all[j]), i < j);
  }
  CHECK(outranks({-0.0, 0.0, -0.0f, 0, 1}, {0.0, 0.0, 0.0f, 0, 2}));
  CHECK(outranks({0.0, 0.0, 0.0f, 0, 1}, {-0.0, 0.0, -0.0f, 0, 2}));
}

TEST(cutoffs_keep_a_beginning_of_the_order) {
  for (const Candidate last : candidates()) {
    for (const Candidate x : candidates()) {
      CHECK_EQUAL(keeps(through(last), x.score, x.token), !before(last, x));
      CHECK_EQUAL(keeps(up_to(last), x.score, x.token), before(x, last));
    }
  }
}

TEST(the_tighter_cutoff_keeps_what_both_keep) {
  for (const Candidate a : candidates()) {
    for (const Candidate b : candidates()) {
      const Cutoff both = tighter(through(a), through(b));
      for (const Candidate x : candidates()) {
        CHECK_EQUAL(keeps(both, x.score, x.token),
                    keeps(through(a), x.score, x.token) && keeps(through(b), x.score, x.token));
      }
    }
  }
}

TEST(keep_finite_keeps_every_finite_score) {
  for (const Candidate x : candidates()) CHECK_EQUAL(keeps(kKeepFinite, x.score, x.token), x.score >= -FLT_MAX);
}

}  // namespace
