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
  row.kernels.tile_scores(row.view, tile, row.work.tile);
  return draw_in_tile(row, tile, cutoff, levels);
}

/// Tokens of one tile, as a range of a list.
struct Run {
  const Candidate* begin;
  const Candidate* end;
  std::int64_t tile() const { return begin->token / kTile; }
};

Run run_from(const Candidate* begin, const Candidate* end) {
  const std::int64_t tile = begin->token / kTile;
  return {begin, std::find_if(begin, end, [&](Candidate c) { return c.token / kTile != tile; })};
}

/// The tile's sum with the additions of the kernels (scan-inl.h), skipping the zeros: the same bits.
double sum_of_run(const Row& row, Run run) {
  const WeightConstants constants = row.constants_of(run.tile());
  float weight = 0.0f;
  if (run.end - run.begin == 1) {
    row.kernels.weights(&run.begin->score, 1, constants, &weight);
    return static_cast<double>(weight);
  }
  float total[kLanes] = {};
  float group[kLanes] = {};
  constexpr int kTokensPerGroup = kLanes * kLinesPerGroup;
  const auto close_group = [&] {
    for (int lane = 0; lane < kLanes; ++lane) total[lane] += group[lane];
    std::fill(group, group + kLanes, 0.0f);
  };
  std::int32_t current = run.begin->token / kTokensPerGroup;
  for (const Candidate* c = run.begin; c != run.end; ++c) {
    if (c->token / kTokensPerGroup != current) close_group();
    current = c->token / kTokensPerGroup;
    row.kernels.weights(&c->score, 1, constants, &weight);
    group[c->token % kLanes] += weight;
  }
  close_group();
  double sums[kLanes];
  std::copy(total, total + kLanes, sums);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

Candidate draw_listed(Row& row, const Levels& levels) {
  Buffer<Candidate>& listed = row.work.listed;
  if (listed.size() == 1) return listed.front();
  Buffer<Candidate>& by_token = row.work.by_token;
  by_token.resize(listed.size());
  std::copy(listed.begin(), listed.end(), by_token.begin());
  std::sort(by_token.begin(), by_token.end(), [](Candidate a, Candidate b) { return a.token < b.token; });
  const Candidate* end = by_token.end();

  Buffer<double>& sums = row.work.sums;
  int runs = 0;
  sums.resize(std::max(sums.size(), by_token.size()));
  if (row.tiles() > 1) {
    for (const Candidate* at = by_token.data(); at != end;) {
      const Run run = run_from(at, end);
      sums[runs++] = sum_of_run(row, run) * row.factor_of(run.tile());
      at = run.end;
    }
  }
  int chosen = runs > 1 ? pick(sums.data(), runs, levels.tile()) : 0;
  Run run = run_from(by_token.data(), end);
  for (; chosen > 0; --chosen) run = run_from(run.end, end);

  std::fill(row.work.tile, row.work.tile + kTile, -HUGE_VALF);
  for (const Candidate* c = run.begin; c != run.end; ++c) row.work.tile[c->token % kTile] = c->score;
  return draw_in_tile(row, run.tile(), kKeepFinite, levels);
}

}  // namespace

Candidate draw_token(Kept& kept, const RandomSource& source) {
  Row& row = kept.row();
  const Levels first(source, 0);
  if (kept.listed()) return draw_listed(row, first);
  if (!kept.has_top_p()) {
    row.mass(kept.cutoff());
    return draw_within(row, kept.cutoff(), first);
  }
  kept.weigh_before_top_p();
  const Candidate token = draw_within(row, kept.before_top_p(), first);
  if (kept.contains(token)) return token;
  row.mass(kept.cutoff());
  return draw_within(row, kept.cutoff(), Levels(source, 1));
}

}  // namespace tokendraw::cpu
