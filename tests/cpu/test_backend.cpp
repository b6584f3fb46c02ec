// SPDX-License-Identifier: Apache-2.0
// The backend as other threads see it: concurrent calls, no allocation in steady state, any floating-point mode.
#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "check.h"
#include "cpu/backend.h"
#include "cpu/isa.h"

namespace {

thread_local std::int64_t allocations = 0;

void* allocate(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

// This program counts what it allocates. Not inlined: gcc would take free() for the wrong partner of operator new.
#define NOT_INLINED __attribute__((noinline))
NOT_INLINED void* operator new(std::size_t size) { return allocate(size); }
NOT_INLINED void* operator new(std::size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto step = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(step, (size + step - 1) / step * step)) return memory;
  throw std::bad_alloc();
}
NOT_INLINED void operator delete(void* memory) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
NOT_INLINED void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using namespace tokendraw;

/// A batch with rows of every kind of steps, and an invalid one.
class Batch {
 public:
  Batch(std::int64_t rows, std::int64_t vocab, int threads) : logits_(static_cast<std::size_t>(rows * vocab)) {
    test::Random random(13);
    for (float& logit : logits_) logit = static_cast<float>(random.between(-12.0, 6.0));
    logits_[static_cast<std::size_t>(3 * vocab)] = std::nanf("");
    for (std::int64_t row = 0; row < rows; ++row) {
      temperatures_.push_back(row % 5 == 0 ? 0.0 : 0.8);
      top_k_.push_back(row % 3 == 0 ? 50 : row % 3 == 1 ? 0 : 2000);
      top_p_.push_back(row % 2 == 0 ? 0.95 : 1.0);
      min_p_.push_back(row % 4 == 0 ? 0.01 : 0.0);
    }
    request_.logits.data = logits_.data();
    request_.logits.rows = rows;
    request_.logits.vocab = vocab;
    request_.logits.leading_shape = {rows};
    request_.logits.leading_strides = {vocab};
    request_.params.temperature.values = temperatures_.data();
    request_.params.top_k.values = top_k_.data();
    request_.params.top_p.values = top_p_.data();
    request_.params.min_p.values = min_p_.data();
    request_.randomness.seed.value = 17;
    request_.randomness.stream_is_row = true;
    request_.threads = threads;
  }

  const Request& request() const { return request_; }
  std::size_t rows() const { return temperatures_.size(); }

 private:
  std::vector<float> logits_;
  std::vector<double> temperatures_;
  std::vector<std::int64_t> top_k_;
  std::vector<double> top_p_;
  std::vector<double> min_p_;
  Request request_;
};

/// Everything that a draw can be asked for.
struct Drawn {
  explicit Drawn(std::size_t rows)
      : tokens(rows),
        logprobs(rows),
        raw_logprobs(rows),
        ranks(rows),
        kept(rows),
        status(rows),
        best(rows * kBest),
        best_logprobs(rows * kBest) {}

  void draw(const Request& request) {
    DrawOutputs outputs;
    outputs.tokens = tokens.data();
    outputs.logprobs = logprobs.data();
    outputs.raw_logprobs = raw_logprobs.data();
    outputs.ranks = ranks.data();
    outputs.kept = kept.data();
    outputs.top_count = kBest;
    outputs.top_tokens = best.data();
    outputs.top_logprobs = best_logprobs.data();
    cpu::backend().draw(request, outputs, status.data());
  }

  bool operator==(const Drawn& other) const {
    return tokens == other.tokens && same(logprobs, other.logprobs) && same(raw_logprobs, other.raw_logprobs) &&
           ranks == other.ranks && kept == other.kept && status == other.status && best == other.best &&
           same(best_logprobs, other.best_logprobs);
  }

  static bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](float x, float y) { return bit_cast<std::uint32_t>(x) == bit_cast<std::uint32_t>(y); });
  }

  static constexpr std::size_t kBest = 3;
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<float> raw_logprobs;
  std::vector<std::int64_t> ranks;
  std::vector<std::int64_t> kept;
  std::vector<RowStatus> status;
  std::vector<std::int32_t> best;
  std::vector<float> best_logprobs;
};

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

TEST(the_second_call_of_a_size_allocates_nothing) {
  const Batch batch(16, 40000, 1);
  Drawn drawn(batch.rows());
  const std::int64_t before = allocations;
  drawn.draw(batch.request());
  CHECK(allocations > before);
  for (int repeat = 0; repeat < 3; ++repeat) {
    const std::int64_t warm = allocations;
    drawn.draw(batch.request());
    CHECK_EQUAL(allocations - warm, 0);
  }
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
      : logits_(static_cast<std::size_t>(prompts * width * vocab)), scores(static_cast<std::size_t>(prompts * k)) {
    test::Random random(29);
    for (float& logit : logits_) logit = static_cast<float>(random.below(2000)) * 0.01f;
    for (std::int64_t row = 0; row < prompts * width; ++row) {
      beam_scores_.push_back(row / width % 3 == 2 && row % width > 0 ? -HUGE_VAL : random.between(-9.0, 0.0));
    }
    parents.resize(scores.size());
    tokens.resize(scores.size());
    status.resize(beam_scores_.size());
    request_.logits.data = logits_.data();
    request_.logits.rows = prompts * width;
    request_.logits.vocab = vocab;
    request_.logits.leading_shape = {prompts, width};
    request_.logits.leading_strides = {width * vocab, vocab};
    request_.threads = threads;
    beams_ = {prompts, width, beam_scores_.data()};
    outputs_ = {k, scores.data(), parents.data(), tokens.data()};
  }
  BeamStep(const BeamStep&) = delete;
  BeamStep& operator=(const BeamStep&) = delete;

  void run() { cpu::backend().top_continuations(request_, beams_, outputs_, status.data()); }

  bool operator==(const BeamStep& other) const {
    return Drawn::same(scores, other.scores) && parents == other.parents && tokens == other.tokens &&
           status == other.status;
  }

 private:
  std::vector<float> logits_;
  std::vector<double> beam_scores_;
  Request request_;
  Beams beams_;
  ContinuationOutputs outputs_;

 public:
  std::vector<float> scores;
  std::vector<std::int32_t> parents;
  std::vector<std::int32_t> tokens;
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
  const std::int64_t warm = allocations;
  for (int repeat = 0; repeat < 3; ++repeat) step.run();
  CHECK_EQUAL(allocations - warm, 0);
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
