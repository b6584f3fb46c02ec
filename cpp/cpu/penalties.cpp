// SPDX-License-Identifier: Apache-2.0
#include "cpu/penalties.h"

#include <algorithm>

namespace tokendraw::cpu {
namespace {

struct Span {
  const std::int32_t* begin;
  const std::int32_t* end;
  std::int64_t size() const { return end - begin; }
};

/// The history of one row, and the part of it that was generated.
struct RowHistory {
  Span all{nullptr, nullptr};
  Span output{nullptr, nullptr};
  Span of(Past past) const { return past == Past::kAll ? all : output; }
};

RowHistory history_of(const Behind& behind) {
  const std::int64_t prompt = std::min<std::int64_t>(behind.prompt_length, behind.end - behind.begin);
  return {{behind.begin, behind.end}, {behind.begin + prompt, behind.end}};
}

/// The penalty parameters of one row.
struct RowPenalties {
  double repetition;
  double frequency;
  double presence;
  double dry_multiplier;
  double dry_base;
  std::int64_t dry_allowed_length;
  std::int64_t dry_last_n;
  bool forbids_end;

  bool counts() const { return repetition != 1.0 || frequency != 0.0 || presence != 0.0; }
  bool repeats() const { return dry_multiplier > 0.0 && dry_last_n != 0; }
};

RowPenalties penalties_of(const PenaltyParams& params, std::int64_t row, std::uint64_t step) {
  return {params.repetition[row], params.frequency[row],
          params.presence[row],   params.dry_multiplier[row],
          params.dry_base[row],   params.dry_allowed_length[row],
          params.dry_last_n[row], static_cast<std::int64_t>(step) < params.min_tokens[row]};
}

/// base^exponent, by squaring: the same on every machine.
double power(double base, std::int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 != 0) result *= base;
    base *= base;
  }
  return result;
}

/// lengths[i] = how many tokens before and including the (i + 1)-th from the end repeat the end of the text; lengths[0]
/// is not set. The Z-algorithm on the reversed text: Gusfield, "Algorithms on Strings, Trees, and Sequences"
/// (1997), 1.4.
void match_end(Span text, Buffer<std::int32_t>& lengths) {
  const std::int64_t size = text.size();
  lengths.resize(size);
  const auto from_end = [&](std::int64_t i) { return text.end[-1 - i]; };
  std::int64_t left = 0, right = 0;  // the match [left, right) that reaches farthest
  for (std::int64_t i = 1; i < size; ++i) {
    std::int64_t length = i < right ? std::min<std::int64_t>(lengths[i - left], right - i) : 0;
    while (i + length < size && from_end(length) == from_end(i + length)) ++length;
    if (i + length > right) {
      left = i;
      right = i + length;
    }
    lengths[i] = static_cast<std::int32_t>(length);
  }
}

