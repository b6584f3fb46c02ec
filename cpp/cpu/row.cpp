// SPDX-License-Identifier: Apache-2.0
#include "cpu/row.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <utility>

#include "cpu/threads.h"

namespace tokendraw::cpu {
namespace {

/// Fewer are not worth another thread: 64 tiles take about 10 microseconds.
constexpr std::int64_t kTilesPerSpan = 64;

/// Tokens that are listed rather than looked up in their tiles.
constexpr std::int64_t kFew = 1024;

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

template <class Visit>
void Row::for_each_span(Visit visit) const {
  const std::int64_t spans = std::min<std::int64_t>(work.threads, tiles() / kTilesPerSpan);
  if (spans <= 1) return visit(TileSpan{0, tiles()});
  parallel_for(spans, work.threads,
               [&](int, std::int64_t span) { visit(TileSpan{tiles() * span / spans, tiles() * (span + 1) / spans}); });
}

std::int64_t Row::count(Cutoff cutoff) const {
  std::atomic<std::int64_t> count{0};
  for_each_span([&](TileSpan span) { count += kernels.count_kept(view_, span, work.summaries.data(), cutoff); });
  return count;
}

RowStatus Row::scan(Scan what) {
  work.summaries.resize(tiles());
  work.sums.resize(tiles());
  float* groups = nullptr;
  if (what == Scan::kGroupMaxima || what == Scan::kSumsAndGroupMaxima) {
    work.group_max.resize(tiles() * kGroupsPerTile);
    groups = work.group_max.data();
  }
  has_group_maxima_ = groups != nullptr;
  has_sums_ = what == Scan::kSums || what == Scan::kSumsAndGroupMaxima;
  std::atomic<bool> finite{true};
  for_each_span([&](TileSpan span) {
    const bool valid = has_sums_ ? kernels.scan_sums(view_, scale_, span, work.summaries.data(), groups)
                                 : kernels.scan_max(view_, span, work.summaries.data(), groups);
    if (!valid) finite = false;
  });
  return finish_scan(finite);
}

RowStatus Row::scan_near_max(double distance, Buffer<Candidate>& found) {
  work.summaries.resize(tiles());
  work.sums.resize(tiles());
  has_group_maxima_ = false;
  has_sums_ = false;
  found.resize(2 * kTile);
  std::int64_t count = 0;
  const float bound = std::nextafter(static_cast<float>(distance), HUGE_VALF);
  const bool finite = kernels.scan_near_max(view_, bound, work.summaries.data(), found.data(), found.size(), &count);
  found.resize(std::max<std::int64_t>(count, 0));
  return finish_scan(finite);
}

RowStatus Row::finish_scan(bool finite) {
  if (!finite) return fault_of(kernels, view_, work.tile);
  max_ = work.summaries[0].max;
  for (const TileSummary& summary : work.summaries) max_ = larger(summary.max, max_);
  if (max_ < -FLT_MAX) return RowStatus::kNothingLeft;
  reference_ = reference_of(max_, scale_);
  return RowStatus::kValid;
}

void Row::set_temperature(double temperature) {
  temperature_ = temperature;
  scale_ = make_scale(temperature);
  reference_ = reference_of(max_, scale_);
  has_sums_ = false;
}

void Row::remove(const Removal& removal) {
  view_.removal = removal;
  scan(Scan::kMaxima);
}

Candidate Row::first() const {
  std::int64_t tile = 0;
  while (work.summaries[tile].max != max_) ++tile;
  kernels.tile_scores(view_, tile, work.tile);
  std::int64_t token = 0;
  while (work.tile[token] != max_) ++token;
  return {max_, static_cast<std::int32_t>(tile * kTile + token)};
}

Candidate Row::last(Cutoff cutoff) {
  Buffer<Candidate>& found = work.candidates;
  found.resize(2 * kTile);
  Candidate last = first();
  for (std::int64_t tile = 0; tile < tiles();) {
    const std::int64_t read =
        kernels.collect(view_, work.summaries.data(), cutoff.score, FLT_MAX, &tile, found.data(), found.size());
    for (std::int64_t i = 0; i < read; ++i) {
      if (keeps(cutoff, found[i].score, found[i].token) && before(last, found[i])) last = found[i];
    }
  }
  return last;
}

double Row::factor_of(std::int64_t tile) const {
  const TileReference reference = reference_of(work.summaries[tile].max, scale_);
  return exp2_double(exponent_between(reference, reference_, scale_));
}

double Row::sum_of(const Buffer<Candidate>& list, Run run) {
  // Units of the tile and of the row differ by a power of two where both are plain: then so do the sums.
  if (weight_constants(reference_, scale_).plain) return sum_of_run(list, work.weights, run);
  const std::int64_t tile = list[run.begin].token / kTile;
  kernels.weights(work.scores.data() + run.begin, run.end - run.begin, constants_of(tile),
                  work.weights.data() + run.begin);
  return sum_of_run(list, work.weights, run) * factor_of(tile);
}

/// False where the cutoff keeps more than a few tokens.
bool Row::sum_few(Cutoff cutoff) {
  Buffer<Candidate>& few = work.few;
  few.resize(kFew + kTile);
  std::int64_t tile = 0;
  const std::int64_t read =
      kernels.collect(view_, work.summaries.data(), cutoff.score, FLT_MAX, &tile, few.data(), few.size());
  if (tile < tiles()) return false;
  Candidate* end =
      std::remove_if(few.begin(), few.begin() + read, [&](Candidate c) { return !keeps(cutoff, c.score, c.token); });
  few.resize(end - few.begin());
  weigh(few);
  std::fill(work.sums.begin(), work.sums.begin() + tiles(), 0.0);
  for (std::int64_t slot = 0; slot < few.size();) {
    const Run run = run_from(few, slot);
    work.sums[few[slot].token / kTile] = sum_of(few, run);
    slot = run.end;
  }
  return true;
}

double Row::mass(Cutoff cutoff) {
  const bool whole = has_sums_ && keeps_all_finite(cutoff);
  if (!whole && cutoff.score > -FLT_MAX && sum_few(cutoff)) {
    return std::accumulate(work.sums.begin(), work.sums.begin() + tiles(), 0.0);
  }
  if (!whole) {
    for_each_span(
        [&](TileSpan span) { kernels.cut_sums(view_, scale_, span, work.summaries.data(), cutoff, work.sums.data()); });
  }
  double total = 0.0;
  for (std::int64_t tile = 0; tile < tiles(); ++tile) {
    const double sum = whole ? work.summaries[tile].sum : work.sums[tile];
    work.sums[tile] = sum > 0.0 ? sum * factor_of(tile) : 0.0;
    total += work.sums[tile];
  }
  return total;
}

double Row::mass_of_all() {
  if (!view_.removal.any) return mass(kKeepFinite);
  RowView everything = view_;
  everything.removal = {};
  std::swap(work.summaries, work.raw_summaries);
  Row all(kernels, everything, work);
  all.set_temperature(temperature_);
  all.scan(Scan::kSums);
  // Past 2^1000 whatever is left is nothing beside what was removed.
  const double exponent = std::min(exponent_between(all.reference_, reference_, scale_), 1000.0);
  const double mass = all.mass(kKeepFinite) * exp2_double(exponent);
  std::swap(work.summaries, work.raw_summaries);
  return mass;
}

double Row::entropy(Cutoff cutoff, double mass) {
  // Distances are taken from the largest score, where the weight is: rounding then stays that of small numbers.
  const double origin = static_cast<double>(max_);
  kernels.cut_score_sums(view_, scale_, work.summaries.data(), cutoff, origin, work.sums.data());
  double moment = 0.0;
  for (std::int64_t tile = 0; tile < tiles(); ++tile) {
    if (work.sums[tile] < 0.0) moment += work.sums[tile] * factor_of(tile);
  }
  return std::max(-logprob(max_, mass) - log_slope() * moment / mass, 0.0);
}

const Buffer<float>& Row::weigh(const Buffer<Candidate>& candidates) {
  work.scores.resize(candidates.size());
  work.weights.resize(candidates.size());
  std::transform(candidates.begin(), candidates.end(), work.scores.begin(), [](Candidate c) { return c.score; });
  kernels.weights(work.scores.data(), candidates.size(), weight_constants(reference_, scale_), work.weights.data());
  return work.weights;
}

void Row::find_factors(double whole, double mass) {
  for (std::int64_t tile = 0; tile < tiles(); ++tile) {
    const bool empty = work.summaries[tile].max < -FLT_MAX;
    work.sums[tile] = empty ? 0.0 : factor_of(tile) / mass * whole;
  }
}

void Row::write_probs(Cutoff cutoff, double mass, float* out) {
  find_factors(1.0, mass);
  kernels.write_probs(view_, scale_, work.summaries.data(), cutoff, work.sums.data(), out);
}

void Row::write_gradient(double whole, double mass, float shift, const GradientRow& out) {
  find_factors(whole, mass);
  for_each_span([&](TileSpan span) {
    kernels.write_gradient(view_, scale_, span, work.summaries.data(), work.sums.data(), shift, out);
  });
}

}  // namespace tokendraw::cpu
