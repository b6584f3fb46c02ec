// SPDX-License-Identifier: Apache-2.0
// What the docstrings of several functions share, as literals that the preprocessor joins.
#pragma once

#define TOKENDRAW_PARAMS_SIGNATURE                                                                                 \
  "temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0, epsilon_cutoff=0.0, eta_cutoff=0.0, "            \
  "top_n_sigma=0.0, xtc_probability=0.0, xtc_threshold=0.1, repetition_penalty=1.0, frequency_penalty=0.0, "       \
  "presence_penalty=0.0, dry_multiplier=0.0, dry_base=1.75, dry_allowed_length=2, dry_last_n=-1, "                 \
  "dry_breakers=(), min_tokens=0, eos_token_id=None, steps=None, top_k_ties=\"exact\", top_p_boundary=\"reach\", " \
  "top_p_ties=\"lowest\", top_p_mass=\"left\", penalty_history=\"all\""

#define TOKENDRAW_FILTERS_SIGNATURE \
  TOKENDRAW_PARAMS_SIGNATURE ", mask=None, bias=None, history=None, prompt_lengths=0, "

/// The same by name, for the list of parameters of a function that describes them elsewhere.
#define TOKENDRAW_PARAMETER_NAMES "logits, " TOKENDRAW_OTHER_PARAMETER_NAMES

#define TOKENDRAW_OTHER_PARAMETER_NAMES                                                                         \
  "temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, top_n_sigma, xtc_probability\n"     \
  "xtc_threshold, repetition_penalty, frequency_penalty, presence_penalty, dry_multiplier, dry_base\n"          \
  "dry_allowed_length, dry_last_n, dry_breakers, min_tokens, eos_token_id, steps, top_k_ties, top_p_boundary\n" \
  "top_p_ties, top_p_mass, penalty_history, mask, bias, history, prompt_lengths, seed, stream, step, params\n"  \
  "on_invalid, threads"

#define TOKENDRAW_RANDOM_SIGNATURE "seed=None, stream=None, step=0, params=None, on_invalid=None, "
