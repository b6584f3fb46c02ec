// SPDX-License-Identifier: Apache-2.0
#include "cpu/draw.h"

#include <algorithm>
#include <cmath>

namespace tokendraw::cpu {
namespace {

/// The three blocks of one draw.
class Levels {
 public:
  Levels(const RandomSource& source, std::uint32_t round) : source_(source), first_block_(3 * round) {}
  Uint128 tile() const { return block(0); }
  Uint128 lane() const { return block(1); }
  Uint128 token() const { return block(2); }

 private:
  Uint128 block(std::uint32_t level) const { return uniform_bits(source_, Purpose::kDraw, first_block_ + level); }

  const RandomSource& source_;
  std::uint32_t first_block_;
};

/// work.tile holds the scores of `tile`.
Candidate draw_in_tile(Row& row, std::int64_t tile, Cutoff cutoff, const Levels& levels) {
  const WeightConstants constants = row.constants_of(tile);
  const Cutoff inside{cutoff.score, cutoff.token - tile * kTile};
  float lanes[kLanes];
  row.kernels.lane_sums(row.work.tile, constants, inside, lanes);
  double weights[kLanes];
  std::copy(lanes, lanes + kLanes, weights);
  const int lane = pick(weights, kLanes, levels.lane());

  float scores[kLinesPerTile];
  for (int line = 0; line < kLinesPerTile; ++line) scores[line] = row.work.tile[line * kLanes + lane];
  float of_lane[kLinesPerTile];
  row.kernels.weights(scores, kLinesPerTile, constants, of_lane);
  for (int line = 0; line < kLinesPerTile; ++line) {
    weights[line] = keeps(inside, scores[line], line * kLanes + lane) ? static_cast<double>(of_lane[line]) : 0.0;
  }
  const int line = pick(weights, kLinesPerTile, levels.token());
  return {scores[line], static_cast<std::int32_t>(tile * kTile + line * kLanes + lane)};
}
static_assert(kLanes == kLinesPerTile, "one buffer serves both levels");

Candidate draw_within(Row& row, Cutoff cutoff, const Levels& levels) {
  std::int64_t tile = 0;
  if (row.tiles() > 1) tile = pick(row.work.sums.data(), static_cast<int>(row.tiles()), levels.tile());
  row.kernels.tile_scores(row.view(), tile, row.work.tile);
  return draw_in_tile(row, tile, cutoff, levels);
}

/// The listed tokens of one tile, as a range of slots.
struct Run {
  std::int64_t begin;
  std::int64_t end;
};

Run run_from(const Buffer<Candidate>& listed, std::int64_t begin) {
  const std::int32_t tile = listed[begin].token / kTile;
  std::int64_t end = begin + 1;
  while (end < listed.size() && listed[end].token / kTile == tile) ++end;
  return {begin, end};
}

/// The tile's sum with the additions of the kernels (scan-inl.h), without the zeros.
double sum_of_run(const Buffer<Candidate>& listed, const Buffer<float>& weights, Run run) {
  if (run.end - run.begin == 1) return static_cast<double>(weights[run.begin]);
  constexpr int kTokensPerGroup = kLanes * kLinesPerGroup;
  float total[kLanes] = {};
  float group[kLanes] = {};
  const auto close_group = [&] {
    for (int lane = 0; lane < kLanes; ++lane) {
      total[lane] += group[lane];
      group[lane] = 0.0f;
    }
  };
  std::int32_t current = listed[run.begin].token / kTokensPerGroup;
  for (std::int64_t i = run.begin; i < run.end; ++i) {
    const std::int32_t token = listed[i].token;
    if (token / kTokensPerGroup != current) close_group();
    current = token / kTokensPerGroup;
    group[token % kLanes] += weights[i];
  }
  close_group();
  double sums[kLanes];
  std::copy(total, total + kLanes, sums);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

/// The slots of the tile that the first level picks.
Run pick_run(Row& row, const Levels& levels) {
  const Buffer<Candidate>& listed = row.work.listed;
  const Run first = run_from(listed, 0);
  if (first.end == listed.size()) return first;
  const Buffer<float>& weights = row.weigh(listed);
  Buffer<double>& sums = row.work.sums;
  sums.resize(std::max(sums.size(), listed.size()));
  int runs = 0;
  for (Run run = first;; run = run_from(listed, run.end)) {
    if (!row.is_plain()) row.weigh_in_tile(listed[run.begin].token / kTile, run.begin, run.end);
    const double unit = row.is_plain() ? 1.0 : row.factor_of(listed[run.begin].token / kTile);
    sums[runs++] = sum_of_run(listed, weights, run) * unit;
    if (run.end == listed.size()) break;
  }
  Run picked = first;
  for (int skip = pick(sums.data(), runs, levels.tile()); skip > 0; --skip) picked = run_from(listed, picked.end);
  return picked;
}

Candidate draw_listed(Row& row, const Levels& levels) {
  const Buffer<Candidate>& listed = row.work.listed;
  if (listed.size() == 1) return listed[0];
  const Run run = pick_run(row, levels);
  std::fill(row.work.tile, row.work.tile + kTile, -HUGE_VALF);
  for (std::int64_t i = run.begin; i < run.end; ++i) row.work.tile[listed[i].token % kTile] = listed[i].score;
  return draw_in_tile(row, listed[run.begin].token / kTile, kKeepFinite, levels);
}

}  // namespace

Candidate draw_token(Kept& kept, const RandomSource& source) {
  Row& row = kept.row();
  const Levels first(source, 0);
  kept.list_if_short();
  if (kept.listed()) return draw_listed(row, first);
  if (!kept.top_p_waits()) {
    const Cutoff cutoff = kept.cutoff();
    row.mass(cutoff);
    return draw_within(row, cutoff, first);
  }
  kept.weigh_before_top_p();
  const Candidate token = draw_within(row, kept.before_top_p(), first);
  if (kept.contains(token)) return token;
  const Cutoff cutoff = kept.cutoff();
  row.mass(cutoff);
  return draw_within(row, cutoff, Levels(source, 1));
}

}  // namespace tokendraw::cpu
