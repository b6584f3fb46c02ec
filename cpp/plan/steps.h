// SPDX-License-Identifier: Apache-2.0
// The steps in the order in which they run, and the value at which each changes nothing. Every stem of the house that
// filters appears here, in reference.py, in a test and in a bench.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tokendraw {

struct Step {
  std::string_view name;
  std::string_view rule;  // what a value must be, as messages say it
  bool integer;
  double neutral;
};

enum StepIndex : int { kTemperature, kTopK, kTopP, kMinP, kSteps };

inline constexpr std::array<Step, kSteps> kStepTable{{
    {"temperature", "finite and >= 0", false, 1.0},
    {"top_k", ">= 0", true, 0.0},
    {"top_p", "in (0, 1]", false, 1.0},
    {"min_p", "in [0, 1]", false, 0.0},
}};

/// The parameters of one row with every neutral value normalised, and with the tolerances of the contract applied.
struct RowSteps {
  double temperature;  // 0: the first token of the total order alone
  std::int64_t top_k;  // 0: off
  double top_p_share;  // share of the mass at which the nucleus is complete; >= 1: off
  double min_p_ratio;  // least weight kept, relative to the largest; 0: off
};

}  // namespace tokendraw
