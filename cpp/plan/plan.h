// SPDX-License-Identifier: Apache-2.0
// Whether a request is legal, and what each row's steps are. Every message a user sees about a value is written here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plan/request.h"
#include "plan/steps.h"

namespace tokendraw {

/// Throws std::invalid_argument, in one sentence with the rule, the value and the row, unless all parameters are legal.
void check_params(const FilterParams& params);
void check_penalties(const PenaltyParams& penalties);
void check_randomness(const Randomness& randomness);

/// The temperature of what has no value at 0.
void check_positive_temperature(const FilterParams& params);

/// Targets are tokens of the vocabulary, or ignored.
void check_targets(const Targets& targets, std::int64_t rows, std::int64_t vocab);

/// A row of the gradient is its row of the logits, or shares no memory with any.
void check_gradient(const Logits& logits, const OutputRows& gradient);

/// Throws unless the token is in the vocabulary; `place` ends the message.
void check_token(const char* name, std::int64_t token, std::int64_t vocab, const std::string& place);

/// The same of every token that a penalty names; and no prompt may have a negative length.
void check_tokens(const History& history, const PenaltyParams& penalties, std::int64_t vocab);

/// Whether a penalty depends on the tokens before a row.
bool reads_history(const PenaltyParams& penalties);

/// The order that `names` spell; mask, bias and penalties may stand first. Throws where a name is unknown or repeated.
StepOrder parse_steps(const std::vector<std::string>& names);

/// Whether a row's token depends on a draw before the draw: 0 < xtc_probability < 1 somewhere.
bool is_random_before_the_draw(const FilterParams& params);

/// What `seed`, `stream` or `step` must be, as messages say it.
std::string counter_rule(std::string_view name);

/// A bias may be -inf, never +inf or NaN; a biased token must be in the vocabulary. `rows` counts the rows of a dense
/// bias.
void check_edits(const Edits& edits, std::int64_t rows, std::int64_t vocab, std::int64_t positions = 1);

/// Cumulative scores of beams are finite or -inf.
void check_scores(const double* scores, std::int64_t rows);

/// Drafts are tokens of the vocabulary, then padding; their parents come before them; and every position has a step.
void check_drafts(const Drafts& drafts, const Randomness& randomness, std::int64_t rows, std::int64_t vocab);

/// Needs checked parameters. `source` decides whether xtc acts.
RowSteps steps_of(const FilterParams& params, const RandomSource& source, std::int64_t row, std::int64_t vocab);

/// Why a row cannot be drawn from, as messages say it.
const char* reason_of(RowStatus status);

/// A number as messages show it: the shortest text that reads back as the same double.
std::string shown(double value);

}  // namespace tokendraw
