// SPDX-License-Identifier: Apache-2.0
// How a row is walked: tiles of 1,024 tokens, lines of 32 inside a tile, one register of lanes after another inside a
// line. A row with edits is walked through a tile-sized buffer that holds the edited scores.
#pragma once

#include <cfloat>
#include <cstdint>

#include "core/weight.h"
#include "cpu/kernels.h"
#include "cpu/registers-inl.h"

namespace tokendraw::cpu {
namespace {

inline constexpr int kRegisters = kLanes / kWidth;
inline constexpr float kMinusInfinity = -__builtin_inff();

/// 32 consecutive tokens.
struct Line {
  Vector v[kRegisters];
};

TOKENDRAW_INLINE Line filled_line(float x) {
  Line line;
  for (int r = 0; r < kRegisters; ++r) line.v[r] = Vector(x);
  return line;
}

template <class Element>
TOKENDRAW_INLINE Line load_line(const Element* from) {
  Line line;
  for (int r = 0; r < kRegisters; ++r) line.v[r] = load(from + r * kWidth);
  return line;
}

template <class Element>
TOKENDRAW_INLINE void store_line(Element* to, const Line& line) {
  for (int r = 0; r < kRegisters; ++r) store(to + r * kWidth, line.v[r]);
}

/// The first `count` < 32 elements, the rest -inf.
template <class Element>
TOKENDRAW_INLINE Line load_part(const Element* from, int count) {
  float padded[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) padded[lane] = lane < count ? widen(from[lane]) : kMinusInfinity;
  return load_line(padded);
}

/// One line of the `count` elements of a tile, padded with -inf.
template <class Element>
TOKENDRAW_INLINE Line line_of(const Element* elements, int count, int line) {
  const int left = count - line * kLanes;
  return left < kLanes ? load_part(elements + line * kLanes, left) : load_line(elements + line * kLanes);
}

/// visit(line_index, Line) for every line of a tile, the last one padded with -inf. Whole tiles have a loop of their
/// own, unrolled: the count of a line costs as much as a line of maxima.
template <class Element, class Visit>
TOKENDRAW_INLINE void for_each_line(const Element* elements, int count, Visit visit) {
  if (count == kTile) {
#pragma GCC unroll 4
    for (int line = 0; line < kLinesPerTile; ++line) visit(line, load_line(elements + line * kLanes));
    return;
  }
  const int whole = count / kLanes;
  for (int line = 0; line < whole; ++line) visit(line, load_line(elements + line * kLanes));
  if (count % kLanes != 0) visit(whole, load_part(elements + whole * kLanes, count % kLanes));
}

/// Lines whose weights are computed in step: at least as many registers as go through the polynomial together.
inline constexpr int kLinesInStep = kRegisters < kInStep ? kInStep / kRegisters : 1;
static_assert(kLinesPerGroup % kLinesInStep == 0 && kLinesInStep * kRegisters % kInStep == 0, "steps fill groups");

struct Lines {
  Line line[kLinesInStep];
};

template <class Element>
TOKENDRAW_INLINE Lines load_lines(const Element* from) {
  Lines lines;
  for (int i = 0; i < kLinesInStep; ++i) lines.line[i] = load_line(from + i * kLanes);
  return lines;
}

/// visit(first_line, Lines) for all lines of a tile, a few at a time, padded with -inf.
template <class Element, class Visit>
TOKENDRAW_INLINE void for_each_lines(const Element* elements, int count, Visit visit) {
  if (count == kTile) {
#pragma GCC unroll 2
    for (int line = 0; line < kLinesPerTile; line += kLinesInStep) visit(line, load_lines(elements + line * kLanes));
    return;
  }
  for (int line = 0; line * kLanes < count; line += kLinesInStep) {
    Lines lines;
    for (int i = 0; i < kLinesInStep; ++i) lines.line[i] = line_of(elements, count, line + i);
    visit(line, lines);
  }
}

/// visit(first, Registers) for the registers of some lines that go through the polynomial together, counted through its
/// lines from `first` on.
template <class Visit>
TOKENDRAW_INLINE void in_parts(const Lines& lines, Visit visit) {
  for (int first = 0; first < kLinesInStep * kRegisters; first += kInStep) {
    visit(first, in_step([&](int r) TOKENDRAW_INLINED {
            return lines.line[(first + r) / kRegisters].v[(first + r) % kRegisters];
          }));
  }
}

struct TileRange {
  std::int64_t begin;
  int count;
};

TOKENDRAW_INLINE TileRange range_of(const RowView& row, std::int64_t tile) {
  const std::int64_t begin = tile * kTile;
  const std::int64_t left = row.vocab - begin;
  return {begin, left < kTile ? static_cast<int>(left) : kTile};
}

TOKENDRAW_INLINE void apply_token_bias(const RowView& row, TileRange range, float* scores) {
  std::int64_t low = 0;
  for (std::int64_t high = row.token_bias_count; low < high;) {
    const std::int64_t middle = (low + high) / 2;
    if (row.token_bias[middle].token < range.begin) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  for (; low < row.token_bias_count && row.token_bias[low].token < range.begin + range.count; ++low) {
    scores[row.token_bias[low].token - range.begin] += row.token_bias[low].bias;
  }
}

TOKENDRAW_INLINE void apply_bias(const RowView& row, TileRange range, float* scores) {
  if (row.bias) {
    for (int i = 0; i < range.count; ++i) scores[i] += row.bias[range.begin + i];
  }
  if (row.token_bias) apply_token_bias(row, range, scores);
  for (int i = 0; i < range.count; ++i) scores[i] = scores[i] < FLT_MAX ? scores[i] : FLT_MAX;
}

TOKENDRAW_INLINE void apply_token_edits(const RowView& row, TileRange range, float* scores) {
  const std::int64_t tile = range.begin / kTile;
  for (std::int64_t i = row.edits_begin[tile]; i < row.edits_begin[tile + 1]; ++i) {
    const TokenEdit& edit = row.token_edits[i];
    float& score = scores[edit.token - range.begin];
    score = edit.forbidden ? kMinusInfinity : penalized(score, edit.penalty);
  }
}

/// A word of the mask is a line of the row.
TOKENDRAW_INLINE void apply_allowed_bits(const RowView& row, TileRange range, float* scores) {
  const std::int64_t first = range.begin / kLanes;
  for (int line = 0; line < kLinesPerTile; ++line) {
    const std::uint32_t word = first + line < row.allowed_words ? row.allowed_bits[first + line] : 0u;
    Line x = load_line(scores + line * kLanes);
    for (int r = 0; r < kRegisters; ++r) {
      x.v[r] = select(lanes_of(word >> (r * kWidth)), x.v[r], Vector(kMinusInfinity));
    }
    store_line(scores + line * kLanes, x);
  }
}
static_assert(kLanes == 32, "a word of a mask holds a line");

TOKENDRAW_INLINE void apply_removal(const RowView& row, TileRange range, float* scores) {
  for (int i = 0; i < range.count; ++i) {
    scores[i] = row.removal.removes(scores[i], range.begin + i) ? kMinusInfinity : scores[i];
  }
}

/// In the order of the contract; a forbidden token is -inf whatever its bias. A biased score stays finite.
TOKENDRAW_INLINE void apply_edits(const RowView& row, TileRange range, float* scores) {
  if (row.bias || row.token_bias) apply_bias(row, range, scores);
  if (row.token_edits) apply_token_edits(row, range, scores);
  if (row.allowed) {
    const std::uint8_t* allowed = row.allowed + range.begin;
    for (int i = 0; i < range.count; ++i) scores[i] = allowed[i] ? scores[i] : kMinusInfinity;
  }
  if (row.allowed_bits) apply_allowed_bits(row, range, scores);
  if (row.removal.any) apply_removal(row, range, scores);
}

/// Widens one tile into `scores` [kTile], -inf past its end. False if it holds NaN or +inf.
template <class Element>
TOKENDRAW_INLINE bool widen_tile(const Element* elements, int count, float* scores) {
  Mask bad = no_lanes();
  for_each_line(elements, count, [&](int line, const Line& x) TOKENDRAW_INLINED {
    store_line(scores + line * kLanes, x);
    for (int r = 0; r < kRegisters; ++r) bad = either(bad, not_at_most(x.v[r], Vector(FLT_MAX)));
  });
  for (int i = (count + kLanes - 1) / kLanes * kLanes; i < kTile; ++i) scores[i] = kMinusInfinity;
  return bits(bad) == 0;
}

/// Stands for the elements of an edited row, whose scores exist only a tile at a time.
struct EditedScores {};

/// call(source): the row's own elements, or EditedScores. One instance of the caller's loop per element type.
template <class Call>
TOKENDRAW_INLINE auto with_source(const RowView& row, Call call) {
  if (row.edited()) return call(EditedScores{});
  switch (row.dtype) {
    case Dtype::kFloat16: return call(static_cast<const Float16*>(row.logits));
    case Dtype::kBfloat16: return call(static_cast<const Bfloat16*>(row.logits));
    case Dtype::kFloat64: return call(static_cast<const double*>(row.logits));
    default: return call(static_cast<const float*>(row.logits));
  }
}

/// The scores of one tile, -inf where forbidden and past its end. scores [kTile]. False if its logits hold NaN or +inf.
static bool edit_tile(const RowView& row, TileRange range, float* scores) {
  const auto widen_from = [&](const auto* logits) { return widen_tile(logits + range.begin, range.count, scores); };
  bool valid = false;
  switch (row.dtype) {
    case Dtype::kFloat16: valid = widen_from(static_cast<const Float16*>(row.logits)); break;
    case Dtype::kBfloat16: valid = widen_from(static_cast<const Bfloat16*>(row.logits)); break;
    case Dtype::kFloat64: valid = widen_from(static_cast<const double*>(row.logits)); break;
    default: valid = widen_from(static_cast<const float*>(row.logits)); break;
  }
  apply_edits(row, range, scores);
  return valid;
}

/// visit(elements, count) on one tile. What it holds is the visitor's to check; this overload says true.
template <class Element, class Visit>
TOKENDRAW_INLINE bool visit_tile(const RowView& row, const Element* logits, std::int64_t tile, Visit visit) {
  const TileRange range = range_of(row, tile);
  visit(logits + range.begin, range.count);
  return true;
}

/// False if the logits of the tile hold NaN or +inf, which an edit may have hidden.
template <class Visit>
TOKENDRAW_INLINE bool visit_tile(const RowView& row, EditedScores, std::int64_t tile, Visit visit) {
  alignas(64) float scores[kTile];
  const TileRange range = range_of(row, tile);
  const bool valid = edit_tile(row, range, scores);
  visit(static_cast<const float*>(scores), range.count);
  return valid;
}

}  // namespace
}  // namespace tokendraw::cpu
