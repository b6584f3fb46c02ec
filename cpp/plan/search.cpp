// SPDX-License-Identifier: Apache-2.0
#include "plan/search.h"

#include <cmath>
#include <stdexcept>
#include <string>

#include "plan/plan.h"

namespace tokendraw {
namespace {

[[noreturn]] void fail(const std::string& name, const std::string& rule, const std::string& value) {
  throw std::invalid_argument(name + " must be " + rule + ", got " + value);
}

void check_least(const char* name, std::int64_t value, std::int64_t least, const std::string& place = "") {
  if (value < least) fail(name, ">= " + std::to_string(least), std::to_string(value) + place);
}

void check_finite(const char* name, double value) {
  if (!std::isfinite(value)) fail(name, "finite", shown(value));
}

void check_prompt(const BeamParams& params, const BeamPrompt& prompt, const std::string& place) {
  constexpr std::int64_t kMostBeams = std::int64_t{1} << 24;
  check_least("num_beams", prompt.width, 1, place);
  if (prompt.width > kMostBeams) fail("num_beams", "at most 2^24", std::to_string(prompt.width) + place);
  check_least("max_new_tokens", prompt.max_new_tokens, 1, place);
  if (prompt.width % params.groups != 0) {
    fail("num_beams", "a multiple of num_groups (" + std::to_string(params.groups) + ")",
         std::to_string(prompt.width) + place);
  }
}

}  // namespace

void check_beam_search(const BeamParams& params, const std::vector<BeamPrompt>& prompts) {
  check_finite("length_penalty", params.length_penalty);
  check_finite("diversity_penalty", params.diversity_penalty);
  if (params.diversity_penalty < 0.0) fail("diversity_penalty", ">= 0", shown(params.diversity_penalty));
  if (!(params.patience > 0.0 && std::isfinite(params.patience))) {
    fail("patience", "finite and > 0", shown(params.patience));
  }
  check_least("min_new_tokens", params.min_new_tokens, 0);
  check_least("no_repeat_ngram_size", params.no_repeat_ngram, 0);
  check_least("candidates", params.candidates, 0);
  check_least("num_groups", params.groups, 1);
  if (params.groups > 1 && params.choice != BeamChoice::kBest) {
    fail("num_groups", "1 where beams are drawn", std::to_string(params.groups));
  }
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    check_prompt(params, prompts[i], " (prompt " + std::to_string(i) + ")");
  }
}

}  // namespace tokendraw