bool holds(const std::vector<std::int32_t>& tokens, std::int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

/// Tokens at the end of the text that are no breaker.
std::int64_t unbroken_end(Span text, const std::vector<std::int32_t>& breakers) {
  std::int64_t length = 0;
  while (length < text.size() && !holds(breakers, text.end[-1 - length])) ++length;
  return length;
}

class Events {
 public:
  explicit Events(Buffer<TokenEvent>& events, std::int64_t capacity) : events_(events) { events_.resize(capacity); }
  ~Events() { events_.resize(count_); }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  void add(std::int32_t token, TokenEvent::Kind kind, std::int32_t length = 0) {
    events_[count_++] = {token, kind, length};
  }

 private:
  Buffer<TokenEvent>& events_;
  std::int64_t count_ = 0;
};

/// A token, unless it is a breaker, that would continue a repetition of at least the allowed length: "Don't repeat
/// yourself", p-e-w, text generation web UI pull request 5677 (2024), as llama.cpp computes it.
void note_repetitions(const RowPenalties& penalties, Span past, const std::vector<std::int32_t>& breakers,
                      Buffer<std::int32_t>& lengths, Events& events) {
  if (penalties.dry_last_n > 0 && past.size() > penalties.dry_last_n) past.begin = past.end - penalties.dry_last_n;
  const std::int64_t allowed = penalties.dry_allowed_length;
  const std::int64_t unbroken = unbroken_end(past, breakers);
  if (past.size() <= allowed || unbroken < allowed) return;
  match_end(past, lengths);
  for (std::int64_t i = 1; i < past.size(); ++i) {
    const std::int64_t length = std::min<std::int64_t>(lengths[i], unbroken);
    if (length < allowed || holds(breakers, past.end[-i])) continue;
    events.add(past.end[-i], TokenEvent::kRepetition, static_cast<std::int32_t>(length));
  }
}

void note_events(const PenaltyParams& params, const RowPenalties& penalties, const RowHistory& history,
                 Workspace& work) {
  const auto ends = static_cast<std::int64_t>(params.eos_tokens.size());
  Events events(work.events, 2 * history.all.size() + ends);
  if (penalties.counts()) {
    for (const std::int32_t* token = history.all.begin; token != history.all.end; ++token) {
      events.add(*token, token < history.output.begin ? TokenEvent::kPrompt : TokenEvent::kOutput);
    }
  }
  if (penalties.repeats()) {
    note_repetitions(penalties, history.of(params.dry_past), params.dry_breakers, work.match_lengths, events);
  }
  if (penalties.forbids_end) {
    for (const std::int32_t token : params.eos_tokens) events.add(token, TokenEvent::kForbidden);
  }
}

/// Moves the events of each tile together; work.edits_begin[tile + 1] is left at the end of the tile's events.
void group_by_tile(Workspace& work, std::int64_t tiles) {
  Buffer<std::int64_t>& ends = work.edits_begin;
  ends.resize(tiles + 1);
  std::fill(ends.begin(), ends.end(), std::int64_t{0});
  for (const TokenEvent& event : work.events) ++ends[event.token / kTile + 1];
  for (std::int64_t tile = 0; tile < tiles; ++tile) ends[tile + 1] += ends[tile];
  work.events_by_tile.resize(work.events.size());
  for (const TokenEvent& event : work.events) work.events_by_tile[ends[event.token / kTile]++] = event;
  for (std::int64_t tile = tiles; tile > 0; --tile) ends[tile] = ends[tile - 1];
  ends[0] = 0;
}

/// What the events of one token add up to.
struct Tally {
  std::int32_t prompt = 0;
  std::int32_t output = 0;
  std::int32_t repetition = -1;
  bool forbidden = false;

  void add(const TokenEvent& event) {
    prompt += event.kind == TokenEvent::kPrompt;
    output += event.kind == TokenEvent::kOutput;
    forbidden |= event.kind == TokenEvent::kForbidden;
    if (event.kind == TokenEvent::kRepetition) repetition = std::max(repetition, event.length);
  }
  std::int32_t count(Past past) const { return past == Past::kAll ? prompt + output : output; }
};

Penalty penalty_of(const Tally& tally, const RowPenalties& penalties, const PenaltyParams& params) {
  Penalty penalty;
  if (tally.count(params.repetition_past) > 0) penalty.repetition = penalties.repetition;
  penalty.frequency = static_cast<double>(tally.count(params.frequency_past)) * penalties.frequency;
  if (tally.count(params.presence_past) > 0) penalty.presence = penalties.presence;
  if (tally.repetition >= 0) {
    penalty.dry = penalties.dry_multiplier * power(penalties.dry_base, tally.repetition - penalties.dry_allowed_length);
  }
  return penalty;
}

}  // namespace

Behind behind_row(const Request& request, std::int64_t row) {
  const History& history = request.history;
  Behind behind;
  behind.step = request.randomness.step[row];
  behind.prompt_length = history.prompt_lengths[row];
  if (!history.offsets) return behind;
  behind.begin = history.tokens + history.offsets[row];
  behind.end = history.tokens + history.offsets[row + 1];
  return behind;
}

void edit_by_history(const Request& request, std::int64_t row, Workspace& work, RowView& view) {
  edit_by_history(request.penalties, row, behind_row(request, row), work, view);
}

void edit_by_history(const PenaltyParams& params, std::int64_t row, const Behind& behind, Workspace& work,
                     RowView& view) {
  const RowPenalties penalties = penalties_of(params, row, behind.step);
  const RowHistory history = history_of(behind);
  if (!penalties.forbids_end && (history.all.size() == 0 || !(penalties.counts() || penalties.repeats()))) return;
  note_events(params, penalties, history, work);
  const std::int64_t tiles = count_tiles(view.vocab);
  group_by_tile(work, tiles);

  constexpr std::int32_t kNone = -1;
  std::int32_t slots[kTile];
  Tally tallies[kTile];
  std::fill(slots, slots + kTile, kNone);
  work.token_edits.resize(work.events.size());
  std::int64_t edits = 0;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const TokenEvent* begin = work.events_by_tile.data() + work.edits_begin[tile];
    const TokenEvent* end = work.events_by_tile.data() + work.edits_begin[tile + 1];
    work.edits_begin[tile] = edits;
    std::int32_t distinct = 0;
    for (const TokenEvent* event = begin; event != end; ++event) {
      std::int32_t& slot = slots[event->token % kTile];
      if (slot == kNone) {
        slot = distinct++;
        tallies[slot] = {};
        work.token_edits[edits + slot].token = event->token;
      }
      tallies[slot].add(*event);
    }
    for (std::int32_t slot = 0; slot < distinct; ++slot) {
      TokenEdit& edit = work.token_edits[edits + slot];
      edit.forbidden = tallies[slot].forbidden;
      edit.penalty = penalty_of(tallies[slot], penalties, params);
      slots[edit.token % kTile] = kNone;
    }
    edits += distinct;
  }
  work.edits_begin[tiles] = edits;
  view.token_edits = work.token_edits.data();
  view.edits_begin = work.edits_begin.data();
}

}  // namespace tokendraw::cpu
