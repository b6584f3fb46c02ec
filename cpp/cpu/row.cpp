// SPDX-License-Identifier: Apache-2.0
#include "cpu/row.h"

#include <algorithm>
#include <cmath>

namespace tokendraw::cpu {
namespace {

constexpr double kLn2 = 0x1.62e42fefa39efp-1;

/// Which of the two a row that is not finite holds; NaN where both.
RowStatus fault_of(const Kernels& kernels, const RowView& view, float* scores) {
  const RowView raw = view.without_edits();
  for (std::int64_t tile = 0; tile < count_tiles(raw.vocab); ++tile) {
    kernels.tile_scores(raw, tile, scores);
    if (std::any_of(scores, scores + kTile, [](float score) { return std::isnan(score); })) return RowStatus::kNan;
  }
  return RowStatus::kInfinite;
}

}  // namespace

RowStatus Row::scan(Scan what) {
  work.summaries.resize(tiles());
  work.sums.resize(tiles());
  float* groups = nullptr;
  if (what == Scan::kGroupMaxima || what == Scan::kSumsAndGroupMaxima) {
    work.group_max.resize(tiles() * kGroupsPerTile);
    groups = work.group_max.data();
  }
  has_sums_ = what == Scan::kSums || what == Scan::kSumsAndGroupMaxima;
  const bool finite = has_sums_ ? kernels.scan_sums(view, scale, work.summaries.data(), groups)
                                : kernels.scan_max(view, work.summaries.data(), groups);
  if (!finite) return fault_of(kernels, view, work.tile);
  max_ = work.summaries[0].max;
  for (const TileSummary& summary : work.summaries) max_ = larger(summary.max, max_);
  if (max_ < -FLT_MAX) return RowStatus::kNothingLeft;
  reference_ = reference_of(max_, scale);
  return RowStatus::kValid;
}

Candidate Row::first() const {
  std::int64_t tile = 0;
  while (work.summaries[tile].max != max_) ++tile;
  kernels.tile_scores(view, tile, work.tile);
  std::int64_t token = 0;
  while (work.tile[token] != max_) ++token;
  return {max_, static_cast<std::int32_t>(tile * kTile + token)};
}

double Row::factor_of(std::int64_t tile) const {
  const TileReference reference = reference_of(work.summaries[tile].max, scale);
  return exp2_double(exponent_between(reference, reference_, scale));
}

double Row::mass(Cutoff cutoff) {
  const bool whole = has_sums_ && cutoff.score == kKeepFinite.score && cutoff.token == kKeepFinite.token;
  if (!whole) kernels.cut_sums(view, scale, work.summaries.data(), cutoff, work.sums.data());
  double total = 0.0;
  for (std::int64_t tile = 0; tile < tiles(); ++tile) {
    const double sum = whole ? work.summaries[tile].sum : work.sums[tile];
    work.sums[tile] = sum > 0.0 ? sum * factor_of(tile) : 0.0;
    total += work.sums[tile];
  }
  return total;
}

const Buffer<float>& Row::weigh(const Buffer<Candidate>& candidates) {
  work.scores.resize(candidates.size());
  work.weights.resize(candidates.size());
  std::transform(candidates.begin(), candidates.end(), work.scores.begin(), [](Candidate c) { return c.score; });
  kernels.weights(work.scores.data(), candidates.size(), weight_constants(reference_, scale), work.weights.data());
  return work.weights;
}

double Row::log_slope() const { return static_cast<double>(scale.prescale) * scale.exact * kLn2; }

double Row::log_offset(double mass) const { return static_cast<double>(reference_.exponent) * kLn2 + log_double(mass); }

}  // namespace tokendraw::cpu
