// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>
#include <string_view>

namespace tokendraw {
namespace {

// Contract: top_p shares that differ from the bound by the rounding of float32 inputs count as reached; the thresholds
// of min_p give way by as much.
constexpr double kTopPTolerance = 0x1p-22;
constexpr double kThresholdFactor = 1.0 - 0x1p-20;

std::string in_row(bool varies, std::int64_t row) { return varies ? " (row " + std::to_string(row) + ")" : ""; }

[[noreturn]] void refuse(const Step& step, const std::string& value, bool varies, std::int64_t row) {
  throw std::invalid_argument(std::string(step.name) + " must be " + std::string(step.rule) + ", got " + value +
                              in_row(varies, row));
}

std::string text_of(double value) { return shown(value); }
std::string text_of(std::int64_t value) { return std::to_string(value); }

/// How much of Philox's key or counter an argument fills.
int bits_of(std::string_view name) { return name == "stream" ? 56 : name == "step" ? 32 : 64; }

template <class T, class Legal>
void check(StepIndex step, const PerRow<T>& values, Legal legal) {
  for (std::int64_t row = 0; row < values.count; ++row) {
    if (!legal(values[row])) refuse(kStepTable[step], text_of(values[row]), values.varies(), row);
  }
}

void check_below(std::string_view name, const PerRow<std::uint64_t>& values) {
  const int bits = bits_of(name);
  for (std::int64_t row = 0; row < values.count; ++row) {
    if (values[row] >> bits == 0) continue;
    throw std::invalid_argument(std::string(name) + " must be " + counter_rule(name) + ", got " +
                                std::to_string(values[row]) + in_row(values.varies(), row));
  }
}

void check_bias_value(float bias, std::int64_t token) {
  if (bias < HUGE_VALF) return;
  throw std::invalid_argument("bias must be finite or -inf, got " + shown(static_cast<double>(bias)) + " (token " +
                              std::to_string(token) + ")");
}

}  // namespace

std::string shown(double value) {
  if (std::isnan(value)) return "nan";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return {text, end.ptr};
}

std::string counter_rule(std::string_view name) { return "in [0, 2^" + std::to_string(bits_of(name)) + ")"; }

void check_params(const FilterParams& params) {
  check(kTemperature, params.temperature, [](double t) { return std::isfinite(t) && t >= 0.0; });
  check(kTopK, params.top_k, [](std::int64_t k) { return k >= 0; });
  check(kTopP, params.top_p, [](double p) { return p > 0.0 && p <= 1.0; });
  check(kMinP, params.min_p, [](double p) { return p >= 0.0 && p <= 1.0; });
}

void check_randomness(const Randomness& randomness) {
  check_below("stream", randomness.stream);
  check_below("step", randomness.step);
}

void check_edits(const Edits& edits, std::int64_t rows, std::int64_t vocab) {
  const std::int64_t bias_rows = edits.bias == nullptr ? 0 : edits.bias_stride == 0 ? 1 : rows;
  for (std::int64_t row = 0; row < bias_rows; ++row) {
    const float* bias = edits.bias + row * edits.bias_stride;
    for (std::int64_t token = 0; token < vocab; ++token) check_bias_value(bias[token], token);
  }
  for (std::int64_t i = 0; i < edits.token_bias_count; ++i) {
    check_bias_value(edits.token_bias[i].bias, edits.token_bias[i].token);
  }
}

void check_scores(const double* scores, std::int64_t rows) {
  for (std::int64_t row = 0; row < rows; ++row) {
    if (scores[row] < HUGE_VAL) continue;
    throw std::invalid_argument("scores must be finite or -inf, got " + shown(scores[row]) + in_row(true, row));
  }
}

RowSteps steps_of(const FilterParams& params, std::int64_t row, std::int64_t vocab) {
  const std::int64_t top_k = params.top_k[row];
  const double top_p = params.top_p[row];
  const double min_p = params.min_p[row];
  RowSteps steps;
  steps.temperature = params.temperature[row];
  steps.top_k = top_k >= vocab ? 0 : top_k;
  // The first token is kept whatever the share; a share above 0 says so without a special case.
  steps.top_p_share = top_p >= 1.0 ? 1.0 : std::max(top_p - kTopPTolerance, 0x1p-1000);
  steps.min_p_ratio = min_p > 0.0 ? std::max(min_p * kThresholdFactor, 0x1p-1000) : 0.0;
  return steps;
}

const char* reason_of(RowStatus status) {
  switch (status) {
    case RowStatus::kNan: return "NaN";
    case RowStatus::kInfinite: return "+inf";
    case RowStatus::kNothingLeft: return "no finite score";
    case RowStatus::kValid: break;
  }
  return "valid";
}

}  // namespace tokendraw
