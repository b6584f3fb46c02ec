// SPDX-License-Identifier: Apache-2.0
// Two rows beside each other, tile by tile: the sums of core/divergence.h in float64, lane by lane.
#pragma once

#include "core/divergence.h"
#include "cpu/collect-inl.h"
#include "cpu/cut-inl.h"
#include "cpu/write-inl.h"

namespace tokendraw::cpu {
namespace {

inline constexpr int kDoubles = sizeof(Doubles) / sizeof(double);
inline constexpr int kDoubleRegisters = kLanes / kDoubles;

/// One sum per lane.
struct LaneTotals {
  Doubles v[kDoubleRegisters] = {};
};

TOKENDRAW_INLINE double sum_of_totals(const LaneTotals& totals) {
  double lanes[kLanes];
  __builtin_memcpy(lanes, totals.v, sizeof lanes);
  return sum_of_doubles(lanes);
}

/// The scores and weights of a tile, -inf and 0 past its end.
struct WeighedTile {
  alignas(64) float scores[kTile];
  alignas(64) float weights[kTile];
};

TOKENDRAW_INLINE void weigh_tile(const ComparedRow& row, std::int64_t tile, const Scale& scale, WeighedTile& weighed) {
  const float max = row.summaries[tile].max;
  tile_scores(row.view, tile, weighed.scores);
  if (max < -FLT_MAX) {
    for (float& weight : weighed.weights) weight = 0.0f;
  } else {
    weights(weighed.scores, kTile, weight_constants(reference_of(max, scale), scale), weighed.weights);
  }
}

/// What the terms of some tokens are made of.
struct Compared {
  Doubles p;
  Doubles q;
  Doubles e;         // ln(p/q) - shift
  Doubles excluded;  // 1 where q is 0 and p is not
};

/// visit(register_of_lanes, Compared) for all tokens of both tiles, line after line.
template <class Visit>
TOKENDRAW_INLINE void compare_tiles(const WeighedTile& one, double factor, const WeighedTile& two, double other_factor,
                                    const Comparison& comparison, Visit visit) {
  constexpr double kLowest = -static_cast<double>(FLT_MAX);
  const Doubles none = {};
  for (int line = 0; line < kLinesPerTile; ++line) {
    for (int r = 0; r < kDoubleRegisters; ++r) {
      const int place = line * kLanes + r * kDoubles;
      const Doubles score = load_doubles(one.scores + place);
      const Doubles other_score = load_doubles(two.scores + place);
      const Doubles above = (score < kLowest ? none + kLowest : score) - comparison.origin;
      const Doubles other_above = (other_score < kLowest ? none + kLowest : other_score) - comparison.other_origin;
      const auto excluded = (score >= kLowest) & (other_score < kLowest);
      visit(r, Compared{load_doubles(one.weights + place) * factor, load_doubles(two.weights + place) * other_factor,
                        (above - other_above) * comparison.slope - comparison.shift, excluded ? none + 1.0 : none});
    }
  }
}

/// visit(tile, other_tile, factors...) for every tile of two rows.
template <class Visit>
TOKENDRAW_INLINE void for_each_pair(const ComparedRow& row, const ComparedRow& other, const Scale& scale, Visit visit) {
  WeighedTile one;
  WeighedTile two;
  for (std::int64_t tile = 0; tile < count_tiles(row.view.vocab); ++tile) {
    weigh_tile(row, tile, scale, one);
    weigh_tile(other, tile, scale, two);
    visit(one, row.factors[tile], two, other.factors[tile]);
  }
}

// rows [vocab] -> sums
static KlSums kl_sums(const ComparedRow& row, const ComparedRow& other, const Scale& scale,
                      const Comparison& comparison) {
  KlSums total{0.0, 0.0, false};
  const auto add = [&](const WeighedTile& one, double factor, const WeighedTile& two, double other_factor) {
    LaneTotals first;
    LaneTotals second;
    LaneTotals excluded;
    compare_tiles(one, factor, two, other_factor, comparison, [&](int r, const Compared& tokens) TOKENDRAW_INLINED {
      const KlTerms<Doubles> terms = kl_terms(tokens.p, tokens.q, tokens.e);
      first.v[r] += terms.first;
      second.v[r] += terms.second;
      excluded.v[r] += tokens.excluded;
    });
    total.first += sum_of_totals(first);
    total.second += sum_of_totals(second);
    total.infinite |= sum_of_totals(excluded) > 0.0;
  };
  for_each_pair(row, other, scale, add);
  return total;
}

// rows [vocab] -> sum
static double js_sum(const ComparedRow& row, const ComparedRow& other, const Scale& scale,
                     const Comparison& comparison) {
  double total = 0.0;
  const auto add = [&](const WeighedTile& one, double factor, const WeighedTile& two, double other_factor) {
    LaneTotals sums;
    compare_tiles(one, factor, two, other_factor, comparison, [&](int r, const Compared& tokens) TOKENDRAW_INLINED {
      sums.v[r] += js_term(tokens.p, tokens.q, tokens.e);
    });
    total += sum_of_totals(sums);
  };
  for_each_pair(row, other, scale, add);
  return total;
}

}  // namespace
}  // namespace tokendraw::cpu
