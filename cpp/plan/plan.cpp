// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "plan/thresholds.h"

namespace tokendraw {
namespace {

/// An event of the given probability, exactly: the first 64 bits of its block are below probability * 2^64.
bool xtc_falls(const RandomSource& source, double probability) {
  const double bound = probability * 0x1p64;
  if (bound >= 0x1p64) return true;
  const auto coin = static_cast<std::uint64_t>(uniform_bits(source, Purpose::kXtc, 0));
  return coin < static_cast<std::uint64_t>(std::ceil(bound));
}

bool can_change(const RowSteps& steps, Step step, bool xtc_acts) {
  switch (step) {
    case Step::kTemperature: return steps.temperature < 1.0 || steps.temperature > 1.0;
    case Step::kTopK: return steps.top_k > 0;
    case Step::kTopP: return steps.top_p_share < 1.0;
    case Step::kMinP: return steps.min_p_ratio > 0.0;
    case Step::kTypical: return steps.typical_share < 1.0;
    case Step::kEpsilon: return steps.epsilon > 0.0;
    case Step::kEta: return steps.eta > 0.0;
    case Step::kTopNSigma: return steps.top_n_sigma > 0.0;
    case Step::kXtc: return xtc_acts;
    case Step::kTopKTopP: return steps.top_k > 0 || steps.top_p_share < 1.0;
  }
  return false;
}

std::string in_row(bool varies, std::int64_t row) { return varies ? " (row " + std::to_string(row) + ")" : ""; }

std::string text_of(double value) { return shown(value); }
std::string text_of(std::int64_t value) { return std::to_string(value); }

int bits_of(std::string_view name) { return name == "stream" ? kStreamBits : name == "step" ? kStepBits : kSeedBits; }

template <class T>
[[noreturn]] void refuse(const char* name, const char* rule, const PerRow<T>& values, std::int64_t row) {
  throw std::invalid_argument(std::string(name) + " must be " + rule + ", got " + text_of(values[row]) +
                              in_row(values.varies(), row));
}

/// `legal` is no argument: rules that must be inlined cannot be called by pointer where little is optimised.
template <auto legal, class T>
inline void check(const char* name, const char* rule, const PerRow<T>& values) {
  for (std::int64_t row = 0; row < values.count; ++row) {
    if (!legal(values[row])) refuse(name, rule, values, row);
  }
}

constexpr const char* kFinite = "finite";
constexpr const char* kFiniteNotNegative = "finite and >= 0";
constexpr const char* kPositive = "finite and > 0";
constexpr const char* kShare = "in (0, 1]";
constexpr const char* kProbability = "in [0, 1]";
constexpr const char* kCutoff = "in [0, 1)";
constexpr const char* kNotNegative = ">= 0";

bool is_cutoff(double p) { return p >= 0.0 && p < 1.0; }
bool is_positive(double x) { return x > 0.0 && is_finite(x); }
bool is_base(double b) { return b >= 1.0 && is_finite(b); }
bool is_last_n(std::int64_t n) { return n >= -1; }

template <class T, class Neutral>
bool is_used(const PerRow<T>& values, Neutral neutral) {
  if (values.device.data != nullptr) return true;  // for all that is known here
  for (std::int64_t row = 0; row < values.count; ++row) {
    if (!neutral(values[row])) return true;
  }
  return false;
}

bool is_used(const FilterParams& params, Step step) {
  const auto zero = [](auto value) { return value == decltype(value){0}; };
  const auto whole = [](double share) { return share >= 1.0; };
  switch (step) {
    case Step::kTemperature: return is_used(params.temperature, [](double t) { return !(t < 1.0 || t > 1.0); });
    case Step::kTopK: return is_used(params.top_k, zero);
    case Step::kTopP: return is_used(params.top_p, whole);
    case Step::kMinP: return is_used(params.min_p, [](double p) { return p <= 0.0; });
    case Step::kTypical: return is_used(params.typical_p, whole);
    case Step::kEpsilon: return is_used(params.epsilon_cutoff, [](double p) { return p <= 0.0; });
    case Step::kEta: return is_used(params.eta_cutoff, [](double p) { return p <= 0.0; });
    case Step::kTopNSigma: return is_used(params.top_n_sigma, [](double n) { return n <= 0.0; });
    case Step::kXtc: return is_used(params.xtc_probability, [](double p) { return p <= 0.0; });
    case Step::kTopKTopP: break;
  }
  return false;
}

bool holds(const StepOrder& order, Step step) { return std::find(order.begin(), order.end(), step) != order.end(); }

/// A value that no step reads is a mistake that no token would show.
void check_steps(const FilterParams& params) {
  for (const Step step : StepOrder{}) {
    if (!is_used(params, step) || holds(params.steps, step)) continue;
    if ((step == Step::kTopK || step == Step::kTopP) && holds(params.steps, Step::kTopKTopP)) continue;
    throw std::invalid_argument("steps must name every step that is used, got no " +
                                std::string(kStepNames[static_cast<std::size_t>(step)]));
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

/// The drafts of one row.
void check_row_of_drafts(const Drafts& drafts, std::int64_t row, std::int64_t vocab) {
  const std::int32_t* tokens = drafts.tokens + row * drafts.count;
  const std::string place = in_row(true, row);
  bool padded = false;
  for (std::int64_t draft = 0; draft < drafts.count; ++draft) {
    if (padded && tokens[draft] != -1) {
      throw std::invalid_argument("draft_tokens must have -1 after the last draft only, got " +
                                  std::to_string(tokens[draft]) + " after -1" + place);
    }
    padded = tokens[draft] == -1;
    if (padded) continue;
    check_token("draft_tokens", tokens[draft], vocab, place);
    const std::int64_t parent = drafts.parents ? drafts.parents[row * drafts.count + draft] : draft - 1;
    if (parent >= -1 && parent < draft) continue;
    throw std::invalid_argument("parents must be -1 or an earlier draft, got " + std::to_string(parent) +
                                " for draft " + std::to_string(draft) + place);
  }
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
  check<is_finite_not_negative>("temperature", kFiniteNotNegative, params.temperature);
  check<is_not_negative>("top_k", kNotNegative, params.top_k);
  check<is_share>("top_p", kShare, params.top_p);
  check<is_probability>("min_p", kProbability, params.min_p);
  check<is_share>("typical_p", kShare, params.typical_p);
  check<is_cutoff>("epsilon_cutoff", kCutoff, params.epsilon_cutoff);
  check<is_cutoff>("eta_cutoff", kCutoff, params.eta_cutoff);
  check<is_finite_not_negative>("top_n_sigma", kFiniteNotNegative, params.top_n_sigma);
  check<is_probability>("xtc_probability", kProbability, params.xtc_probability);
  check<is_probability>("xtc_threshold", kProbability, params.xtc_threshold);
  check_steps(params);
}

void check_penalties(const PenaltyParams& penalties) {
  check<is_positive>("repetition_penalty", kPositive, penalties.repetition);
  check<is_finite>("frequency_penalty", kFinite, penalties.frequency);
  check<is_finite>("presence_penalty", kFinite, penalties.presence);
  check<is_finite_not_negative>("dry_multiplier", kFiniteNotNegative, penalties.dry_multiplier);
  check<is_base>("dry_base", "finite and >= 1", penalties.dry_base);
  check<is_not_negative>("dry_allowed_length", kNotNegative, penalties.dry_allowed_length);
  check<is_last_n>("dry_last_n", ">= -1", penalties.dry_last_n);
  check<is_not_negative>("min_tokens", kNotNegative, penalties.min_tokens);
  if (penalties.eos_tokens.empty() && is_used(penalties.min_tokens, [](std::int64_t n) { return n == 0; })) {
    throw std::invalid_argument("eos_token_id must be given where min_tokens is above 0, got None");
  }
}

void check_positive_temperature(const FilterParams& params) {
  check<is_positive>("temperature", kPositive, params.temperature);
}

void check_targets(const Targets& targets, std::int64_t rows, std::int64_t vocab) {
  check<is_probability>("label_smoothing", kProbability, PerRow<double>{targets.label_smoothing});
  check<is_finite>("scale", kFinite, targets.gradient_scale);
  for (std::int64_t row = 0; row < (targets.tokens.varies() ? rows : 1); ++row) {
    const std::int64_t token = targets.tokens[row];
    if (token == targets.ignore_index || (token >= 0 && token < vocab)) continue;
    throw std::invalid_argument("tokens must be in [0, " + std::to_string(vocab) + ") or ignore_index, " +
                                std::to_string(targets.ignore_index) + ", got " + std::to_string(token) +
                                in_row(targets.tokens.varies(), row));
  }
}

void check_gradient(const Logits& logits, const OutputRows& gradient) {
  const auto bytes_of = [&](Dtype dtype) { return logits.vocab * static_cast<std::int64_t>(size_of(dtype)); };
  const std::int64_t length = bytes_of(gradient.dtype);
  std::vector<std::pair<const char*, std::int64_t>> written;
  written.reserve(static_cast<std::size_t>(logits.rows));
  for (std::int64_t row = 0; row < logits.rows; ++row) {
    written.emplace_back(static_cast<const char*>(gradient.row(row)), row);
  }
  std::sort(written.begin(), written.end());
  for (std::int64_t row = 0; row < logits.rows; ++row) {
    const auto* begin = static_cast<const char*>(logits.row(row));
    const char* end = begin + bytes_of(logits.dtype);
    auto other = std::lower_bound(written.begin(), written.end(), std::pair{end, std::int64_t{-1}});
    while (other != written.begin() && (--other)->first + length > begin) {
      if (other->second == row && other->first == begin && gradient.dtype == logits.dtype) continue;
      throw std::invalid_argument("out must be the memory of logits or share none of it, got row " +
                                  std::to_string(other->second) + " of out in row " + std::to_string(row) +
                                  " of logits");
    }
  }
}

void check_token(const char* name, std::int64_t token, std::int64_t vocab, const std::string& place) {
  if (token >= 0 && token < vocab) return;
  throw std::invalid_argument(std::string(name) + " must have tokens in [0, " + std::to_string(vocab) + "), got " +
                              std::to_string(token) + place);
}

void check_tokens(const History& history, const PenaltyParams& penalties, std::int64_t vocab) {
  for (const std::int32_t token : penalties.eos_tokens) check_token("eos_token_id", token, vocab, "");
  check<is_not_negative>("prompt_lengths", kNotNegative, history.prompt_lengths);
}

StepOrder parse_steps(const std::vector<std::string>& names) {
  StepOrder order;
  order.count = 0;
  constexpr std::array<std::string_view, 3> kFirst{"mask", "bias", "penalties"};
  std::size_t first = 0;
  for (const std::string& name : names) {
    const auto edit = std::find(kFirst.begin() + static_cast<std::ptrdiff_t>(first), kFirst.end(), name);
    if (order.count == 0 && edit != kFirst.end()) {
      first = static_cast<std::size_t>(edit - kFirst.begin()) + 1;
      continue;
    }
    const auto found = std::find(kStepNames.begin(), kStepNames.end(), name);
    if (found == kStepNames.end()) {
      const bool late = std::find(kFirst.begin(), kFirst.end(), name) != kFirst.end();
      throw std::invalid_argument(late ? "steps must begin with mask, bias, penalties in this order, got " + name +
                                             " later"
                                       : "steps must be names of steps, got '" + name + "'");
    }
    const auto step = static_cast<Step>(found - kStepNames.begin());
    if (holds(order, step)) throw std::invalid_argument("steps must be distinct, got " + name + " twice");
    order.append(step);
  }
  if (holds(order, Step::kTopKTopP) && (holds(order, Step::kTopK) || holds(order, Step::kTopP))) {
    throw std::invalid_argument("steps must have either top_k_top_p or top_k and top_p, got both");
  }
  return order;
}

bool reads_history(const PenaltyParams& penalties) {
  const auto zero = [](double x) { return !(x < 0.0 || x > 0.0); };
  const auto one = [](double x) { return !(x < 1.0 || x > 1.0); };
  return is_used(penalties.repetition, one) || is_used(penalties.frequency, zero) ||
         is_used(penalties.presence, zero) || is_used(penalties.dry_multiplier, zero);
}

bool is_random_before_the_draw(const FilterParams& params) {
  return is_used(params.xtc_probability, [](double p) { return p <= 0.0 || p >= 1.0; });
}

void check_randomness(const Randomness& randomness) {
  check_below("stream", randomness.stream);
  check_below("step", randomness.step);
}

void check_edits(const Edits& edits, std::int64_t rows, std::int64_t vocab, std::int64_t positions) {
  const std::int64_t bias_rows = edits.bias == nullptr ? 0 : edits.bias_stride == 0 ? 1 : rows;
  const std::int64_t bias_positions = edits.bias_position_stride == 0 ? 1 : positions;
  for (std::int64_t place = 0; place < bias_rows * bias_positions; ++place) {
    const float* bias =
        edits.bias + place / bias_positions * edits.bias_stride + place % bias_positions * edits.bias_position_stride;
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

void check_drafts(const Drafts& drafts, const Randomness& randomness, std::int64_t rows, std::int64_t vocab) {
  const auto last = static_cast<std::uint64_t>(drafts.count);
  for (std::int64_t row = 0; row < randomness.step.count; ++row) {
    if ((randomness.step[row] + last) >> 32 == 0) continue;
    throw std::invalid_argument("step + " + std::to_string(drafts.count) + " drafts must be " + counter_rule("step") +
                                ", got step " + std::to_string(randomness.step[row]) +
                                in_row(randomness.step.varies(), row));
  }
  for (std::int64_t row = 0; row < rows; ++row) check_row_of_drafts(drafts, row, vocab);
}

RowSteps steps_of(const FilterParams& params, const RandomSource& source, std::int64_t row, std::int64_t vocab) {
  const double xtc_probability = params.xtc_probability[row];
  RowSteps steps;
  steps.temperature = params.temperature[row];
  steps.top_k = limiting_top_k(params.top_k[row], vocab);
  steps.top_k_all_ties = params.top_k_all_ties;
  steps.top_p_share = share_to_reach(params.top_p[row], params.top_p_exceeds);
  steps.top_p_ties = params.top_p_ties;
  steps.top_p_of_original = params.top_p_of_original;
  steps.min_p_ratio = lowered(params.min_p[row]);
  steps.typical_share = share_to_reach(params.typical_p[row], false);
  steps.epsilon = lowered(params.epsilon_cutoff[row]);
  steps.eta = params.eta_cutoff[row] > 0.0 ? std::max(params.eta_cutoff[row], kLeastThreshold) : 0.0;
  steps.top_n_sigma = params.top_n_sigma[row] * (1.0 + 0x1p-20);
  steps.xtc_threshold = lowered(params.xtc_threshold[row]);
  // Two tokens cannot both be more probable than one half.
  const bool xtc_acts = params.xtc_threshold[row] <= 0.5 && xtc_falls(source, xtc_probability);
  steps.order.count = 0;
  for (const Step step : params.steps) {
    if (can_change(steps, step, xtc_acts)) steps.order.append(step);
  }
  return steps;
}

const char* reason_of(RowStatus status) {
  switch (status) {
    case RowStatus::kNan: return "NaN";
    case RowStatus::kInfinite: return "+inf";
    case RowStatus::kNothingLeft: return "no finite score";
    case RowStatus::kIllegal: return "an illegal parameter";
    case RowStatus::kValid: break;
  }
  return "valid";
}

}  // namespace tokendraw
