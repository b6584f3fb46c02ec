// SPDX-License-Identifier: Apache-2.0
#include "search/beam.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/gumbel.h"

namespace tokendraw::search {
namespace {

/// Tokens that would complete an n-gram that stands in `tokens` already.
void append_repeats(const std::vector<std::int32_t>& tokens, std::int64_t n, std::vector<std::int32_t>& out) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  const auto last = tokens.end() - std::min(n - 1, count);
  for (std::int64_t begin = 0; begin + n <= count; ++begin) {
    if (std::equal(last, tokens.end(), tokens.begin() + begin)) {
      out.push_back(tokens[static_cast<std::size_t>(begin + n - 1)]);
    }
  }
}

/// ln(1 - e^(-e^x)), the log-probability that a Gumbel variable of location x is positive.
double log_above_zero(double x) { return std::log(-std::expm1(-std::exp(std::min(x, 700.0)))); }

}  // namespace

BeamSearch::BeamSearch(BeamParams params, std::vector<BeamPrompt> prompts)
    : params_(std::move(params)), prompts_(std::move(prompts)) {
  for (std::int64_t prompt = 0; prompt < this->prompts(); ++prompt) {
    const std::int64_t width = prompts_[static_cast<std::size_t>(prompt)].width / params_.groups;
    for (std::int64_t i = 0; i < params_.groups; ++i) {
      Beam root;
      root.row = prompt;
      groups_.push_back({prompt, width, i * width, {root}, {}, -HUGE_VAL, false});
    }
    owners_.push_back({groups_.size() - static_cast<std::size_t>(params_.groups), 0});
  }
}

bool BeamSearch::is_done(std::int64_t prompt) const {
  const auto first = first_group_of(prompt);
  return std::all_of(first, first + params_.groups, [](const Group& group) { return group.done; });
}

// ---- what a step asks for -----------------------------------------------------------------------------------

std::int64_t BeamSearch::candidates_of(const Group& group) const {
  // One more than are kept: the best of those that are dropped is the threshold.
  if (params_.choice == BeamChoice::kStochastic) return group.width + 1;
  const auto ends = static_cast<std::int64_t>(params_.eos_tokens.size());
  return group.width * (params_.candidates > 0 ? params_.candidates : std::max<std::int64_t>(2, 1 + ends));
}

