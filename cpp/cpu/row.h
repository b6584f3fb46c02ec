// SPDX-License-Identifier: Apache-2.0
// One row after the first look at it: its summaries, its largest score, and masses measured in units of that score.
#pragma once

#include <cstdint>

#include "cpu/runs.h"
#include "cpu/workspace.h"
#include "plan/request.h"

namespace tokendraw::cpu {

enum class Scan : std::uint8_t { kMaxima, kGroupMaxima, kSums, kSumsAndGroupMaxima };

class Row {
 public:
  Row(const Kernels& kernels, const RowView& view, Workspace& work) : kernels(kernels), work(work), view_(view) {}

  /// A look at the whole row. Everything below needs one that returned kValid.
  RowStatus scan(Scan what);

  /// As scan(kMaxima); lists at least the tokens within `distance` of the largest score by ascending token, if `found`
  /// holds them; else leaves it empty.
  RowStatus scan_near_max(double distance, Buffer<Candidate>& found);

  /// What weights mean from here on; 1 at first. T > 0.
  void set_temperature(double temperature);

  /// Removes tokens for good; something must be left. Costs a scan.
  void remove(const Removal& removal);

  const RowView& view() const { return view_; }
  std::int64_t tiles() const { return count_tiles(view_.vocab); }
  double temperature() const { return temperature_; }
  float max() const { return max_; }
  bool has_group_maxima() const { return has_group_maxima_; }
  Candidate first() const;

  /// The last token of the order that the cutoff keeps.
  Candidate last(Cutoff cutoff);

  /// What the kept tokens weigh together, a few by listing them, more by reading their tiles; leaves their sums per
  /// tile in work.sums, in the same units.
  double mass(Cutoff cutoff);

  /// What all finite tokens weigh, those that were removed included.
  double mass_of_all();

  /// Entropy of the kept tokens in nats; `mass` is theirs.
  double entropy(Cutoff cutoff, double mass);

  /// The weight of each candidate, in the same units; held by work.weights.
  const Buffer<float>& weigh(const Buffer<Candidate>& candidates);

  /// What the tokens of a run weigh together, as `mass` would say of their tile; `list` was the last to be weighed.
  double sum_of(const Buffer<Candidate>& list, Run run);

  WeightConstants constants_of(std::int64_t tile) const {
    return weight_constants(reference_of(work.summaries[tile].max, scale_), scale_);
  }

  /// The units of a tile's weights in units of the row: a factor.
  double factor_of(std::int64_t tile) const;

  /// ln(weight of score / mass) = (score - log_origin()) * log_slope() - log_offset(mass).
  double log_origin() const { return static_cast<double>(reference_.base); }
  double log_slope() const { return tokendraw::log_slope(scale_); }
  double log_offset(double mass) const { return tokendraw::log_offset(reference_, mass); }
  double logprob(double score, double mass) const { return (score - log_origin()) * log_slope() - log_offset(mass); }

  /// The score whose log-probability is `logprob`.
  double score_of(double logprob, double mass) const {
    return (logprob + log_offset(mass)) / log_slope() + log_origin();
  }

  std::int64_t count(Cutoff cutoff) const;

  void write_probs(Cutoff cutoff, double mass, float* out);

  /// work.sums[tile] = what makes of a tile's weights `whole` times their probabilities.
  void find_factors(double whole, double mass);

  /// out[i] = whole * prob - shift; `out` may be the row itself.
  void write_gradient(double whole, double mass, float shift, const GradientRow& out);

  const Scale& scale() const { return scale_; }

  const Kernels& kernels;
  Workspace& work;

 private:
  /// visit(TileSpan) for the tiles of the row in as many spans as it has threads. Every tile is its own: which span it
  /// is in changes nothing.
  template <class Visit>
  void for_each_span(Visit visit) const;

  bool sum_few(Cutoff cutoff);
  RowStatus finish_scan(bool finite);

  RowView view_;
  double temperature_ = 1.0;
  Scale scale_ = make_scale(1.0);
  float max_ = 0.0f;
  TileReference reference_{};
  bool has_sums_ = false;
  bool has_group_maxima_ = false;
};

}  // namespace tokendraw::cpu
