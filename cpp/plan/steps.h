// SPDX-License-Identifier: Apache-2.0
// The steps, their names and their default order. Every stem of the house that filters appears here, in reference.py,
// in a test and in a bench.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tokendraw {

/// In the default order; `top_k_top_p` filters jointly and stands in no default.
enum class Step : std::uint8_t {
  kTemperature,
  kTopK,
  kTopP,
  kMinP,
  kTypical,
  kEpsilon,
  kEta,
  kTopNSigma,
  kXtc,
  kTopKTopP,
};

inline constexpr int kStepCount = 10;
inline constexpr int kDefaultSteps = 9;

inline constexpr std::array<std::string_view, kStepCount> kStepNames{
    "temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "top_n_sigma", "xtc", "top_k_top_p"};

/// An order of distinct steps.
struct StepOrder {
  std::array<Step, kStepCount> steps{Step::kTemperature, Step::kTopK, Step::kTopP,      Step::kMinP, Step::kTypical,
                                     Step::kEpsilon,     Step::kEta,  Step::kTopNSigma, Step::kXtc};
  int count = kDefaultSteps;

  const Step* begin() const { return steps.data(); }
  const Step* end() const { return steps.data() + count; }
  void append(Step step) { steps[static_cast<std::size_t>(count++)] = step; }
};

/// Which of the tokens that equal the last kept one are kept: as many as complete the set, from the low or from the
/// high ids, or all.
enum class Ties : std::uint8_t { kLowest, kHighest, kAll };

/// One row: what each of its steps needs, with the tolerances of the contract applied; `order` holds those that can
/// change something.
struct RowSteps {
  StepOrder order;
  double temperature;  // 0: the first token of the set alone
  std::int64_t top_k;
  bool top_k_all_ties;
  double top_p_share;  // tokens are kept while the share before them is below it
  Ties top_p_ties;
  bool top_p_of_original;  // a share of all finite tokens' mass, rather than of what earlier steps left
  double min_p_ratio;      // least weight kept, relative to the largest
  double typical_share;
  double epsilon;  // least probability kept
  double eta;
  double top_n_sigma;
  double xtc_threshold;  // least probability of a top choice
};

}  // namespace tokendraw
