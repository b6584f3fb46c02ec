// SPDX-License-Identifier: Apache-2.0
// The backend as other threads see it: concurrent calls, any floating-point mode.
#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/allocations.h"
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

/// A step of beams, and what it finds. Every third prompt has fewer live beams.
class BeamStep {
 public:
  BeamStep(std::int64_t prompts, std::int64_t width, std::int64_t vocab, std::int64_t k, int threads)
      : logits_(static_cast<std::size_t>(prompts * width * vocab)), found(static_cast<std::size_t>(prompts * k)) {
    test::Random random(29);
    for (float& logit : logits_) logit = static_cast<float>(random.below(2000)) * 0.01f;
    for (std::int64_t row = 0; row < prompts * width; ++row) {
      beam_scores_.push_back(row / width % 3 == 2 && row % width > 0 ? -HUGE_VAL : random.between(-9.0, 0.0));
    }
    for (std::int64_t i = 0; i < prompts; ++i) groups_.push_back({i * width, i * width, width, i * k, k});
    status.resize(beam_scores_.size());
    request_.logits.data = logits_.data();
    request_.logits.rows = prompts * width;
    request_.logits.vocab = vocab;
    request_.logits.leading_shape = {prompts, width};
    request_.logits.leading_strides = {width * vocab, vocab};
    request_.threads = threads;
    beams_.groups = groups_.data();
    beams_.count = prompts;
    beams_.scores = beam_scores_.data();
  }
  BeamStep(const BeamStep&) = delete;
  BeamStep& operator=(const BeamStep&) = delete;

  void run() { cpu::backend().top_continuations(request_, beams_, found.data(), status.data()); }

  bool operator==(const BeamStep& other) const {
    const auto same = [](const Continuation& a, const Continuation& b) {
      return a.score == b.score && a.parent == b.parent && a.token == b.token;
    };
    return std::equal(found.begin(), found.end(), other.found.begin(), other.found.end(), same) &&
           status == other.status;
  }

 private:
  std::vector<float> logits_;
  std::vector<double> beam_scores_;
  Request request_;
  Beams beams_;
  std::vector<BeamGroup> groups_;

 public:
  std::vector<Continuation> found;
  std::vector<RowStatus> status;
};

TEST(threads_and_isas_change_no_beam) {
  for (const std::int64_t prompts : {1, 2, 5}) {
    BeamStep alone(prompts, 7, 90000, 40, 1);
    alone.run();
    for (const cpu::Isa& isa : cpu::supported_isas()) {
      cpu::select_isa(isa.name);
      for (const int threads : {1, 2, 3, 8}) {
        BeamStep step(prompts, 7, 90000, 40, threads);
        step.run();
        CHECK_WITH(step == alone, std::string(isa.name) + " " + test::shown(prompts) + " " + test::shown(threads));
      }
    }
  }
}

TEST(beams_are_the_same_in_any_rounding_mode) {
  for (const int threads : {1, 3}) {
    BeamStep expected(1, 4, 200000, 30, threads);
    expected.run();
    for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
      BeamStep step(1, 4, 200000, 30, threads);
      std::fesetround(mode);
      step.run();
      const int mode_after = std::fegetround();
      std::fesetround(FE_TONEAREST);
      CHECK_EQUAL(mode_after, mode);
      CHECK(step == expected);
    }
  }
}

TEST(the_second_beam_step_of_a_size_allocates_nothing) {
  BeamStep step(3, 5, 40000, 600, 1);
  step.run();
  const std::int64_t warm = test::allocations_so_far();
  for (int repeat = 0; repeat < 3; ++repeat) step.run();
  CHECK_EQUAL(test::allocations_so_far() - warm, 0);
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
