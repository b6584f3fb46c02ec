// SPDX-License-Identifier: Apache-2.0
// Beam search over a batch of prompts: which continuations live on, which are finished, and when a prompt is done.
// Never sees a logit: a backend finds the continuations that ask() describes.
#pragma once

#include <cstdint>
#include <vector>

#include "core/continuation.h"
#include "plan/search.h"
#include "search/sequences.h"

namespace tokendraw::search {

struct Hypothesis {
  std::vector<std::int32_t> tokens;
  std::vector<double> logprobs;
  double score = 0.0;
  double logprob = 0.0;
  double log_inclusion = 0.0;  // of stochastic beams: ln of the probability to lie above their threshold
  bool finished = false;       // by an end token
};

class BeamSearch {
 public:
  /// Needs checked parameters.
  BeamSearch(BeamParams params, std::vector<BeamPrompt> prompts);

  const BeamParams& params() const { return params_; }
  std::int64_t prompts() const { return static_cast<std::int64_t>(prompts_.size()); }
  bool is_done(std::int64_t prompt) const;
  std::int64_t steps() const { return steps_; }

  /// Rows of logits that the next step reads: one per prompt at first, then one per live beam, prompt after prompt.
  std::int64_t rows() const { return static_cast<std::int64_t>(owners_.size()); }
  std::int64_t prompt_of_row(std::int64_t row) const { return group_of_row(row).prompt; }

  /// What a backend is to find for the next step; valid until advance().
  Beams ask();
  std::int64_t slots() const { return slots_; }
  std::int64_t beams() const { return static_cast<std::int64_t>(scores_.size()); }

  /// Takes what it found: found [slots()].
  void advance(const Continuation* found);

  /// Of every row of the next step: the token it reads, and the row of the last step that it goes on from.
  const std::vector<std::int32_t>& tokens() const { return tokens_; }
  const std::vector<std::int64_t>& parents() const { return parents_; }

  /// The tokens before a row of the next step, its prompt's first.
  std::vector<std::int32_t> history_of_row(std::int64_t row) const {
    return history_of(group_of_row(row), beam_of_row(row).node);
  }
  RandomSource random_of_row(std::int64_t row) const;
  double score_of_row(std::int64_t row) const { return beam_of_row(row).score; }

  /// The best `count` of a prompt, finished ones first where there are too few.
  std::vector<Hypothesis> best(std::int64_t prompt, std::int64_t count) const;

  /// Of the shared sequences: what is held for all beams and hypotheses.
  std::size_t allocated() const { return sequences_.allocated(); }

 private:
  using Node = Sequences::Node;

  struct Beam {
    Node node = Sequences::kEmpty;
    double score = 0.0;
    double priority = 0.0;
    std::int64_t row = 0;
  };

  struct Finished {
    Node node;
    double score;
    double priority;
    bool at_eos;
  };

  struct Group {
    std::int64_t prompt;
    std::int64_t width;
    std::int64_t offset;  // of its first beam among the prompt's
    std::vector<Beam> live;
    std::vector<Finished> finished;  // the best first
    double threshold;                // the largest priority that was dropped
    bool done;
  };

  /// Whose continuation a row of logits is.
  struct Owner {
    std::size_t group;
    std::size_t beam;
  };

  const Owner& owner_of(std::int64_t row) const { return owners_[static_cast<std::size_t>(row)]; }
  const Group& group_of_row(std::int64_t row) const { return groups_[owner_of(row).group]; }
  const Beam& beam_of_row(std::int64_t row) const { return group_of_row(row).live[owner_of(row).beam]; }
  std::vector<Group>::const_iterator first_group_of(std::int64_t prompt) const {
    return groups_.begin() + prompt * params_.groups;
  }
  const BeamPrompt& prompt_of(const Group& group) const { return prompts_[static_cast<std::size_t>(group.prompt)]; }
  std::int64_t candidates_of(const Group& group) const;
  std::int64_t capacity_of(const Group& group) const;
  bool is_eos(std::int32_t token) const;
  bool is_last(const Group& group) const { return steps_ + 1 >= prompt_of(group).max_new_tokens; }

  std::vector<std::int32_t> forbidden_after(const Group& group, const Beam& beam) const;
  std::vector<std::int32_t> history_of(const Group& group, Node node) const;

  std::vector<Continuation> candidates_among(const BeamGroup& asked, const Continuation* found) const;
  void penalize_taken(std::vector<Continuation>& candidates, const std::vector<std::int32_t>& taken) const;
  void choose(Group& group, const std::vector<Continuation>& candidates);
  void choose_sample(Group& group, const std::vector<Continuation>& candidates);
  void replace_live(Group& group, std::vector<Beam> next);
  void finish(Group& group, const Beam& beam, bool at_eos);
  bool has_enough(const Group& group) const;

  Beam extend(const Group& group, const Continuation& candidate);
  double length_factor(const Group& group, std::int64_t generated, bool at_eos) const;
  void number_rows();

  Hypothesis describe(const Group& group, Node node) const;
  Hypothesis describe(const Group& group, const Finished& finished) const;
  Hypothesis describe(const Group& group, const Beam& running) const;

  BeamParams params_;
  std::vector<BeamPrompt> prompts_;
  Sequences sequences_;
  std::vector<Group> groups_;  // prompt after prompt
  std::int64_t steps_ = 0;

  std::vector<Owner> owners_;  // of the rows of the next step
  std::vector<std::int32_t> tokens_;
  std::vector<std::int64_t> parents_;

  std::vector<BeamGroup> asked_;
  std::vector<std::size_t> asked_groups_;
  std::vector<double> scores_;
  std::vector<double> priorities_;
  std::vector<std::vector<std::int32_t>> forbidden_;  // per beam, ascending
  std::int64_t slots_ = 0;
};

}  // namespace tokendraw::search
