// SPDX-License-Identifier: Apache-2.0
#include "cpu/draw.h"

#include <algorithm>
#include <cmath>

#include "cpu/runs.h"

namespace tokendraw::cpu {
namespace {

/// The three blocks of one draw.
class Levels {
 public:
  Levels(const RandomSource& source, Purpose purpose, std::uint32_t round)
      : source_(source), purpose_(purpose), first_block_(3 * round) {}
  Uint128 tile() const { return block(0); }
  Uint128 lane() const { return block(1); }
  Uint128 token() const { return block(2); }

 private:
  Uint128 block(std::uint32_t level) const { return uniform_bits(source_, purpose_, first_block_ + level); }

  const RandomSource& source_;
  Purpose purpose_;
  std::uint32_t first_block_;
};

/// work.tile holds the scores of `tile`.
Candidate draw_in_tile(Row& row, std::int64_t tile, Cutoff cutoff, const Levels& levels) {
  const WeightConstants constants = row.constants_of(tile);
  const Cutoff inside{cutoff.score, cutoff.token - tile * kTile};
  float lanes[kLanes];
  const auto count = static_cast<int>(std::min<std::int64_t>(row.view().vocab - tile * kTile, kTile));
  row.kernels.lane_sums(row.work.tile, count, constants, inside, lanes);
  double weights[kLanes];
  std::copy(lanes, lanes + kLanes, weights);
  const int lane = pick(weights, kLanes, levels.lane());

  const int lines = (count + kLanes - 1) / kLanes;
  if (lines == 1) return {row.work.tile[lane], static_cast<std::int32_t>(tile * kTile + lane)};
  float scores[kLinesPerTile];
  for (int line = 0; line < lines; ++line) scores[line] = row.work.tile[line * kLanes + lane];
  float of_lane[kLinesPerTile];
  row.kernels.weights(scores, lines, constants, of_lane);
  for (int line = 0; line < lines; ++line) {
    weights[line] = keeps(inside, scores[line], line * kLanes + lane) ? static_cast<double>(of_lane[line]) : 0.0;
  }
  const int line = pick(weights, lines, levels.token());
  return {scores[line], static_cast<std::int32_t>(tile * kTile + line * kLanes + lane)};
}
static_assert(kLanes == kLinesPerTile, "one buffer serves both levels");

Candidate draw_within(Row& row, Cutoff cutoff, const Levels& levels) {
  std::int64_t tile = 0;
  if (row.tiles() > 1) tile = pick(row.work.sums.data(), static_cast<int>(row.tiles()), levels.tile());
  row.kernels.tile_scores(row.view(), tile, row.work.tile);
  return draw_in_tile(row, tile, cutoff, levels);
}

/// The slots of the tile that the first level picks.
Run pick_run(Row& row, const Levels& levels) {
  const Buffer<Candidate>& listed = row.work.listed;
  const Run first = run_from(listed, 0);
  if (first.end == listed.size()) return first;
  row.weigh(listed);
  Buffer<double>& sums = row.work.sums;
  sums.resize(std::max(sums.size(), listed.size()));
  int runs = 0;
  for (Run run = first;; run = run_from(listed, run.end)) {
    sums[runs++] = row.sum_of(listed, run);
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

Candidate draw_token(Kept& kept, const RandomSource& source, Purpose purpose) {
  Row& row = kept.row();
  const Levels first(source, purpose, 0);
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
  return draw_within(row, cutoff, Levels(source, purpose, 1));
}

}  // namespace tokendraw::cpu
