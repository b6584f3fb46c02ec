// SPDX-License-Identifier: Apache-2.0
#include "cpu/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "core/half.h"
#include "cpu/lanes.h"

namespace tokendraw::cpu {
namespace {

/// call(elements): the row of results as what it holds.
template <class Call>
void with_elements(const GradientRow& out, Call call) {
  switch (out.dtype) {
    case Dtype::kFloat16: return call(static_cast<Float16*>(out.data));
    case Dtype::kBfloat16: return call(static_cast<Bfloat16*>(out.data));
    case Dtype::kFloat64: return call(static_cast<double*>(out.data));
    default: return call(static_cast<float*>(out.data));
  }
}

/// The target's score, or with smoothing the mean of the scores under the smoothed target: the loss is linear in it.
double target_score(Row& row, Candidate token, double smoothing) {
  const auto score = static_cast<double>(token.score);
  if (smoothing <= 0.0) return score;
  const double mean = row.kernels.sum_scores(row.view()) / static_cast<double>(row.view().vocab);
  if (mean < static_cast<double>(-FLT_MAX)) return mean;
  return (1.0 - smoothing) * score + smoothing * mean;
}

/// 1 - the token's probability, as a sum of the others': a difference would lose what little is left to learn.
/// Needs the token's tile in work.tile, and the tile sums of the row's mass.
double share_of_others(Row& row, Candidate token, double mass) {
  if (token.score < -FLT_MAX) return 1.0;
  const std::int64_t tile = token.token / kTile;
  row.work.tile[token.token % kTile] = -HUGE_VALF;
  float lanes[kLanes];
  row.kernels.lane_sums(row.work.tile, kTile, row.constants_of(tile), kKeepFinite, lanes);
  double others = sum_of_lanes(lanes) * row.factor_of(tile);
  for (std::int64_t i = 0; i < row.tiles(); ++i) others += i == tile ? 0.0 : row.work.sums[i];
  return others / mass;
}

/// d loss / d logit = scale / T * (prob - target), where the target has 1 - smoothing and all share the smoothing.
void write_gradient(Row& row, Candidate token, double mass, const Target& target, const GradientRow& out) {
  const double whole = target.gradient_scale / row.temperature();
  const double share = target.label_smoothing / static_cast<double>(row.view().vocab);
  const double own = whole * (target.label_smoothing - share - share_of_others(row, token, mass));
  row.write_gradient(whole, mass, static_cast<float>(share * whole), out);
  with_elements(out, [&](auto* elements) { narrow(static_cast<float>(own), elements + token.token); });
}

}  // namespace

RowStatus find_loss(Row& row, const Target& target, const GradientRow& gradient, double* loss) {
  const RowStatus status = row.scan(Scan::kSums);
  if (status != RowStatus::kValid) {
    *loss = std::nan("");
    if (gradient.data) fill_row(gradient, row.view().vocab, std::nanf(""));
    return status;
  }
  const double mass = row.mass(kKeepFinite);
  row.kernels.tile_scores(row.view(), target.token / kTile, row.work.tile);
  const Candidate token{row.work.tile[target.token % kTile], target.token};
  *loss = std::max(-row.logprob(target_score(row, token, target.label_smoothing), mass), 0.0);
  if (gradient.data) write_gradient(row, token, mass, target, gradient);
  return status;
}

void fill_row(const GradientRow& out, std::int64_t vocab, float value) {
  with_elements(out, [&](auto* elements) {
    narrow(value, elements);
    std::fill_n(elements, vocab, *elements);
  });
}

}  // namespace tokendraw::cpu