/// Tokens of a beam that are taken out of its continuations, rather than masked: their share stays theirs.
std::vector<std::int32_t> BeamSearch::forbidden_after(const Group& group, const Beam& beam) const {
  std::vector<std::int32_t> tokens;
  if (steps_ < params_.min_new_tokens) tokens = params_.eos_tokens;
  if (params_.no_repeat_ngram > 0) append_repeats(history_of(group, beam.node), params_.no_repeat_ngram, tokens);
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

Beams BeamSearch::ask() {
  asked_.clear();
  asked_groups_.clear();
  scores_.clear();
  priorities_.clear();
  forbidden_.clear();
  slots_ = 0;
  for (std::size_t index = 0; index < groups_.size(); ++index) {
    const Group& group = groups_[index];
    if (group.done) continue;
    const auto width = static_cast<std::int64_t>(group.live.size());
    // Every token that is forbidden or penalized may stand before one that is wanted.
    std::int64_t spare = params_.diversity_penalty != 0.0 ? width * group.offset : 0;
    const std::int64_t first_beam = beams();
    for (const Beam& beam : group.live) {
      scores_.push_back(beam.score);
      priorities_.push_back(beam.priority);
      forbidden_.push_back(forbidden_after(group, beam));
      spare += static_cast<std::int64_t>(forbidden_.back().size());
    }
    const std::int64_t slots = candidates_of(group) + spare;
    asked_.push_back({group.live.front().row, first_beam, width, slots_, slots});
    asked_groups_.push_back(index);
    slots_ += slots;
  }
  Beams beams;
  beams.groups = asked_.data();
  beams.count = static_cast<std::int64_t>(asked_.size());
  beams.scores = scores_.data();
  beams.priorities = priorities_.data();
  beams.renormalize = params_.renormalize;
  if (params_.choice == BeamChoice::kSampled) beams.noise = Noise::kOwn;
  if (params_.choice == BeamChoice::kStochastic) beams.noise = Noise::kOfBeam;
  return beams;
}

// ---- what becomes of it -------------------------------------------------------------------------------------

void BeamSearch::advance(const Continuation* found) {
  std::vector<std::int32_t> taken;  // by the groups of a prompt that came before
  std::int64_t prompt = -1;
  for (std::size_t i = 0; i < asked_.size(); ++i) {
    Group& group = groups_[asked_groups_[i]];
    if (group.prompt != prompt) taken.clear();
    prompt = group.prompt;
    std::vector<Continuation> candidates = candidates_among(asked_[i], found);
    if (params_.diversity_penalty != 0.0) penalize_taken(candidates, taken);
    const auto wanted = static_cast<std::size_t>(candidates_of(group));
    if (candidates.size() > wanted) candidates.resize(wanted);
    if (params_.choice == BeamChoice::kStochastic) {
      choose_sample(group, candidates);
    } else {
      choose(group, candidates);
    }
    if (group.done) continue;
    for (const Beam& beam : group.live) taken.push_back(sequences_.last_token(beam.node));
  }
  ++steps_;
  for (const std::size_t index : asked_groups_) {
    Group& group = groups_[index];
    group.done = group.done || has_enough(group);
  }
  number_rows();
}

std::vector<Continuation> BeamSearch::candidates_among(const BeamGroup& asked, const Continuation* found) const {
  std::vector<Continuation> candidates;
  candidates.reserve(static_cast<std::size_t>(asked.slots));
  for (const Continuation* c = found + asked.first_slot; c != found + asked.first_slot + asked.slots; ++c) {
    if (c->token < 0) break;
    const auto& forbidden = forbidden_[static_cast<std::size_t>(asked.first_beam + c->parent)];
    if (!std::binary_search(forbidden.begin(), forbidden.end(), c->token)) candidates.push_back(*c);
  }
  return candidates;
}

/// Hamming diversity: Vijayakumar et al., "Diverse beam search" (2018).
void BeamSearch::penalize_taken(std::vector<Continuation>& candidates, const std::vector<std::int32_t>& taken) const {
  for (Continuation& candidate : candidates) {
    const auto count = std::count(taken.begin(), taken.end(), candidate.token);
    candidate.priority -= params_.diversity_penalty * static_cast<double>(count);
  }
  std::sort(candidates.begin(), candidates.end(), outranks);
}

BeamSearch::Beam BeamSearch::extend(const Group& group, const Continuation& candidate) {
  const Beam& parent = group.live[static_cast<std::size_t>(candidate.parent)];
  const double logprob = candidate.score - parent.score;
  const bool ranked_by_score = params_.choice == BeamChoice::kBest;
  return {sequences_.append(parent.node, candidate.token, logprob),
          ranked_by_score ? candidate.priority : candidate.score, candidate.priority, parent.row};
}

void BeamSearch::choose(Group& group, const std::vector<Continuation>& candidates) {
  const bool last = is_last(group);
  std::vector<Beam> next;
  for (std::size_t rank = 0; rank < candidates.size(); ++rank) {
    const Continuation& candidate = candidates[rank];
    const bool at_eos = is_eos(candidate.token);
    if (!at_eos && !last) {
      next.push_back(extend(group, candidate));
    } else if (params_.any_rank_finishes || static_cast<std::int64_t>(rank) < group.width) {
      finish(group, extend(group, candidate), at_eos);
    }
  }
  // Of continuations in the order in which they were drawn, the most probable live on.
  std::stable_sort(next.begin(), next.end(), [](const Beam& a, const Beam& b) { return a.score > b.score; });
  while (static_cast<std::int64_t>(next.size()) > group.width) {
    sequences_.release(next.back().node);
    next.pop_back();
  }
  replace_live(group, std::move(next));
}

/// The finished ones stay in the running until better ones push them out.
void BeamSearch::choose_sample(Group& group, const std::vector<Continuation>& candidates) {
  const bool last = is_last(group);
  std::vector<Beam> next;
  std::vector<Finished> finished = std::move(group.finished);
  group.finished.clear();
  auto old = finished.begin();
  auto fresh = candidates.begin();
  for (std::int64_t rank = 0; old != finished.end() || fresh != candidates.end(); ++rank) {
    const bool takes_old = fresh == candidates.end() || (old != finished.end() && old->priority >= fresh->priority);
    const double priority = takes_old ? old->priority : fresh->priority;
    if (rank >= group.width) {
      group.threshold = std::max(group.threshold, priority);
      if (takes_old) sequences_.release(old->node);
    } else if (takes_old) {
      group.finished.push_back(*old);
    } else {
      const Beam beam = extend(group, *fresh);
      const bool at_eos = is_eos(fresh->token);
      if (at_eos || last) {
        group.finished.push_back({beam.node, beam.priority, beam.priority, at_eos});
      } else {
        next.push_back(beam);
      }
    }
    takes_old ? static_cast<void>(++old) : static_cast<void>(++fresh);
  }
  replace_live(group, std::move(next));
}

/// Beams that nothing follows are kept where the prompt would be left without any hypothesis.
void BeamSearch::replace_live(Group& group, std::vector<Beam> next) {
  group.done = next.empty();
  if (next.empty() && group.finished.empty()) return;
  for (const Beam& beam : group.live) sequences_.release(beam.node);
  group.live = std::move(next);
}

void BeamSearch::finish(Group& group, const Beam& beam, bool at_eos) {
  const double score = beam.score / length_factor(group, steps_ + 1, at_eos);
  const auto place = std::find_if(group.finished.begin(), group.finished.end(),
                                  [&](const Finished& other) { return score > other.score; });
  group.finished.insert(place, {beam.node, score, beam.priority, at_eos});
  if (static_cast<std::int64_t>(group.finished.size()) > capacity_of(group)) {
    sequences_.release(group.finished.back().node);
    group.finished.pop_back();
  }
}

std::int64_t BeamSearch::capacity_of(const Group& group) const {
  return std::max<std::int64_t>(1, std::llround(static_cast<double>(group.width) * params_.patience));
}

/// After a step: no running beam can or may add to the finished ones.
bool BeamSearch::has_enough(const Group& group) const {
  const bool is_full = static_cast<std::int64_t>(group.finished.size()) >= capacity_of(group);
  if (!is_full || params_.choice == BeamChoice::kStochastic) return false;
  if (params_.early_stopping == EarlyStopping::kExhaust) return false;
  if (params_.early_stopping == EarlyStopping::kTrue) return true;
  const bool grows = params_.early_stopping == EarlyStopping::kNever && params_.length_penalty > 0.0;
  const std::int64_t length = grows ? prompt_of(group).max_new_tokens : steps_;
  return group.live.front().score / length_factor(group, length, false) <= group.finished.back().score;
}

double BeamSearch::length_factor(const Group& group, std::int64_t generated, bool at_eos) const {
  std::int64_t length = generated;
  if (params_.length_rule != LengthRule::kGenerated && at_eos) --length;
  if (params_.length_rule == LengthRule::kSequenceWithoutEos) {
    length += static_cast<std::int64_t>(prompt_of(group).tokens.size());
  }
  return std::pow(static_cast<double>(std::max<std::int64_t>(length, 1)), params_.length_penalty);
}

bool BeamSearch::is_eos(std::int32_t token) const {
  return std::find(params_.eos_tokens.begin(), params_.eos_tokens.end(), token) != params_.eos_tokens.end();
}

// ---- the rows of the next step ------------------------------------------------------------------------------

void BeamSearch::number_rows() {
  owners_.clear();
  tokens_.clear();
  parents_.clear();
  for (std::size_t index = 0; index < groups_.size(); ++index) {
    Group& group = groups_[index];
    for (std::size_t i = 0; i < group.live.size() && !group.done; ++i) {
      Beam& beam = group.live[i];
      tokens_.push_back(sequences_.last_token(beam.node));
      parents_.push_back(beam.row);
      beam.row = rows();
      owners_.push_back({index, i});
    }
  }
}

RandomSource BeamSearch::random_of_row(std::int64_t row) const {
  const Group& group = group_of_row(row);
  const BeamPrompt& prompt = prompt_of(group);
  const std::uint64_t beam = static_cast<std::uint64_t>(group.offset) + owner_of(row).beam;
  return {prompt.seed, prompt.stream + beam, params_.step + static_cast<std::uint32_t>(steps_)};
}

std::vector<std::int32_t> BeamSearch::history_of(const Group& group, Node node) const {
  std::vector<std::int32_t> tokens = prompt_of(group).tokens;
  const auto generated = static_cast<std::ptrdiff_t>(tokens.size());
  sequences_.for_each_backwards(node, [&](std::int32_t token, double) { tokens.push_back(token); });
  std::reverse(tokens.begin() + generated, tokens.end());
  return tokens;
}

// ---- results ------------------------------------------------------------------------------------------------

Hypothesis BeamSearch::describe(const Group& group, Node node) const {
  Hypothesis hypothesis;
  sequences_.for_each_backwards(node, [&](std::int32_t token, double logprob) {
    hypothesis.tokens.push_back(token);
    hypothesis.logprobs.push_back(logprob);
    hypothesis.logprob += logprob;
  });
  std::reverse(hypothesis.tokens.begin(), hypothesis.tokens.end());
  std::reverse(hypothesis.logprobs.begin(), hypothesis.logprobs.end());
  if (group.threshold > -HUGE_VAL) hypothesis.log_inclusion = log_above_zero(hypothesis.logprob - group.threshold);
  return hypothesis;
}

Hypothesis BeamSearch::describe(const Group& group, const Finished& finished) const {
  Hypothesis hypothesis = describe(group, finished.node);
  hypothesis.score = finished.score;
  hypothesis.finished = finished.at_eos;
  return hypothesis;
}

Hypothesis BeamSearch::describe(const Group& group, const Beam& running) const {
  Hypothesis hypothesis = describe(group, running.node);
  const auto generated = static_cast<std::int64_t>(hypothesis.tokens.size());
  const bool has_priority = params_.choice == BeamChoice::kStochastic;
  hypothesis.score = has_priority ? running.priority : running.score / length_factor(group, generated, false);
  return hypothesis;
}

std::vector<Hypothesis> BeamSearch::best(std::int64_t prompt, std::int64_t count) const {
  std::vector<Hypothesis> best;
  std::vector<Hypothesis> running;
  const auto first = first_group_of(prompt);
  for (auto group = first; group != first + params_.groups; ++group) {
    for (const Finished& finished : group->finished) best.push_back(describe(*group, finished));
    for (const Beam& beam : group->live) {
      if (beam.node != Sequences::kEmpty) running.push_back(describe(*group, beam));
    }
  }
  const auto better = [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; };
  std::stable_sort(best.begin(), best.end(), better);
  std::stable_sort(running.begin(), running.end(), better);
  best.insert(best.end(), running.begin(), running.end());
  if (best.size() > static_cast<std::size_t>(count)) best.resize(static_cast<std::size_t>(count));
  return best;
}

}  // namespace tokendraw::search
