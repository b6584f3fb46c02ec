// SPDX-License-Identifier: Apache-2.0
// The backend as other threads see it: concurrent calls, any floating-point mode.
#include <atomic>
#include <cfenv>
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/backend.h"
#include "cpu/batch.h"
#include "cpu/isa.h"

namespace {

using namespace tokendraw;
using test::Batch;
using test::Drawn;

Drawn draw_of(const Batch& batch) {
  Drawn drawn(batch.rows());
  drawn.draw(batch.request());
  return drawn;
}

TEST(an_invalid_row_is_marked_and_the_others_are_drawn) {
  const Drawn drawn = draw_of(Batch(8, 3000, 1));
  for (std::size_t row = 0; row < 8; ++row) {
    CHECK_EQUAL(drawn.status[row] == RowStatus::kValid, row != 3);
    CHECK_EQUAL(drawn.tokens[row] >= 0, row != 3);
    CHECK_EQUAL(std::isnan(drawn.logprobs[row]), row == 3);
    CHECK_EQUAL(drawn.kept[row] > 0, row != 3);
  }
}

TEST(threads_and_isas_change_nothing) {
  const Drawn alone = draw_of(Batch(24, 60000, 1));
  for (const cpu::Isa& isa : cpu::supported_isas()) {
    cpu::select_isa(isa.name);
    for (const int threads : {1, 2, 3, 8}) {
      CHECK_WITH(draw_of(Batch(24, 60000, threads)) == alone, std::string(isa.name) + " " + test::shown(threads));
    }
  }
}

// Under ThreadSanitizer: eight callers, each of whose calls starts threads of its own, while the ISA in use changes.
TEST(eight_threads_draw_at_once) {
  const Batch batch(12, 50000, 2);
  const Drawn expected = draw_of(batch);
  std::atomic<int> differing{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      Drawn drawn(batch.rows());
      for (int repeat = 0; repeat < 4; ++repeat) {
        const auto& isas = cpu::supported_isas();
        if (caller == 0) cpu::select_isa(isas[static_cast<std::size_t>(repeat) % isas.size()].name);
        drawn.draw(batch.request());
        if (!(drawn == expected)) ++differing;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  cpu::select_isa(cpu::supported_isas().back().name);
  CHECK_EQUAL(differing.load(), 0);
}

TEST(the_callers_rounding_mode_changes_nothing_and_comes_back) {
  const Batch batch(12, 5000, 1);
  const Drawn expected = draw_of(batch);
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::fesetround(mode);
    const Drawn drawn = draw_of(batch);
    const int mode_after = std::fegetround();
    std::fesetround(FE_TONEAREST);
    CHECK_EQUAL(mode_after, mode);
    CHECK(drawn == expected);
  }
}

TEST(a_transform_of_an_invalid_row_is_nan_and_of_others_a_distribution) {
  const Batch batch(6, 2500, 1);
  std::vector<float> probs(6 * 2500);
  std::vector<RowStatus> status(6);
  cpu::backend().transform(batch.request(), Transform::kProbs, probs.data(), status.data());
  for (std::size_t row = 0; row < 6; ++row) {
    double sum = 0.0;
    for (std::size_t i = 0; i < 2500; ++i) sum += static_cast<double>(probs[row * 2500 + i]);
    CHECK_WITH(row == 3 ? std::isnan(sum) : std::fabs(sum - 1.0) < 1e-6, test::shown(row) + " " + test::shown(sum));
  }
}

}  // namespace
