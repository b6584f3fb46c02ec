// SPDX-License-Identifier: Apache-2.0
// What is legal, word by word of every message, and what the tolerances of the contract make of a legal value.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cfloat>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "plan/entropy.h"
#include "plan/plan.h"

namespace {

using namespace tokendraw;

FilterParams params_of(double temperature, std::int64_t top_k, double top_p, double min_p) {
  FilterParams params;
  params.temperature.value = temperature;
  params.top_k.value = top_k;
  params.top_p.value = top_p;
  params.min_p.value = min_p;
  return params;
}

std::string refusal(const FilterParams& params) {
  return test::message_of<std::invalid_argument>([&] { check_params(params); });
}

std::string refusal(const Randomness& randomness) {
  return test::message_of<std::invalid_argument>([&] { check_randomness(randomness); });
}

std::string refusal(const Edits& edits, std::int64_t rows, std::int64_t vocab) {
  return test::message_of<std::invalid_argument>([&] { check_edits(edits, rows, vocab); });
}

std::string refusal(const PenaltyParams& penalties) {
  return test::message_of<std::invalid_argument>([&] { check_penalties(penalties); });
}

const std::string kAccepted = "<no exception>";
constexpr RandomSource kSource{0, 0, 0};

TEST(parameters_out_of_range_are_refused_by_rule_and_value) {
  const auto temperature = [](double value) { return refusal(params_of(value, 0, 1.0, 0.0)); };
  CHECK_EQUAL(temperature(-0.5), "temperature must be finite and >= 0, got -0.5");
  CHECK_EQUAL(temperature(HUGE_VAL), "temperature must be finite and >= 0, got inf");
  CHECK_EQUAL(temperature(std::nan("")), "temperature must be finite and >= 0, got nan");
  const auto top_k = [](std::int64_t value) { return refusal(params_of(1.0, value, 1.0, 0.0)); };
  CHECK_EQUAL(top_k(-1), "top_k must be >= 0, got -1");
  const auto top_p = [](double value) { return refusal(params_of(1.0, 0, value, 0.0)); };
  CHECK_EQUAL(top_p(0.0), "top_p must be in (0, 1], got 0");
  CHECK_EQUAL(top_p(1.5), "top_p must be in (0, 1], got 1.5");
  CHECK_EQUAL(top_p(-std::nan("")), "top_p must be in (0, 1], got nan");
  const auto min_p = [](double value) { return refusal(params_of(1.0, 0, 1.0, value)); };
  CHECK_EQUAL(min_p(-0.1), "min_p must be in [0, 1], got -0.1");
  CHECK_EQUAL(min_p(1.0000001), "min_p must be in [0, 1], got 1.0000001");
}

TEST(parameters_at_their_bounds_are_accepted) {
  for (const double temperature : {0.0, -0.0, DBL_TRUE_MIN, DBL_MAX}) {
    CHECK_EQUAL(refusal(params_of(temperature, 0, 1.0, 0.0)), kAccepted);
  }
  for (const double share : {DBL_TRUE_MIN, 1.0}) {
    CHECK_EQUAL(refusal(params_of(1.0, INT64_MAX, share, share)), kAccepted);
  }
}

TEST(scores_of_beams_are_finite_or_minus_infinity) {
  const auto refused = [](std::vector<double> scores) {
    return test::message_of<std::invalid_argument>(
        [&] { check_scores(scores.data(), static_cast<std::int64_t>(scores.size())); });
  };
  CHECK_EQUAL(refused({0.0, -HUGE_VAL, DBL_MAX, -DBL_MAX}), kAccepted);
  CHECK_EQUAL(refused({}), kAccepted);
  CHECK_EQUAL(refused({0.0, std::nan("")}), "scores must be finite or -inf, got nan (row 1)");
  CHECK_EQUAL(refused({HUGE_VAL}), "scores must be finite or -inf, got inf (row 0)");
}

TEST(the_row_of_a_bad_value_is_named) {
  const std::array<double, 4> shares{0.5, 1.0, 0.1, 2.0};
  FilterParams params;
  params.top_p.values = shares.data();
  params.top_p.count = 4;
  CHECK_EQUAL(refusal(params), "top_p must be in (0, 1], got 2 (row 3)");
  params.top_p.count = 3;
  CHECK_EQUAL(refusal(params), kAccepted);
  params.top_p.count = 0;
  CHECK_EQUAL(refusal(params), kAccepted);
}

TEST(the_counter_of_a_draw_has_room_for_its_stream_and_step) {
  Randomness randomness;
  randomness.stream.value = (std::uint64_t{1} << 56) - 1;
  randomness.step.value = 0xffffffffu;
  CHECK_EQUAL(refusal(randomness), kAccepted);
  randomness.step.value = std::uint64_t{1} << 32;
  CHECK_EQUAL(refusal(randomness), "step must be in [0, 2^32), got 4294967296");
  const std::array<std::uint64_t, 2> streams{0, std::uint64_t{1} << 56};
  randomness.stream.values = streams.data();
  randomness.stream.count = 2;
  CHECK_EQUAL(refusal(randomness), "stream must be in [0, 2^56), got 72057594037927936 (row 1)");
}

TEST(a_stream_that_nobody_gave_is_the_row) {
  Randomness randomness;
  randomness.seed.value = 5;
  randomness.stream_is_row = true;
  CHECK_EQUAL(randomness.row(9).stream, 9u);
  randomness.stream_is_row = false;
  CHECK_EQUAL(randomness.row(9).stream, 0u);
}

TEST(a_bias_is_finite_or_minus_infinity) {
  std::vector<float> bias{0.0f, -HUGE_VALF, FLT_MAX, 1.0f, 2.0f, 3.0f};
  Edits edits;
  edits.bias = bias.data();
  edits.bias_stride = 3;
  CHECK_EQUAL(refusal(edits, 2, 3), kAccepted);
  bias[5] = HUGE_VALF;
  CHECK_EQUAL(refusal(edits, 2, 3), "bias must be finite or -inf, got inf (token 2)");
  CHECK_EQUAL(refusal(edits, 1, 3), kAccepted);
  bias[1] = std::nanf("");
  edits.bias_stride = 0;
  CHECK_EQUAL(refusal(edits, 2, 3), "bias must be finite or -inf, got nan (token 1)");
  const TokenBias token_bias{77, HUGE_VALF};
  Edits sparse;
  sparse.token_bias = &token_bias;
  sparse.token_bias_count = 1;
  CHECK_EQUAL(refusal(sparse, 2, 100), "bias must be finite or -inf, got inf (token 77)");
}

TEST(steps_have_the_tolerances_of_the_contract) {
  const auto steps = [](double top_p, double min_p, std::int64_t top_k = 0) {
    return steps_of(params_of(0.7, top_k, top_p, min_p), kSource, 0, 100);
  };
  CHECK_EQUAL(steps(0.5, 0.25).temperature, 0.7);
  CHECK_EQUAL(steps(0.5, 0.25).top_p_share, 0.5 - 0x1p-22);
  CHECK_EQUAL(steps(0.5, 0.25).min_p_ratio, 0.25 * (1.0 - 0x1p-20));
  CHECK_EQUAL(steps(1.0, 0.0).top_p_share, 1.0);
  CHECK_EQUAL(steps(1.0, 0.0).min_p_ratio, 0.0);
  CHECK(steps(1e-9, 0.0).top_p_share > 0.0);
  CHECK(steps(1.0, DBL_TRUE_MIN).min_p_ratio > 0.0);
}

TEST(top_k_of_the_whole_vocabulary_is_off) {
  const auto top_k = [](std::int64_t k) { return steps_of(params_of(1.0, k, 1.0, 0.0), kSource, 0, 100).top_k; };
  CHECK_EQUAL(top_k(0), 0);
  CHECK_EQUAL(top_k(99), 99);
  CHECK_EQUAL(top_k(100), 0);
  CHECK_EQUAL(top_k(INT64_MAX), 0);
}

TEST(steps_are_those_of_the_row) {
  const std::array<double, 2> temperatures{0.0, 2.0};
  FilterParams params;
  params.temperature.values = temperatures.data();
  CHECK_EQUAL(steps_of(params, kSource, 0, 10).temperature, 0.0);
  CHECK_EQUAL(steps_of(params, kSource, 1, 10).temperature, 2.0);
}

TEST(only_steps_that_can_change_something_are_ordered) {
  FilterParams params;
  CHECK_EQUAL(steps_of(params, kSource, 0, 10).order.count, 0);
  params.min_p.value = 0.1;
  params.temperature.value = 0.5;
  params.eta_cutoff.value = 0.01;
  const StepOrder order = steps_of(params, kSource, 0, 10).order;
  const std::vector<Step> expected{Step::kTemperature, Step::kMinP, Step::kEta};
  CHECK(std::vector<Step>(order.begin(), order.end()) == expected);
}

TEST(xtc_acts_as_often_as_it_says) {
  FilterParams params;
  params.xtc_probability.value = 0.25;
  int acted = 0;
  for (std::uint32_t step = 0; step < 4000; ++step) acted += steps_of(params, {7, 3, step}, 0, 10).order.count;
  CHECK(acted > 880 && acted < 1120);  // 4.4 standard deviations
  params.xtc_probability.value = 1.0;
  CHECK_EQUAL(steps_of(params, kSource, 0, 10).order.count, 1);
}

TEST(an_order_of_steps_is_spelled_by_names) {
  const auto order = [](const std::vector<std::string>& names) {
    const StepOrder steps = parse_steps(names);
    return std::vector<Step>(steps.begin(), steps.end());
  };
  CHECK((order({"mask", "penalties", "min_p", "temperature"}) == std::vector<Step>{Step::kMinP, Step::kTemperature}));
  CHECK((order({"top_k_top_p"}) == std::vector<Step>{Step::kTopKTopP}));
  CHECK(order({}).empty());
  const auto refused = [](const std::vector<std::string>& names) {
    return test::message_of<std::invalid_argument>([&] { parse_steps(names); });
  };
  CHECK_EQUAL(refused({"top_q"}), "steps must be names of steps, got 'top_q'");
  CHECK_EQUAL(refused({"top_k", "top_k"}), "steps must be distinct, got top_k twice");
  CHECK_EQUAL(refused({"top_k", "mask"}), "steps must begin with mask, bias, penalties in this order, got mask later");
  CHECK_EQUAL(refused({"bias", "mask"}), "steps must begin with mask, bias, penalties in this order, got mask later");
  CHECK_EQUAL(refused({"top_k_top_p", "top_p"}), "steps must have either top_k_top_p or top_k and top_p, got both");
}

TEST(a_step_that_is_used_must_be_ordered) {
  FilterParams params;
  params.top_p.value = 0.5;
  params.steps = parse_steps({"temperature", "top_k"});
  CHECK_EQUAL(refusal(params), "steps must name every step that is used, got no top_p");
  params.steps = parse_steps({"top_k_top_p"});
  CHECK_EQUAL(refusal(params), kAccepted);
}

TEST(penalties_out_of_range_are_refused_by_rule_and_value) {
  PenaltyParams penalties;
  CHECK_EQUAL(refusal(penalties), kAccepted);
  penalties.repetition.value = 0.0;
  CHECK_EQUAL(refusal(penalties), "repetition_penalty must be finite and > 0, got 0");
  penalties = {};
  penalties.dry_base.value = 0.5;
  CHECK_EQUAL(refusal(penalties), "dry_base must be finite and >= 1, got 0.5");
  penalties = {};
  penalties.min_tokens.value = 3;
  CHECK_EQUAL(refusal(penalties), "eos_token_id must be given where min_tokens is above 0, got None");
  penalties.eos_tokens = {2};
  CHECK_EQUAL(refusal(penalties), kAccepted);
}

TEST(a_target_is_a_token_or_ignored) {
  const auto refused = [](const Targets& targets) {
    return test::message_of<std::invalid_argument>([&] { check_targets(targets, 2, 10); });
  };
  const std::array<std::int64_t, 2> tokens{-100, 9};
  const std::array<std::int64_t, 2> past{0, 10};
  Targets targets;
  targets.tokens = {0, tokens.data(), 2};
  CHECK_EQUAL(refused(targets), kAccepted);
  targets.ignore_index = -1;
  CHECK_EQUAL(refused(targets), "tokens must be in [0, 10) or ignore_index, -1, got -100 (row 0)");
  targets.ignore_index = -100;
  targets.tokens.values = past.data();
  CHECK_EQUAL(refused(targets), "tokens must be in [0, 10) or ignore_index, -100, got 10 (row 1)");
  targets.tokens = {0};
  targets.label_smoothing = -0.1;
  CHECK_EQUAL(refused(targets), "label_smoothing must be in [0, 1], got -0.1");
  targets.label_smoothing = 1.0;
  targets.gradient_scale = {HUGE_VAL};
  CHECK_EQUAL(refused(targets), "scale must be finite, got inf");
  FilterParams params;
  params.temperature.value = 0.0;
  const std::string zero = test::message_of<std::invalid_argument>([&] { check_positive_temperature(params); });
  CHECK_EQUAL(zero, "temperature must be finite and > 0, got 0");
}

TEST(a_gradient_is_in_the_logits_memory_or_apart_from_it) {
  std::vector<float> memory(60);
  Logits logits;
  logits.data = memory.data() + 10;
  logits.rows = 3;
  logits.vocab = 5;
  logits.leading_shape = {3};
  logits.leading_strides = {10};
  const auto refused = [&](std::int64_t offset, std::int64_t stride, Dtype dtype = Dtype::kFloat32) {
    const OutputRows gradient{memory.data() + offset, dtype, {3}, {stride}};
    return test::message_of<std::invalid_argument>([&] { check_gradient(logits, gradient); });
  };
  for (const std::int64_t place : {10, 15, 5, 45}) CHECK_EQUAL(refused(place, place == 45 ? 5 : 10), kAccepted);
  const std::string rule = "out must be the memory of logits or share none of it, got ";
  CHECK_EQUAL(refused(12, 10), rule + "row 0 of out in row 0 of logits");
  CHECK_EQUAL(refused(20, 10), rule + "row 0 of out in row 1 of logits");
  CHECK_EQUAL(refused(6, 10), rule + "row 0 of out in row 0 of logits");
  CHECK_EQUAL(refused(30, -10), rule + "row 2 of out in row 0 of logits");
  CHECK_EQUAL(refused(10, 10, Dtype::kFloat64), rule + "row 0 of out in row 0 of logits");
}

TEST(every_reason_has_its_words) {
  CHECK_EQUAL(std::string(reason_of(RowStatus::kNan)), "NaN");
  CHECK_EQUAL(std::string(reason_of(RowStatus::kInfinite)), "+inf");
  CHECK_EQUAL(std::string(reason_of(RowStatus::kNothingLeft)), "no finite score");
}

TEST(a_number_is_shown_by_the_shortest_text_that_reads_back) {
  CHECK_EQUAL(shown(1.5), "1.5");
  CHECK_EQUAL(shown(0.1), "0.1");
  CHECK_EQUAL(shown(-0.0), "-0");
  CHECK_EQUAL(shown(1e300), "1e+300");
  CHECK_EQUAL(shown(-HUGE_VAL), "-inf");
  test::Random random(12);
  for (int i = 0; i < 10'000; ++i) {
    const double value = std::ldexp(random.between(-1.0, 1.0), static_cast<int>(random.below(600)) - 300);
    CHECK_EQUAL(std::stod(shown(value)), value);
  }
}

TEST(rows_are_found_at_any_leading_strides) {
  const std::array<float, 64> data{};
  Logits logits;
  logits.data = data.data() + 32;
  logits.rows = 6;
  logits.vocab = 2;
  logits.leading_shape = {2, 3};
  logits.leading_strides = {-16, 0};
  const auto offset = [&](std::int64_t row) { return static_cast<const float*>(logits.row(row)) - data.data(); };
  CHECK_EQUAL(offset(0), 32);
  CHECK_EQUAL(offset(2), 32);
  CHECK_EQUAL(offset(3), 16);
  CHECK_EQUAL(offset(5), 16);
  logits.leading_strides = {6, 2};
  for (std::int64_t row = 0; row < 6; ++row) CHECK_EQUAL(offset(row), 32 + 2 * row);
}

TEST(seeds_count_on) {
  const std::uint64_t first = next_seed();
  CHECK_EQUAL(next_seed(), first + 1);
  CHECK_EQUAL(next_seed(), first + 2);
}

TEST(a_forked_child_takes_its_own_seeds) {
  const std::uint64_t before = next_seed();
  std::array<int, 2> pipe_ends{};
  CHECK_EQUAL(pipe(pipe_ends.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    const std::uint64_t seed = next_seed();
    _exit(write(pipe_ends[1], &seed, sizeof seed) == sizeof seed ? 0 : 1);
  }
  std::uint64_t seed = 0;
  CHECK_EQUAL(read(pipe_ends[0], &seed, sizeof seed), static_cast<ssize_t>(sizeof seed));
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQUAL(status, 0);
  CHECK(seed - before > 1'000'000u);
  CHECK_EQUAL(next_seed(), before + 1);
}

}  // namespace
