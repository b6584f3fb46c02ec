// SPDX-License-Identifier: Apache-2.0
// What a beam search was asked for, and whether that is legal.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/request.h"

namespace tokendraw {

/// When a prompt has enough finished hypotheses.
enum class EarlyStopping : std::uint8_t {
  kFalse,    // the best running beam, at its present length, beats none of them
  kTrue,     // there are as many as wanted
  kNever,    // no running beam can beat one at any length it may reach
  kExhaust,  // no beam is running
};

/// The length that a score is divided by a power of.
enum class LengthRule : std::uint8_t { kGenerated, kGeneratedWithoutEos, kSequenceWithoutEos };

/// How the beams of a step are chosen among all continuations.
enum class BeamChoice : std::uint8_t {
  kBest,       // by score
  kSampled,    // drawn without replacement in proportion to their probability
  kStochastic  // so that the finished sequences are a sample without replacement (Kool et al. 2019)
};

struct BeamPrompt {
  std::int64_t width = 1;
  std::int64_t max_new_tokens = 1;
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  std::vector<std::int32_t> tokens;
};

struct BeamParams {
  double length_penalty = 1.0;
  EarlyStopping early_stopping = EarlyStopping::kFalse;
  LengthRule length_rule = LengthRule::kGenerated;
  BeamChoice choice = BeamChoice::kBest;
  std::vector<std::int32_t> eos_tokens;
  std::int64_t min_new_tokens = 0;
  std::int64_t no_repeat_ngram = 0;  // 0: off
  std::int64_t candidates = 0;       // per beam; 0: max(2, 1 + end tokens)
  double patience = 1.0;             // finished hypotheses that are held, in beams
  bool any_rank_finishes = false;    // else only candidates among the best `width`
  std::int64_t groups = 1;           // of a prompt; width is a multiple
  double diversity_penalty = 0.0;    // per earlier group that took the token at this step
  bool renormalize = false;
  std::uint32_t step = 0;  // of the first token
};

/// Throws std::invalid_argument, in one sentence with the rule and the value, unless all of it is legal.
void check_beam_search(const BeamParams& params, const std::vector<BeamPrompt>& prompts);

}  // namespace tokendraw
